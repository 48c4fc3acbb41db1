import moo from 'moo';
import type { EscapeCharacter } from './ast.ts';
import { LIMITS } from './limits.ts';
import { BLANK_CLASS, SPACE_CLASS } from './whitespace.ts';

/** A token of one instruction. `offset` counts in the instruction's joined text. */
export interface Token {
  readonly type: string;
  /** As written. */
  readonly text: string;
  /** What it means: JSON strings decoded. */
  readonly value: string;
  readonly offset: number;
}

/** All instructions, in the order of Docker's reference. */
export const INSTRUCTIONS = [
  'ADD',
  'ARG',
  'CMD',
  'COPY',
  'ENTRYPOINT',
  'ENV',
  'EXPOSE',
  'FROM',
  'HEALTHCHECK',
  'LABEL',
  'MAINTAINER',
  'ONBUILD',
  'RUN',
  'SHELL',
  'STOPSIGNAL',
  'USER',
  'VOLUME',
  'WORKDIR',
] as const;

export type InstructionName = (typeof INSTRUCTIONS)[number];

/** How what follows the flags is cut into tokens; each is a state of the lexer. */
type Body = 'command' | 'text' | 'words' | 'list' | 'from' | 'pairs' | 'args' | 'health' | 'instruction';

const BODIES: Readonly<Record<InstructionName, Body>> = {
  ADD: 'list',
  ARG: 'args',
  CMD: 'command',
  COPY: 'list',
  ENTRYPOINT: 'command',
  ENV: 'pairs',
  EXPOSE: 'words',
  FROM: 'from',
  HEALTHCHECK: 'health',
  LABEL: 'pairs',
  MAINTAINER: 'text',
  ONBUILD: 'instruction',
  RUN: 'command',
  SHELL: 'command',
  STOPSIGNAL: 'text',
  USER: 'text',
  VOLUME: 'list',
  WORKDIR: 'text',
};

/** Where the lexer goes on when a `[` turns out not to open a JSON array. */
const NOT_JSON: Readonly<Record<string, string>> = { commandBracket: 'text', listBracket: 'words' };

/** Blanks, and what says nothing: the commas of an array that is known to be JSON. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  'space',
  'otherSpace',
  'comma',
  'endOfFlags',
  'danglingEscape',
]);

/** Cuts instructions into tokens. */
export class InstructionLexer {
  readonly #moo: moo.Lexer;

  constructor(escapeCharacter: EscapeCharacter) {
    this.#moo = escapeCharacter === '\\' ? USUAL : moo.states(lexerStates(escapeCharacter), 'instruction');
  }

  /**
   * The tokens of one instruction, blanks and the commas of JSON left out. Never fails: what is no instruction gives an
   * `unknown` token, what is valid JSON but no array of strings a `mixedArray`, the word beyond the limit a `tooMany`, which
   * ends the tokens.
   *
   * @param text the instruction's joined text, without outer blanks
   */
  tokenize(text: string): readonly Token[] {
    const lexer = this.#moo;
    const tokens: Token[] = [];
    let base = 0;
    const restart = (offset: number, state: string): void => {
      base = offset;
      lexer.reset(text.slice(offset), { state, line: 1, col: 1 });
    };
    restart(0, 'instruction');
    for (let next = lexer.next(); next !== undefined; next = lexer.next()) {
      const type = next.type ?? '';
      const token: Token = { type, text: next.text, value: next.value, offset: base + next.offset };
      const notJson = NOT_JSON[type];
      if (tokens.length > LIMITS.words) {
        tokens.push({ ...token, type: 'tooMany' });
        break;
      }
      if (LEFT_OUT.has(type)) continue;
      if (notJson !== undefined) {
        const rest = text.slice(token.offset);
        const array = jsonArray(rest);
        if (array === 'strings') {
          tokens.push({ ...token, type: 'open' });
          lexer.setState('json');
        } else if (array === 'mixed') {
          tokens.push({ type: 'mixedArray', text: rest, value: rest, offset: token.offset });
          break;
        } else restart(token.offset, notJson);
      } else if (type === 'firstPair' && !token.text.includes('=')) {
        restart(token.offset, 'legacyPair');
      } else tokens.push(type === 'firstPair' ? { ...token, type: 'pair' } : token);
    }
    return tokens;
  }
}

/** Docker takes the JSON form exactly when the text is a JSON array; one that holds anything but strings is an error. */
function jsonArray(text: string): 'strings' | 'mixed' | 'none' {
  try {
    const value: unknown = JSON.parse(text);
    if (!Array.isArray(value)) return 'none';
    return value.every((item) => typeof item === 'string') ? 'strings' : 'mixed';
  } catch {
    return 'none';
  }
}

