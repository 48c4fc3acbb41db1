import { UsageError } from '../../core/index.ts';
import { splitPair } from './csv.ts';

/** Environment variables by name, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * `NAME=value` flags as a record. With `env`, a `NAME` alone takes its value from there and is left out where it is not
 * set (`--build-arg`); without `env` it is empty (`--label`). Later ones win.
 *
 * @throws UsageError that names `flag` where a name is empty.
 */
export function readPairs(
  values: readonly string[],
  flag: string,
  env?: Environment,
): Record<string, string> {
  const pairs = new Map<string, string>();
  for (const text of values) {
    const [name, given] = splitPair(text);
    if (name === '')
      throw new UsageError(`invalid value ${JSON.stringify(text)} for ${flag}: the name is empty`);
    const value = given ?? (env === undefined ? '' : env[name]);
    if (value === undefined) pairs.delete(name);
    else pairs.set(name, value);
  }
  return Object.fromEntries(pairs);
}

/** `-e` of `run` as `NAME=value`, in order; a `NAME` alone that is not set is left out, as Docker does. */
export function readVariables(values: readonly string[], flag: string, env: Environment): string[] {
  return values.flatMap((text) => {
    const [name, given] = splitPair(text);
    if (name === '')
      throw new UsageError(`invalid value ${JSON.stringify(text)} for ${flag}: the name is empty`);
    const value = given ?? env[name];
    return value === undefined ? [] : [`${name}=${value}`];
  });
}

/**
 * The lines of an `--env-file` as `NAME=value`: blank lines and `#` comments are skipped, values are taken literally
 * (docker/cli, opts/envfile.go).
 *
 * @throws UsageError that names `file` and line.
 */
export function readEnvFile(text: string, file: string, env: Environment): string[] {
  const variables: string[] = [];
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  for (const [index, raw] of lines.entries()) {
    const line = raw.trimStart();
    if (line === '' || line.startsWith('#')) continue;
    const [name] = splitPair(line);
    if (name === '' || /\s/.test(name)) {
      throw new UsageError(`${file}:${index + 1}: invalid variable name ${JSON.stringify(name)}`);
    }
    variables.push(...readVariables([line], file, env));
  }
  return variables;
}
