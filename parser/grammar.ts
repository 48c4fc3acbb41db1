import nearley from 'nearley';
import compiled from './grammar.generated.ts';
import { INSTRUCTIONS, type InstructionName, type Token } from './lexer.ts';
import { foldStretches, type Syntax, TokenFeed } from './syntax.ts';

/** The rule of the grammar that reads the instructions of a keyword. */
const RULES: Readonly<Record<InstructionName, string>> = {
  ADD: 'copy',
  ARG: 'arg',
  CMD: 'run',
  COPY: 'copy',
  ENTRYPOINT: 'run',
  ENV: 'env',
  EXPOSE: 'words',
  FROM: 'from',
  HEALTHCHECK: 'healthcheck',
  LABEL: 'env',
  MAINTAINER: 'maintainer',
  ONBUILD: 'onbuild',
  RUN: 'run',
  SHELL: 'shell',
  STOPSIGNAL: 'word',
  USER: 'word',
  VOLUME: 'words',
  WORKDIR: 'word',
};

/** A grammar for each keyword: begun at its own rule, the parser does not look at what begins with others. */
const GRAMMARS: ReadonlyMap<string, nearley.Grammar> = new Map(
  INSTRUCTIONS.map((name) => [
    name,
    nearley.Grammar.fromCompiled({ ParserRules: compiled.ParserRules, ParserStart: RULES[name] }),
  ]),
);

/**
 * Reads the tokens of one instruction by the grammar.
 *
 * @returns the syntax, or undefined where the tokens make no instruction
 * @throws Error where there is more than one reading: the grammar is ambiguous, a bug
 */
export function parseTokens(tokens: readonly Token[]): Syntax | undefined {
  const grammar = GRAMMARS.get(tokens[0]?.type ?? '');
  if (grammar === undefined) return undefined;
  const parser = new nearley.Parser(grammar, { lexer: new TokenFeed(foldStretches(tokens)) });
  try {
    parser.feed('');
  } catch (error) {
    if (isUnexpectedToken(error)) return undefined;
    throw error;
  }
  const readings: readonly Syntax[] = parser.results;
  return onlyReading(readings, tokens);
}

/** The one reading, or undefined where there is none. @throws Error where there are several */
export function onlyReading<T>(readings: readonly T[], tokens: readonly Token[]): T | undefined {
  if (readings.length > 1) {
    const text = tokens.map((token) => token.text).join(' ');
    throw new Error(`the grammar reads ${JSON.stringify(text)} in ${readings.length} ways`);
  }
  return readings[0];
}

/** nearley marks its own error by the offset of the token that it did not expect. */
function isUnexpectedToken(error: unknown): boolean {
  return error instanceof Error && 'offset' in error && 'token' in error;
}
