import type { Token } from './lexer.ts';

/** A list that grows at its end without copying: what a left-recursive rule builds in constant time per element. */
export interface TokenList {
  readonly before: TokenList | undefined;
  readonly token: FedToken;
}

/** A token as the grammar gets it: it may stand for many of its type in a row. */
export interface FedToken extends Token {
  /** The tokens that it stands for, itself among them; absent: itself alone. */
  readonly all?: readonly Token[];
}

export function first(token: FedToken): TokenList {
  return { before: undefined, token };
}

export function append(before: TokenList | undefined, token: FedToken): TokenList {
  return { before, token };
}

export function listTokens(list: TokenList | undefined): readonly Token[] {
  const parts: FedToken[] = [];
  for (let at = list; at !== undefined; at = at.before) parts.push(at.token);
  return parts.reverse().flatMap((token) => token.all ?? [token]);
}

/**
 * Of each stretch of tokens of one type leaves the first, the last, and one that stands for all between. The grammar has
 * such stretches only in lists, whose elements it takes one by one or with the last apart: it reads the same, in less time.
 */
export function foldStretches(tokens: readonly Token[]): readonly FedToken[] {
  const fed: FedToken[] = [];
  for (let start = 0; start < tokens.length; ) {
    let end = start;
    while (end < tokens.length && tokens[end]?.type === tokens[start]?.type) end += 1;
    const [one, two] = [tokens[start], tokens[start + 1]];
    const last = tokens[end - 1];
    if (one === undefined || two === undefined || last === undefined || end - start < 4) {
      fed.push(...tokens.slice(start, end));
    } else fed.push(one, { ...two, all: tokens.slice(start + 1, end - 1) }, last);
    start = end;
  }
  return fed;
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
    | { readonly kind: 'command'; readonly command?: CommandSyntax }
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
  readonly #tokens: readonly FedToken[];
  #at = 0;

  constructor(tokens: readonly FedToken[]) {
    this.#tokens = tokens;
  }

  /** nearley's start of a chunk; the tokens are there already. */
  reset(): void {
    this.#at = 0;
  }

  next(): FedToken | undefined {
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