function lexerStates(escapeCharacter: EscapeCharacter): Record<string, moo.Rules> {
  // Joined text has no newline; moo wants to hear of every rule that could match one.
  const space = new RegExp(`[${SPACE_CLASS.replace('\\n', '')}]+`);
  const blank = new RegExp(`[${BLANK_CLASS}]+`);
  const text = /[^\n]+/;
  const word = new RegExp(`[^\\n${BLANK_CLASS}]+`);
  const quotedWord = quotedWordPattern(escapeCharacter);
  const danglingEscape = escapeCharacter;
  const keywordEnd = `(?![^${BLANK_CLASS}])`;
  const wordEnd = `(?![^${SPACE_CLASS}])`;
  const as = new RegExp(`[Aa][Ss]${keywordEnd}`);
  const bodies: Record<Body, moo.Rules> = {
    command: { commandBracket: '[', text: { match: text, next: 'text' } },
    text: { text },
    words: { space: blank, word },
    list: { listBracket: '[', word: { match: word, next: 'words' } },
    from: { space: blank, as, word },
    pairs: { firstPair: { match: quotedWord, next: 'morePairs' }, danglingEscape },
    args: { space, pair: quotedWord, danglingEscape },
    health: {
      none: { match: caseless('NONE', wordEnd), next: 'text' },
      cmd: { match: caseless('CMD', wordEnd), next: 'command' },
      other: { match: new RegExp(`[^${SPACE_CLASS}]+`), next: 'text' },
    },
    instruction: instructionRules(keywordEnd),
  };
  const states: Record<string, moo.Rules> = {
    morePairs: { space, pair: quotedWord, danglingEscape },
    legacyPair: { space: { match: blank, next: 'legacyValue' }, legacyKey: word },
    legacyValue: { text },
    json: {
      space,
      open: '[',
      close: ']',
      comma: ',',
      string: { match: /"(?:[^"\\]|\\["\\/bfnrtu])*"/, value: decodeJsonString },
    },
  };
  for (const [name, rules] of Object.entries(bodies)) {
    states[name] = { space, ...rules };
    states[`${name}Flags`] = {
      // Only these blanks may stand before a flag; others end the flags, and are trimmed with the rest.
      space: blank,
      otherSpace: { match: space, next: name },
      endOfFlags: { match: new RegExp(`--(?![^${BLANK_CLASS}])`), next: name },
      flag: FLAG,
      ...withNext(rules, name),
    };
  }
  return states;
}

function instructionRules(keywordEnd: string): moo.Rules {
  const rules: Record<string, moo.Rule> = {};
  for (const name of INSTRUCTIONS) {
    rules[name] = { match: caseless(name, keywordEnd), next: `${BODIES[name]}Flags` };
  }
  rules['unknown'] = { match: new RegExp(`[^\\n${BLANK_CLASS}]+`), next: 'text' };
  return rules;
}

/** The rules of a body as they stand behind flags: the first token of the body ends the flags. */
function withNext(rules: moo.Rules, state: string): moo.Rules {
  const result: moo.Rules = {};
  for (const [name, rule] of Object.entries(rules)) {
    if (name === 'space') continue;
    if (rule instanceof RegExp || typeof rule === 'string') result[name] = { match: rule, next: state };
    else result[name] = rule;
  }
  return result;
}

/** moo knows no flag `i`. */
function caseless(name: string, lookahead: string): RegExp {
  const letters = [...name].map((letter) => `[${letter}${letter.toLowerCase()}]`);
  return new RegExp(letters.join('') + lookahead);
}

/**
 * A word of ENV, LABEL or ARG: blanks in quotes or after the escape character belong to it. A quotation that is not
 * closed goes to the end of the text.
 */
function quotedWordPattern(escapeCharacter: EscapeCharacter): RegExp {
  const e = escapeCharacter === '\\' ? '\\\\' : '`';
  return new RegExp(`(?:[^${SPACE_CLASS}'"${e}]|${e}[^\\n]|'[^']*'?|"(?:[^"${e}]|${e}[^\\n])*"?)+`);
}

/** As flag-text.ts reads it. */
const FLAG = new RegExp(
  `--(?:[^${SPACE_CLASS}'"\\\\]|\\\\[^\\n]|\\\\$|'(?:[^'\\\\]|\\\\[^\\n])*\\\\?'?|"(?:[^"\\\\]|\\\\[^\\n])*\\\\?"?)+`,
);

/** Half a surrogate pair becomes U+FFFD, as in Go. */
function decodeJsonString(text: string): string {
  return String(JSON.parse(text)).toWellFormed();
}

/**
 * Compiled once for the usual escape character, which takes longer than to read a short Dockerfile. Every `tokenize` begins
 * anew, so that all may share it.
 */
const USUAL = moo.states(lexerStates('\\'), 'instruction');
