import { resolve } from 'node:path';
import { type HostPath, type Output, type OutputDest, UsageError } from '../../core/index.ts';
import { splitFields, splitPair } from './csv.ts';
import { nearest } from './nearest.ts';

const TYPES = ['local', 'tar', 'oci', 'docker', 'image', 'registry', 'cacheonly'];
const ATTRIBUTES = ['type', 'dest', 'tar', 'push', 'name'];
const FLAG = '--output';

export interface ParsedOutput {
  /** Absent for `type=cacheonly`: nothing is written. */
  readonly output?: Output;
  /** References from `name=`. */
  readonly names: readonly string[];
}

/**
 * One value of `--output`: `type=oci,dest=app.tar`, or a folder, or `-` for a tar on standard output
 * (https://docs.docker.com/reference/cli/docker/buildx/build/#output). Paths are taken from `cwd`.
 *
 * @throws UsageError
 */
export function parseOutput(text: string, cwd: string): ParsedOutput {
  const fields = splitFields(text, FLAG);
  if (fields.length === 1 && !text.includes('=')) {
    if (text === '') throw new UsageError(`${FLAG} must not be empty`);
    if (text === '-') return { output: { type: 'tar', dest: { kind: 'stdout' } }, names: [] };
    return { output: { type: 'local', dest: hostPath(text, cwd) }, names: [] };
  }
  const attributes = readAttributes(fields, text);
  const names = (attributes.get('name') ?? '').split(',').filter((name) => name !== '');
  const output = outputOf(attributes, cwd);
  return output === undefined ? { names } : { output, names };
}

function readAttributes(fields: readonly string[], text: string): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const field of fields) {
    const [key, value] = splitPair(field.trim());
    if (value === undefined)
      throw new UsageError(
        `invalid value ${JSON.stringify(text)} for ${FLAG}: no "=" in ${JSON.stringify(field)}`,
      );
    const name = key.toLowerCase();
    if (!ATTRIBUTES.includes(name)) {
      const guess = nearest(name, ATTRIBUTES);
      throw new UsageError(
        `${FLAG}: the attribute ${JSON.stringify(key)} is not supported`,
        guess === undefined ? undefined : `Did you mean ${guess}?`,
      );
    }
    attributes.set(name, value);
  }
  return attributes;
}

function outputOf(attributes: ReadonlyMap<string, string>, cwd: string): Output | undefined {
  const type = attributes.get('type');
  const dest = attributes.get('dest');
  switch (type) {
    case undefined:
      throw new UsageError(`${FLAG}: "type=" is missing`);
    case 'cacheonly':
      return undefined;
    case 'local':
      if (dest === undefined || dest === '-') throw new UsageError(`${FLAG}: type=local needs dest=FOLDER`);
      return { type, dest: hostPath(dest, cwd) };
    case 'tar':
      return { type, dest: outputDest(dest, cwd) };
    case 'docker':
    case 'oci': {
      const tar = flagOf(attributes, 'tar', true);
      // Without `dest`, buildx hands a `docker` output to the daemon: here that is the local store.
      if (type === 'docker' && dest === undefined) return { type: 'image', push: false };
      if (!tar && (dest === undefined || dest === '-')) {
        throw new UsageError(`${FLAG}: type=${type},tar=false needs dest=FOLDER`);
      }
      return { type, tar, dest: outputDest(dest, cwd) };
    }
    case 'image':
      return { type, push: flagOf(attributes, 'push', false) };
    case 'registry':
      return { type: 'image', push: true };
    default: {
      const guess = nearest(type, TYPES);
      throw new UsageError(
        `${FLAG}: unknown type ${JSON.stringify(type)}: use ${TYPES.join(', ')}`,
        guess === undefined ? undefined : `Did you mean type=${guess}?`,
      );
    }
  }
}

function flagOf(attributes: ReadonlyMap<string, string>, name: string, fallback: boolean): boolean {
  const value = attributes.get(name);
  if (value === undefined) return fallback;
  if (value !== 'true' && value !== 'false') throw new UsageError(`${FLAG}: ${name}= must be true or false`);
  return value === 'true';
}

function outputDest(dest: string | undefined, cwd: string): OutputDest {
  if (dest === undefined || dest === '-') return { kind: 'stdout' };
  return { kind: 'file', path: hostPath(dest, cwd) };
}

function hostPath(path: string, cwd: string): HostPath {
  return resolve(cwd, path) as HostPath;
}
