import { err, ok, type Result } from '../core/index.ts';
import type { EscapeCharacter } from './ast.ts';
import { type PatternElement, parsePattern, removePrefix, removeSuffix, replaceMatches } from './pattern.ts';
import { BYTE_ORDER_MARK, isSpace } from './whitespace.ts';

export interface ExpandOptions {
  /** The Dockerfile's escape character. */
  readonly escape: EscapeCharacter;
  /** The value of a variable; undefined where it is not set. */
  readonly lookup: (name: string) => string | undefined;
}

/** What is wrong with a word, and where: UTF-16 units from its start. */
export interface ExpandError {
  readonly message: string;
  readonly offset: number;
}

/** One of the words that a text was split into, and the stretch of the text that it came from. */
export interface SplitWord {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/**
 * Expands variables and takes quotes and escapes away, as BuildKit's `ProcessWord` does (frontend/dockerfile/shell): `$v`,
 * `${v}`, `${v:-w}`, `${v-w}`, `${v:+w}`, `${v+w}`, `${v:?m}`, `${v?m}`, `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`,
 * `${v/p/r}`, `${v//p/r}`; `w`, `m`, `p` and `r` are expanded themselves.
 *
 * @returns the text and every name that was looked up (also those that are not set), or the first error.
 */
export function expandWord(
  text: string,
  options: ExpandOptions,
): Result<{ readonly text: string; readonly used: ReadonlySet<string> }, ExpandError> {
  const expanded = expandText(text, { ...options, ...COOKED });
  return expanded.ok ? ok({ text: expanded.value.text, used: expanded.value.used }) : expanded;
}

/**
 * As {@link expandWord}, then split at blanks, as BuildKit's `ProcessWords`: blanks in quotes or after the escape
 * character do not split, blanks out of a variable do. Words that came out empty are left out.
 */
export function expandWords(
  text: string,
  options: ExpandOptions,
): Result<{ readonly words: readonly string[]; readonly used: ReadonlySet<string> }, ExpandError> {
  const expanded = expandText(text, { ...options, ...COOKED });
  if (!expanded.ok) return expanded;
  return ok({ words: expanded.value.words.map((word) => word.text), used: expanded.value.used });
}

/**
 * Expands the body of a heredoc that COPY or ADD make a file of, as BuildKit does: quotes are characters like others, a
 * backslash escapes, whatever the `escape` directive says (`\$` is a dollar, `\\` a backslash).
 */
export function expandBody(text: string, options: ExpandOptions): Result<string, ExpandError> {
  const expanded = expandText(text, { ...options, ...COOKED, escape: '\\', quotes: 'plain' });
  return expanded.ok ? ok(expanded.value.text) : expanded;
}

interface LexOptions extends ExpandOptions {
  /** Quotes quote and are taken away; or they quote and stay; or they are characters like others. */
  readonly quotes: 'remove' | 'keep' | 'plain';
  /** Keeps escape characters in the result. */
  readonly rawEscapes: boolean;
  /** Leaves `$name` and `${name}` as they are where the variable is not set. */
  readonly keepUnset: boolean;
}

const COOKED = { quotes: 'remove', rawEscapes: false, keepUnset: false } as const;

interface Expanded {
  readonly text: string;
  readonly words: readonly SplitWord[];
  readonly used: ReadonlySet<string>;
}

/** BuildKit's shell lexer with all of its options; the others stand on this one. It passes over a byte order mark at the start. */
export function expandText(text: string, options: LexOptions): Result<Expanded, ExpandError> {
  const lexer = new ShellLexer(text.toWellFormed(), options);
  try {
    const { text: result, words } = lexer.readUntil(undefined, options.rawEscapes);
    return ok({ text: result, words, used: lexer.used });
  } catch (error) {
    if (error instanceof WordError) return err({ message: error.message, offset: error.offset });
    throw error;
  }
}

/** Leaves the nested readers; never leaves this file. */
class WordError extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

/** The text ended while a closing character was awaited. */
class EndOfText extends WordError {}

/** Nesting of `${a:-${b:-…}}` that no person writes and that would exhaust the stack. */
const MAX_NESTING = 200;
const LETTER_OR_DIGIT = /[\p{L}\p{Nd}_]/u;
const DIGIT = /\p{Nd}/u;
const SPECIAL_PARAMETERS = '@*#?-$!0';

class ShellLexer {
  readonly used = new Set<string>();
  readonly #text: string;
  readonly #options: LexOptions;
  #rawEscapes: boolean;
  #at = 0;
  #depth = 0;

  constructor(text: string, options: LexOptions) {
    this.#text = text;
    this.#at = text.startsWith(BYTE_ORDER_MARK) ? 1 : 0;
    this.#options = options;
    this.#rawEscapes = options.rawEscapes;
  }

