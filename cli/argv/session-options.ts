import { resolve } from 'node:path';
import { type HostPath, UsageError } from '../../core/index.ts';
import { splitFields, splitPair } from './csv.ts';
import { nearest } from './nearest.ts';
import type { Environment } from './pairs.ts';

/** Where a `--secret` comes from. */
export interface SecretSource {
  readonly id: string;
  readonly from:
    | { readonly kind: 'file'; readonly path: HostPath }
    | { readonly kind: 'variable'; readonly name: string };
}

/** What a `--ssh` lends. */
export interface AgentSource {
  readonly id: string;
  /** Sockets or keys; none: the agent that SSH_AUTH_SOCK names. */
  readonly paths: readonly HostPath[];
}

const SECRET_KEYS = ['id', 'type', 'src', 'source', 'env'];

/**
 * `id=ID[,src=FILE|,env=NAME][,type=file|env]`, as buildx reads it: with neither source, the variable called like the id, or else the
 * file called so.
 */
export function readSecret(text: string, cwd: string, env: Environment): SecretSource {
  const wrong = (what: string, hint?: string): never => {
    throw new UsageError(`--secret ${text}: ${what}`, hint ?? 'Write id=ID,src=FILE or id=ID,env=NAME.');
  };
  const fields = new Map<string, string>();
  for (const field of splitFields(text, '--secret')) {
    const [written, value] = splitPair(field);
    const key = written.toLowerCase();
    if (value === undefined) wrong(`invalid field '${field}' must be a key=value pair`);
    if (!SECRET_KEYS.includes(key)) {
      const near = nearest(key, SECRET_KEYS);
      wrong(
        `unexpected key '${key}' in '${field}'`,
        near === undefined ? undefined : `Did you mean ${near}?`,
      );
    }
    fields.set(key === 'source' ? 'src' : key, value ?? '');
  }
  const type = fields.get('type') ?? '';
  if (type !== '' && type !== 'file' && type !== 'env')
    wrong(`unsupported secret type ${JSON.stringify(type)}`);
  const id = fields.get('id') ?? '';
  if (id === '') wrong('it has no id');
  const file = fields.get('src') ?? '';
  const variable = fields.get('env') ?? (type === 'env' ? file : '');
  if (variable !== '') return { id, from: { kind: 'variable', name: variable } };
  if (file !== '') return { id, from: { kind: 'file', path: resolve(cwd, file) as HostPath } };
  if (type !== 'file' && env[id] !== undefined) return { id, from: { kind: 'variable', name: id } };
  return { id, from: { kind: 'file', path: resolve(cwd, id) as HostPath } };
}

/** `default` or `ID[=SOCKET|KEY[,KEY]]`. */
export function readAgent(text: string, cwd: string): AgentSource {
  const [id, value] = splitPair(text);
  const paths = (value ?? '').split(',').filter((path) => path !== '');
  return { id: id === '' ? 'default' : id, paths: paths.map((path) => resolve(cwd, path) as HostPath) };
}

const ENTITLEMENTS = ['network.host', 'security.insecure', 'device'];

/** @throws UsageError for a right that nothing asks for. */
export function checkEntitlement(text: string): void {
  if (ENTITLEMENTS.includes(text) || /^device=./.test(text)) return;
  const near = nearest(text, ENTITLEMENTS);
  throw new UsageError(
    `--allow: ${JSON.stringify(text)} is no right that a build can take`,
    near === undefined ? `There are ${ENTITLEMENTS.join(', ')}.` : `Did you mean ${near}?`,
  );
}
