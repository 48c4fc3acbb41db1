import nearley from 'nearley';
import compiled from './grammar.generated.ts';
import type { Token } from './lexer.ts';
import { type Syntax, TokenFeed } from './syntax.ts';

const GRAMMAR = nearley.Grammar.fromCompiled({
  ParserRules: compiled.ParserRules,
  ParserStart: compiled.ParserStart,
});

/**
 * Reads the tokens of one instruction by the grammar.
 *
 * @returns the syntax, or undefined where the tokens make no instruction
 * @throws Error where there is more than one reading: the grammar is ambiguous, a bug
 */
export function parseTokens(tokens: readonly Token[]): Syntax | undefined {
  const parser = new nearley.Parser(GRAMMAR, { lexer: new TokenFeed(tokens) });
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
