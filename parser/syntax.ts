import type { Token } from './lexer.ts';

/** A list that grows at its end without copying: what a left-recursive rule builds in constant time per element. */
export interface TokenList {
  readonly before: TokenList | undefined;
  readonly token: Token;
}

export function first(token: Token): TokenList {
  return { before: undefined, token };
}

export function append(before: TokenList | undefined, token: Token): TokenList {
  return { before, token };
}

export function listTokens(list: TokenList | undefined): readonly Token[] {
  const tokens: Token[] = [];
  for (let at = list; at !== undefined; at = at.before) tokens.push(at.token);
  return tokens.reverse();
}

export type CommandSyntax =
  | { readonly form: 'shell'; readonly text: Token }
  | { readonly form: 'exec'; readonly args: TokenList | undefined };

interface SyntaxNode {
  readonly keyword: Token;
  readonly flags: TokenList | undefined;
}

/** One instruction as the grammar sees it: tokens in their places. */
export type Syntax = SyntaxNode &
  (
    | { readonly kind: 'from'; readonly image: Token; readonly asKeyword?: Token; readonly as?: Token }
    | { readonly kind: 'command'; readonly command: CommandSyntax }
    | { readonly kind: 'copy'; readonly sources: TokenList; readonly destination: Token }
    | { readonly kind: 'pairs'; readonly pairs: TokenList }
    | { readonly kind: 'legacyPair'; readonly key: Token; readonly value: Token }
    | { readonly kind: 'arg'; readonly args: TokenList }
    | { readonly kind: 'words'; readonly words: TokenList }
    | { readonly kind: 'word'; readonly word: Token }
    | { readonly kind: 'shell'; readonly args: TokenList }
    | { readonly kind: 'healthcheck'; readonly command?: CommandSyntax }
    | { readonly kind: 'onbuild'; readonly trigger: Syntax }
  );

/** Hands finished tokens to nearley, in the form of a lexer. */
export class TokenFeed {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  /** nearley's start of a chunk; the tokens are there already. */
  reset(): void {
    this.#at = 0;
  }

  next(): Token | undefined {
    const token = this.#tokens[this.#at];
    this.#at += 1;
    return token;
  }

  save(): Record<string, never> {
    return {};
  }

  formatError(): string {
    return 'the instruction does not follow the grammar';
  }

  /** Asked by the compiled grammar for every `%name`: all of them are token types. */
  has(_type: string): boolean {
    return true;
  }
}

/** What the compiled grammar asks for token types. */
export const tokenTypes = new TokenFeed([]);
