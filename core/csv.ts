/** Splits `type=local,"dest=a,b"` into its fields: one line of RFC 4180, as Go's encoding/csv reads it. Undefined where quotes do not match. */
export function csvFields(text: string): readonly string[] | undefined {
  const fields: string[] = [];
  let rest = text;
  for (;;) {
    const match = rest.startsWith('"') ? /^"((?:[^"]|"")*)"(,|$)/.exec(rest) : /^([^",]*)(,|$)/.exec(rest);
    if (match === null) return undefined;
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
