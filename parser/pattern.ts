import { err, ok, type Result } from '../core/index.ts';
import { BYTE_ORDER_MARK } from './whitespace.ts';

/** One element of a shell pattern: a character, `?` or `*`. There are no bracket expressions. */
export type PatternElement =
  | { readonly kind: 'character'; readonly character: string }
  | { readonly kind: 'one' }
  | { readonly kind: 'any' };

/**
 * Reads the pattern of `${name#pattern}` and the like (POSIX, Pattern Matching Notation, without brackets). A backslash
 * escapes `*`, `?`, itself, and the two characters that would end the expansion, `}` and `/`.
 *
 * @returns the elements, or what is wrong with the pattern.
 */
export function parsePattern(pattern: string): Result<readonly PatternElement[], string> {
  const elements: PatternElement[] = [];
  const characters = [...pattern];
  for (let at = pattern.startsWith(BYTE_ORDER_MARK) ? 1 : 0; at < characters.length; at += 1) {
    const character = characters[at] ?? '';
    if (character === '*') elements.push({ kind: 'any' });
    else if (character === '?') elements.push({ kind: 'one' });
    else if (character === '\\') {
      at += 1;
      const escaped = characters[at];
      if (escaped === undefined || !'*?\\}/'.includes(escaped)) {
        return err(`invalid pattern (${pattern}) in substitution: invalid escape '\\${escaped ?? ''}'`);
      }
      elements.push({ kind: 'character', character: escaped });
    } else elements.push({ kind: 'character', character });
  }
  return ok(elements);
}

export function removePrefix(value: string, pattern: readonly PatternElement[], longest: boolean): string {
  const characters = [...value];
  const end = matchEnds(pattern, characters, longest)[0] ?? -1;
  return end === -1 ? value : characters.slice(end).join('');
}

export function removeSuffix(value: string, pattern: readonly PatternElement[], longest: boolean): string {
  const reversed = removePrefix([...value].reverse().join(''), pattern.toReversed(), longest);
  return [...reversed].reverse().join('');
}

/**
 * Replaces the leftmost longest match, or with `all` each one; a match of nothing right after a match does not count. With
 * `all` a dollar in the replacement is one of Go's `Regexp.ReplaceAllString`, as it is in BuildKit.
 */
export function replaceMatches(
  value: string,
  pattern: readonly PatternElement[],
  options: { readonly replacement: string; readonly all: boolean },
): string {
  const characters = [...value];
  const ends = matchEnds(pattern, characters, true);
  let result = '';
  let previousEnd = -1;
  let at = 0;
  while (at <= characters.length) {
    const end = ends[at] ?? -1;
    const counts = end !== -1 && !(end === at && previousEnd === at);
    if (counts) {
      if (!options.all) return result + options.replacement + characters.slice(end).join('');
      result += fillTemplate(options.replacement, characters.slice(at, end).join(''));
      previousEnd = end;
    }
    if (counts && end > at) at = end;
    else {
      result += characters[at] ?? '';
      at += 1;
    }
  }
  return result;
}

/** `$0` and `${0}` are the match, other names are groups that there are not; `$$` is a dollar. */
function fillTemplate(template: string, match: string): string {
  if (!template.includes('$')) return template;
  return template.replace(
    /\$(?:(\$)|\{([\p{L}\p{Nd}_]+)\}|([\p{L}\p{Nd}_]+))/gu,
    (_written, dollar: string | undefined, braced: string | undefined, bare: string | undefined) =>
      dollar ?? ((braced ?? bare) === '0' ? match : ''),
  );
}

/**
 * For every start the end of the shortest or longest match there, -1 where there is none. Takes time in proportion to
 * pattern times text, whatever the pattern: a regular expression with many stars would not.
 */
function matchEnds(
  pattern: readonly PatternElement[],
  text: readonly string[],
  longest: boolean,
): Int32Array {
  const length = text.length;
  let ends = Int32Array.from({ length: length + 1 }, (_, start) => start);
  for (const element of pattern.toReversed()) {
    const before = new Int32Array(length + 1).fill(-1);
    for (let start = length; start >= 0; start -= 1) {
      const character = text[start];
      const passable = character !== undefined && character !== '\n';
      if (element.kind === 'any') {
        before[start] = prefer(ends[start] ?? -1, passable ? (before[start + 1] ?? -1) : -1, longest);
      } else if (element.kind === 'one' ? passable : character === element.character) {
        before[start] = ends[start + 1] ?? -1;
      }
    }
    ends = before;
  }
  return ends;
}

function prefer(one: number, other: number, longest: boolean): number {
  if (one === -1 || other === -1) return Math.max(one, other);
  return longest ? Math.max(one, other) : Math.min(one, other);
}
