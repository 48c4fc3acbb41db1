/**
 * What Go's `unicode.IsSpace` holds for a blank, as the inside of a regular expression's character class. BuildKit trims
 * and splits by it; JavaScript's `\s` differs (it has U+FEFF and lacks U+0085).
 */
export const SPACE_CLASS =
  '\\n\\t\\v\\f\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

/** The blanks between the words of a line, as the inside of a character class: BuildKit's `[\t\v\f\r ]`. */
export const BLANK_CLASS = '\\t\\v\\f\\r ';

/** At the start of a text it is no character of it: Go's scanner, by which BuildKit reads words, passes over it. */
export const BYTE_ORDER_MARK = '\ufeff';

const SPACE = new RegExp(`[${SPACE_CLASS}]`);

export function isSpace(character: string): boolean {
  return isSpaceAt(character, 0);
}

/** Whether the character at `index` is a blank; false behind the end. */
function isSpaceAt(text: string, index: number): boolean {
  const code = text.charCodeAt(index);
  if (code < 0x80) return code === 0x20 || (code >= 0x09 && code <= 0x0d);
  return code >= 0x80 && SPACE.test(text.charAt(index));
}

export function trimStart(text: string): string {
  let start = 0;
  while (isSpaceAt(text, start)) start += 1;
  return text.slice(start);
}

/** Trims both ends. */
export function trim(text: string): string {
  let end = text.length;
  while (end > 0 && isSpaceAt(text, end - 1)) end -= 1;
  return trimStart(text.slice(0, end));
}
