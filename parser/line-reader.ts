import type { SourceRange } from '../core/index.ts';
import type { EscapeCharacter, Word } from './ast.ts';
import { JoinedText, type SourceText } from './source-text.ts';
import { isSpace, trim } from './whitespace.ts';

/** One instruction's line with its continuations, before it is read. */
export interface LogicalLine {
  /** Continuations joined, comments and empty lines between them dropped, outer blanks trimmed. Never empty. */
  readonly joined: JoinedText;
  /** Comment lines directly above. */
  readonly comments: readonly Word[];
  /** The empty lines between continued ones, from the first to the last. */
  readonly emptyContinuationRange: SourceRange | undefined;
}

export interface HeredocBody {
  /** Before tabs were stripped; absent where there were none. */
  readonly unchomped?: string;
  /** With the last newline; line ends as written; tabs stripped where asked for; bytes that are not UTF-8 kept. */
  readonly text: string;
  /** The lines of the body, without the terminator. */
  readonly range: SourceRange;
}

interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** Walks a Dockerfile from instruction to instruction, as BuildKit's frontend/dockerfile/parser does. */
export class LineReader {
  readonly #source: SourceText;
  readonly #escape: EscapeCharacter;
  #line: number;

  /** @param firstLine the first line after the directives, from 0 */
  constructor(source: SourceText, escapeCharacter: EscapeCharacter, firstLine: number) {
    this.#source = source;
    this.#escape = escapeCharacter;
    this.#line = firstLine;
  }

  /** The next instruction; undefined at the end. An empty line or an empty comment parts comments from what follows. */
  next(): LogicalLine | undefined {
    let comments: Word[] = [];
    while (this.#line < this.#source.lineCount) {
      const content = trim(this.#source.line(this.#line));
      if (content === '' || content === '#') {
        comments = [];
        this.#line += 1;
      } else if (content.startsWith('#')) {
        comments.push(this.#comment());
        this.#line += 1;
      } else {
        const line = this.#readInstruction(comments);
        if (line !== undefined) return line;
        comments = [];
      }
    }
    return undefined;
  }

  /**
   * Takes the body of a heredoc: the lines from here to one that is `name`.
   *
   * @param within how many lines to look for the terminator
   * @returns undefined, and nothing is taken, where the terminator is missing
   */
  takeHeredoc(
    name: string,
    options: { readonly chomp: boolean; readonly within: number },
  ): HeredocBody | undefined {
    const first = this.#line;
    const last = Math.min(this.#source.lineCount, first + options.within);
    for (let index = first; index < last; index += 1) {
      const line = this.#source.line(index);
      if ((options.chomp ? withoutTabs(line) : line) !== name) continue;
      this.#line = index + 1;
      const start = this.#source.lineStart(first);
      const end = this.#source.lineStart(index);
      const written = this.#source.raw.slice(start, end);
      const text = options.chomp ? written.replace(/(^|\n)\t+/g, '$1') : written;
      const range = this.#source.range(start, end);
      return text === written ? { text, range } : { text, unchomped: written, range };
    }
    return undefined;
  }

  /** Gives up on the rest of the text. */
  skipToEnd(): void {
    this.#line = this.#source.lineCount;
  }

  /** Where the content of the last line taken ends. */
  get takenEnd(): number {
    return this.#source.lineEnd(this.#line - 1);
  }

  /** The comment on the line that is read next. */
  #comment(): Word {
    const start = this.#source.lineStart(this.#line);
    const line = this.#source.line(this.#line);
    const hash = line.indexOf('#');
    const text = trim(line.slice(hash + 1));
    const at = start + line.indexOf(text, hash + 1);
    return { text, range: this.#source.range(at, at + text.length) };
  }

  #readInstruction(comments: readonly Word[]): LogicalLine | undefined {
    const stretches: Stretch[] = [];
    let firstEmpty: number | undefined;
    let lastEmpty = 0;
    let continued = true;
    for (let first = true; continued && this.#line < this.#source.lineCount; first = false) {
      const index = this.#line;
      this.#line += 1;
      let start = this.#source.lineStart(index);
      const end = this.#source.lineEnd(index);
      const content = trim(this.#source.text.slice(start, end));
      if (!first && content.startsWith('#')) continue;
      if (!first && content === '') {
        firstEmpty ??= start;
        lastEmpty = end;
        continue;
      }
      while (first && start < end && isSpace(this.#source.text.charAt(start))) start += 1;
      const cut = this.#beforeContinuation(start, end);
      continued = cut !== undefined;
      stretches.push({ start, end: cut ?? end });
    }
    const trimmed = trimStretches(this.#source.text, stretches);
    if (trimmed.length === 0) return undefined;
    const emptyContinuationRange =
      firstEmpty === undefined ? undefined : this.#source.range(firstEmpty, lastEmpty);
    return { joined: new JoinedText(this.#source, trimmed), comments, emptyContinuationRange };
  }

  /** Where a line's text ends before the continuation character; undefined where the line is not continued. */
  #beforeContinuation(start: number, end: number): number | undefined {
    const { text } = this.#source;
    let last = end - 1;
    while (last >= start && (text[last] === ' ' || text[last] === '\t')) last -= 1;
    if (last < start || text[last] !== this.#escape) return undefined;
    return last > start && text[last - 1] === this.#escape ? undefined : last;
  }
}

function withoutTabs(line: string): string {
  return line.replace(/^\t+/, '');
}

function trimStretches(text: string, stretches: readonly Stretch[]): readonly Stretch[] {
  let from = 0;
  let to = stretches.length;
  let start = 0;
  let end = 0;
  for (; from < to; from += 1) {
    const stretch = stretches[from] ?? { start: 0, end: 0 };
    start = stretch.start;
    while (start < stretch.end && isSpace(text.charAt(start))) start += 1;
    if (start < stretch.end) break;
  }
  for (; to > from; to -= 1) {
    const stretch = stretches[to - 1] ?? { start: 0, end: 0 };
    end = stretch.end;
    while (end > stretch.start && isSpace(text.charAt(end - 1))) end -= 1;
    if (end > stretch.start) break;
  }
  return stretches.slice(from, to).map((stretch, index) => ({
    start: index === 0 ? start : stretch.start,
    end: index === to - from - 1 ? end : stretch.end,
  }));
}
