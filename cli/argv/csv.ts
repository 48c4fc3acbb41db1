import { UsageError } from '../../core/index.ts';

/**
 * Splits `type=local,"dest=a,b"` into its fields: one line of RFC 4180, as Go's encoding/csv reads it.
 *
 * @throws UsageError that names `flag` where quotes do not match.
 */
export function splitFields(text: string, flag: string): string[] {
  const fields: string[] = [];
  let rest = text;
  for (;;) {
    const match = rest.startsWith('"') ? /^"((?:[^"]|"")*)"(,|$)/.exec(rest) : /^([^",]*)(,|$)/.exec(rest);
    if (match === null)
      throw new UsageError(`invalid value ${JSON.stringify(text)} for ${flag}: a stray quote`);
    fields.push((match[1] ?? '').replaceAll('""', '"'));
    if (match[2] !== ',') return fields;
    rest = rest.slice(match[0].length);
  }
}

/** `key=value` at its first `=`; no `=`: the value is undefined. */
export function splitPair(field: string): readonly [key: string, value: string | undefined] {
  const equals = field.indexOf('=');
  return equals === -1 ? [field, undefined] : [field.slice(0, equals), field.slice(equals + 1)];
}
