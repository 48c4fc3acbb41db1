import type { SourceRange } from '../core/index.ts';
import type { Flag, FlagField } from './ast.ts';
import type { Token } from './lexer.ts';
import { LIMITS } from './limits.ts';

/** What a flag says without its quotes and escapes, and for each of its UTF-16 units where it came from. */
export interface FlagText {
  readonly text: string;
  /** One more than `text` has units: the last is where the flag ends. */
  readonly places: readonly number[];
}

/** Takes quotes and escapes of a flag away: the escape is a backslash whatever the directive says, in quotes of both kinds. */
export function readFlagText(written: string): FlagText {
  let quote = '';
  let text = '';
  const places: number[] = [];
  for (let at = 0; at < written.length; at += 1) {
    let character = written.charAt(at);
    if (character === '\\') {
      at += 1;
      character = written.charAt(at);
      if (character === '') break;
    } else if (quote === '' && (character === '"' || character === "'")) {
      quote = character;
      continue;
    } else if (character === quote) {
      quote = '';
      continue;
    }
    text += character;
    places.push(at);
  }
  places.push(written.length);
  return { text, places };
}

/** The flag of a token. `range` gives the source range of a stretch of the instruction's joined text. */
export function readFlag(token: Token, range: (start: number, end: number) => SourceRange): Flag {
  const { text, places } = readFlagText(token.text);
  const end = token.offset + token.text.length;
  const whole = range(token.offset, end);
  const equals = text.indexOf('=');
  if (equals === -1) return { name: text.slice(2), range: whole };
  const start = token.offset + (places[equals] ?? 0) + 1;
  return {
    name: text.slice(2, equals),
    value: text.slice(equals + 1),
    range: whole,
    valueRange: range(start, end),
  };
}

/**
 * Parts a flag's value at its commas, as CSV (RFC 4180): a field that begins with a double quote ends with one, and two of
 * them in it are one. (The flag's own quotes are gone by then: these were escaped.)
 *
 * @returns the fields, or what is wrong with the value
 */
export function readFields(
  token: Token,
  range: (start: number, end: number) => SourceRange,
): readonly FlagField[] | string {
  const { text, places } = readFlagText(token.text);
  const from = text.indexOf('=') + 1;
  if (from === 0 || from === text.length) return 'has no value';
  const place = (at: number): number => token.offset + (places[at] ?? 0);
  const fields: FlagField[] = [];
  for (let at = from; at <= text.length; ) {
    if (fields.length === LIMITS.fields) return `has more than ${LIMITS.fields} fields`;
    const field = readField(text, at);
    if (typeof field === 'string') return field;
    const written = range(place(at), field.end === at ? place(at) : place(field.end - 1) + 1);
    const equals = field.text.indexOf('=');
    const key = (equals === -1 ? field.text : field.text.slice(0, equals)).toLowerCase();
    if (equals === -1) fields.push({ key, text: field.text, range: written });
    else {
      const value = field.text.slice(equals + 1);
      const start = Math.min(at + (field.quoted ? 1 : 0) + equals + 1, field.end);
      const valueRange = range(place(start), Math.max(place(start), place(field.end - 1) + 1));
      fields.push({ key, text: field.text, value: { text: value, range: valueRange }, range: written });
    }
    at = field.end + 1;
  }
  return fields;
}

function readField(
  text: string,
  start: number,
): { readonly text: string; readonly end: number; readonly quoted: boolean } | string {
  if (text[start] !== '"') {
    const comma = text.indexOf(',', start);
    const end = comma === -1 ? text.length : comma;
    const field = text.slice(start, end);
    return field.includes('"')
      ? 'a double quote stands in a field that does not begin with one'
      : { text: field, end, quoted: false };
  }
  let field = '';
  for (let at = start + 1; at < text.length; at += 1) {
    const close = text.indexOf('"', at);
    if (close === -1) break;
    field += text.slice(at, close);
    at = close + 1;
    if (text[at] === '"') field += '"';
    else if (at === text.length || text[at] === ',') return { text: field, end: at, quoted: true };
    else return 'something follows the double quote that ends a field';
  }
  return 'a double quote is not closed';
}
