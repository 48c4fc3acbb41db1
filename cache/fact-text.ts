import type { FileType } from '../core/index.ts';

/** The letters that stand for types in the texts that fingerprints are taken of. */
export const TYPE_LETTERS: Readonly<Record<FileType, string>> = {
  file: 'f',
  dir: 'd',
  symlink: 'l',
  char: 'c',
  block: 'b',
  fifo: 'p',
  socket: 's',
};

/**
 * A field of such a text, to be followed by NUL: `=` and the text itself, or, where that holds NUL or lone surrogates, `~` and
 * its JSON form. An absent field is empty, which an empty text (`=`) is not.
 */
export function fieldText(value: string | undefined): string {
  if (value === undefined) return '';
  return value.isWellFormed() && !value.includes('\0') ? `=${value}` : `~${JSON.stringify(value)}`;
}

/** The text of a field that {@link fieldText} made. */
export function textOfField(field: string): string | undefined {
  if (field === '') return undefined;
  return field.startsWith('~') ? String(JSON.parse(field.slice(1))) : field.slice(1);
}
