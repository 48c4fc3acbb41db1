/**
 * What Go's `unicode.IsSpace` holds for a blank, as the inside of a regular expression's character class. BuildKit trims
 * and splits by it; JavaScript's `\s` differs (it has U+FEFF and lacks U+0085).
 */
export const SPACE_CLASS =
  '\\n\\t\\v\\f\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

/** The blanks between the words of a line, as the inside of a character class: BuildKit's `[\t\v\f\r ]`. */
export const BLANK_CLASS = '\\t\\v\\f\\r ';

const SPACE = new RegExp(`[${SPACE_CLASS}]`);
const LEADING_SPACE = new RegExp(`^[${SPACE_CLASS}]+`);

export function isSpace(character: string): boolean {
  return SPACE.test(character);
}

export function trimStart(text: string): string {
  return text.replace(LEADING_SPACE, '');
}

/** Trims both ends. Walks from the end: a regular expression for trailing blanks would be quadratic. */
export function trim(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace(text.charAt(end - 1))) end -= 1;
  return trimStart(text.slice(0, end));
}
