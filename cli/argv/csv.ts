import { csvFields, UsageError } from '../../core/index.ts';

export { splitPair } from '../../core/index.ts';

/**
 * The fields of a flag's value: see {@link csvFields}.
 *
 * @throws UsageError that names `flag` where quotes do not match.
 */
export function splitFields(text: string, flag: string): readonly string[] {
  const fields = csvFields(text);
  if (fields === undefined)
    throw new UsageError(`invalid value ${JSON.stringify(text)} for ${flag}: a stray quote`);
  return fields;
}