  /** Reads to `stop`, which is taken too, or to the end of the text when there is none. */
  readUntil(stop: string | undefined, rawEscapes: boolean): { text: string; words: readonly SplitWord[] } {
    const outer = this.#rawEscapes;
    const opened = this.#at;
    this.#rawEscapes = rawEscapes;
    this.#depth += 1;
    if (this.#depth > MAX_NESTING) throw new WordError('substitutions are nested too deeply', opened);
    const words = new WordSplitter();
    const parts: string[] = [];
    for (let next = this.#peek(); ; next = this.#peek()) {
      if (next === undefined || next === stop) break;
      const start = this.#at;
      const { text, raw } = this.#readPiece(next);
      parts.push(text);
      if (raw) words.addRaw(text, start, this.#at);
      else words.add(text, start, this.#at);
    }
    if (stop !== undefined) {
      if (this.#next() === undefined) {
        throw new EndOfText(`unexpected end of statement while looking for matching ${stop}`, opened);
      }
    }
    this.#rawEscapes = outer;
    this.#depth -= 1;
    return { text: parts.join(''), words: words.finish() };
  }

  /** One character, quotation, substitution or `<<`. Raw pieces do not split words. */
  #readPiece(next: string): { readonly text: string; readonly raw: boolean } {
    const quotes = this.#options.quotes !== 'plain';
    if (next === '$') return { text: this.#readDollar(), raw: false };
    if (next === "'" && quotes) return { text: this.#readSingleQuoted(), raw: true };
    if (next === '"' && quotes) return { text: this.#readDoubleQuoted(), raw: true };
    if (next === '<') return { text: this.#readRedirection(), raw: true };
    this.#next();
    if (next !== this.#options.escape) return { text: next, raw: false };
    const escaped = this.#next();
    return { text: (this.#rawEscapes ? next : '') + (escaped ?? ''), raw: true };
  }

  /** `<<` and the blanks, tabs and CRs after it stay in one word, so that the name of a heredoc may stand apart. */
  #readRedirection(): string {
    this.#next();
    if (this.#peek() !== '<') return '<';
    let text = `<${this.#next()}`;
    for (let next = this.#peek(); next === ' ' || next === '\t' || next === '\r'; next = this.#peek()) {
      text += next;
      this.#next();
    }
    return text;
  }

  #readSingleQuoted(): string {
    const opened = this.#at;
    const close = this.#text.indexOf("'", opened + 1);
    if (close === -1) {
      this.#at = this.#text.length;
      throw new WordError('unexpected end of statement while looking for matching single-quote', opened);
    }
    this.#at = close + 1;
    return this.#options.quotes === 'keep'
      ? this.#text.slice(opened, close + 1)
      : this.#text.slice(opened + 1, close);
  }

  #readDoubleQuoted(): string {
    const opened = this.#at;
    const quote = this.#options.quotes === 'keep' ? '"' : '';
    this.#next();
    const parts: string[] = [quote];
    for (let next = this.#peek(); next !== undefined; next = this.#peek()) {
      if (next === '"') {
        this.#next();
        parts.push(quote);
        return parts.join('');
      }
      if (next === '$') {
        parts.push(this.#readDollar());
        continue;
      }
      this.#next();
      parts.push(next === this.#options.escape ? this.#readQuotedEscape(next) : next);
    }
    throw new WordError('unexpected end of statement while looking for matching double-quote', opened);
  }

  /** In double quotes only `"`, `$` and the escape character itself can be escaped; before others it stays. */
  #readQuotedEscape(character: string): string {
    const kept = this.#rawEscapes ? character : '';
    const next = this.#peek();
    if (next === undefined) return kept;
    if (next === '"' || next === '$' || next === character) {
      this.#next();
      return kept + next;
    }
    return kept + character;
  }

  #readDollar(): string {
    const start = this.#at;
    this.#next();
    if (this.#peek() !== '{') {
      const name = this.#readName();
      if (name === '') return '$';
      const value = this.#lookup(name);
      return value === undefined && this.#options.keepUnset ? `$${name}` : (value ?? '');
    }
    this.#next();
    const first = this.#peek();
    if (first === undefined) throw new WordError("syntax error: missing '}'", start);
    if (first === '{' || first === '}' || first === ':') {
      throw new WordError('syntax error: bad substitution', start);
    }
    const name = this.#readName();
    const modifier = this.#next();
    if (modifier === '}') {
      const value = this.#lookup(name);
      return value === undefined && this.#options.keepUnset ? `\${${name}}` : (value ?? '');
    }
    if (modifier === '/') return this.#replace(name, start);
    return this.#modify(name, modifier, start);
  }

  /** `${name` was read, and the first character after it. */
  #modify(name: string, modifier: string | undefined, start: number): string {
    const emptyIsUnset = modifier === ':';
    const operator = emptyIsUnset ? this.#next() : modifier;
    const written = (emptyIsUnset ? ':' : '') + (operator ?? '');
    if (operator === undefined) throw new WordError("syntax error: missing '}'", start);
    if (!(emptyIsUnset || '+-?#%'.includes(operator))) {
      throw new WordError(`unsupported modifier (${written}) in substitution`, start);
    }
    const word = this.#readOperand('}', operator === '#' || operator === '%', start);
    const value = this.#lookup(name);
    if (this.#options.keepUnset && value === undefined) return `\${${name}${written}${word}}`;
    const missing = value === undefined || (emptyIsUnset && value === '');
    switch (operator) {
      case '-':
        return missing ? word : (value ?? '');
      case '+':
        return missing ? '' : word;
      case '?': {
        if (!missing) return value ?? '';
        const state = value === undefined ? 'unset' : 'empty';
        throw new WordError(`${name}: ${word === '' ? `is not allowed to be ${state}` : word}`, start);
      }
      case '#':
      case '%': {
        const longest = word.startsWith(operator);
        const pattern = this.#pattern(longest ? word.slice(1) : word, start);
        const remove = operator === '#' ? removePrefix : removeSuffix;
        return remove(value ?? '', pattern, longest);
      }
      default:
        throw new WordError(`unsupported modifier (${written}) in substitution`, start);
    }
  }

  /** `${name/` was read. */
  #replace(name: string, start: number): string {
    const all = this.#peek() === '/';
    if (all) this.#next();
    const pattern = this.#readOperand('/', true, start);
    const replacement = this.#readOperand('}', true, start);
    const value = this.#lookup(name);
    if (this.#options.keepUnset && value === undefined) return `\${${name}/${pattern}/${replacement}}`;
    return replaceMatches(value ?? '', this.#pattern(pattern, start), { replacement, all });
  }

  #readOperand(stop: '}' | '/', rawEscapes: boolean, start: number): string {
    try {
      return this.readUntil(stop, rawEscapes).text;
    } catch (error) {
      if (!(error instanceof EndOfText)) throw error;
      throw new EndOfText(`syntax error: missing '${stop}'${stop === '/' ? ' in ${}' : ''}`, start);
    }
  }

  #pattern(pattern: string, start: number): readonly PatternElement[] {
    const parsed = parsePattern(pattern);
    if (!parsed.ok) throw new WordError(parsed.error, start);
    return parsed.value;
  }

  /** Letters, digits and `_`; digits alone; or one special parameter (POSIX 2.5.2). */
  #readName(): string {
    const first = this.#peek();
    if (first === undefined) return '';
    if (!DIGIT.test(first) && SPECIAL_PARAMETERS.includes(first)) {
      this.#next();
      return first;
    }
    const allowed = DIGIT.test(first) ? DIGIT : LETTER_OR_DIGIT;
    const start = this.#at;
    for (
      let next: string | undefined = first;
      next !== undefined && allowed.test(next);
      next = this.#peek()
    ) {
      this.#next();
    }
    return this.#text.slice(start, this.#at);
  }

  #lookup(name: string): string | undefined {
    if (name === '') return undefined;
    this.used.add(name);
    return this.#options.lookup(name);
  }

  #peek(): string | undefined {
    const codePoint = this.#text.codePointAt(this.#at);
    return codePoint === undefined ? undefined : String.fromCodePoint(codePoint);
  }

  #next(): string | undefined {
    const character = this.#peek();
    this.#at += character?.length ?? 0;
    return character;
  }
}

/** Gathers pieces into words. */
class WordSplitter {
  readonly #words: SplitWord[] = [];
  #parts: string[] = [];
  #start = 0;
  #end = 0;
  #empty = true;

  /** Text whose blanks split. */
  add(text: string, start: number, end: number): void {
    for (const character of text) {
      if (isSpace(character)) this.#close();
      else this.addRaw(character, start, end);
    }
  }

  addRaw(text: string, start: number, end: number): void {
    if (text === '') return;
    if (this.#empty) this.#start = start;
    this.#empty = false;
    this.#parts.push(text);
    this.#end = end;
  }

  finish(): readonly SplitWord[] {
    this.#close();
    return this.#words;
  }

  #close(): void {
    if (this.#empty) return;
    this.#words.push({ text: this.#parts.join(''), start: this.#start, end: this.#end });
    this.#parts = [];
    this.#empty = true;
  }
}
