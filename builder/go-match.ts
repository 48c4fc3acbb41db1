import { err, ok, type Result } from '../core/index.ts';

const ESCAPE = /[.*+?^${}()|[\]\\/]/g;

function literal(text: string): string {
  return text.replace(ESCAPE, '\\$&');
}

/**
 * Reads a character class from `pattern[at]` (just behind `[`) by the rules of Go's `path/filepath.Match`: `^` negates,
 * `lo-hi` is a range, a backslash takes the next character literally, and an empty or unclosed class is an error.
 */
function readClass(
  pattern: readonly string[],
  at: number,
): { readonly source: string; readonly next: number } | undefined {
  let source = '';
  let index = at;
  const negated = pattern[index] === '^';
  if (negated) index += 1;
  let ranges = 0;
  while (index < pattern.length && !(pattern[index] === ']' && ranges > 0)) {
    const low = readClassChar(pattern, index);
    if (low === undefined) return undefined;
    index = low.next;
    let high = low;
    if (pattern[index] === '-') {
      const end = readClassChar(pattern, index + 1);
      if (end === undefined) return undefined;
      high = end;
      index = end.next;
    }
    if (codePoint(low.char) <= codePoint(high.char)) {
      source += `${classLiteral(low.char)}-${classLiteral(high.char)}`;
    }
    ranges += 1;
  }
  if (pattern[index] !== ']') return undefined;
  const body = source === '' ? (negated ? '[^/]' : '(?!)') : `(?!/)[${negated ? '^' : ''}${source}]`;
  return { source: body, next: index + 1 };
}

function readClassChar(
  pattern: readonly string[],
  at: number,
): { readonly char: string; readonly next: number } | undefined {
  const char = pattern[at];
  if (char === undefined || char === '-' || char === ']') return undefined;
  if (char !== '\\') return { char, next: at + 1 };
  const escaped = pattern[at + 1];
  return escaped === undefined ? undefined : { char: escaped, next: at + 2 };
}

function codePoint(char: string): number {
  return char.codePointAt(0) ?? 0;
}

function classLiteral(char: string): string {
  return char.replace(/[\\\]^-]/g, '\\$&');
}

/**
 * Compiles a wildcard pattern by the rules of Go's `path/filepath.Match`, which Docker states for COPY and ADD: `*` and `?`
 * stop at slashes, there is no `**`, a backslash escapes.
 */
export function compileGoPattern(pattern: string): Result<RegExp, string> {
  return compile(pattern, { doubleStar: false });
}

/** `doubleStar`: two stars in a row stand for any number of folders, as in ignore files. */
function compile(pattern: string, { doubleStar }: { readonly doubleStar: boolean }): Result<RegExp, string> {
  const chars = [...pattern];
  let source = '';
  let at = 0;
  while (at < chars.length) {
    const char = chars[at] ?? '';
    at += 1;
    if (doubleStar && char === '*' && chars[at] === '*') {
      at += chars[at + 1] === '/' ? 2 : 1;
      source += at >= chars.length ? '.*' : '(?:.*/)?';
    } else if (char === '*') source += '[^/]*';
    else if (char === '?') source += '[^/]';
    else if (char === '[') {
      const group = readClass(chars, at);
      if (group === undefined) return err('syntax error in pattern');
      source += group.source;
      at = group.next;
    } else if (char === '\\') {
      const escaped = chars[at];
      if (escaped === undefined) return err('syntax error in pattern');
      source += literal(escaped);
      at += 1;
    } else source += literal(char);
  }
  return ok(new RegExp(`^${source}$`, 'su'));
}

/** Has `text` a wildcard that is not escaped? */
export function hasWildcard(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === '\\') at += 1;
    else if (char === '*' || char === '?' || char === '[') return true;
  }
  return false;
}

/** Drops the backslashes of a pattern without wildcards. */
export function unescapePattern(text: string): string {
  return text.replace(/\\(.)/gs, '$1');
}

/**
 * Compiles one pattern of a `.dockerignore` file (moby/patternmatcher): as {@link compileGoPattern}, and `**` stands for any
 * number of folders. A leading `**` with plain text right behind it fits everything that ends with the text.
 */
export function compileIgnorePattern(pattern: string): Result<RegExp, string> {
  const ending = /^\*\*([^/*?[\]\\][^*?[\]\\]*)$/.exec(pattern)?.[1];
  if (ending !== undefined) return ok(new RegExp(`${literal(ending)}$`, 'su'));
  return compile(pattern, { doubleStar: true });
}
