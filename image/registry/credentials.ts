import { spawn } from 'node:child_process';
import { readFile, realpath } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { errnoOf, type HostPath, joinHost, MachineError } from '../../core/index.ts';
import { diskError, writeWhole } from '../durable.ts';
import { isObject, type JsonObject, textField } from '../json.ts';

export type Credentials =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** An OAuth refresh token: traded for access tokens. */
  | { readonly kind: 'identity'; readonly token: string }
  /** An access token, sent as it is. */
  | { readonly kind: 'bearer'; readonly token: string };

/** Passwords for registries in Docker's `config.json` and the helper programs that it names. */
export interface CredentialStore {
  get(host: string): Promise<Credentials | undefined>;
  /** Tells where they are now. */
  store(
    host: string,
    credentials: Extract<Credentials, { kind: 'basic' | 'identity' }>,
  ): Promise<CredentialPlace>;
  /** False where there were none. */
  erase(host: string): Promise<boolean>;
}

/** A helper program keeps secrets in its own way; the file has them in plain text. */
export type CredentialPlace =
  | { readonly kind: 'helper'; readonly name: string }
  | { readonly kind: 'file'; readonly path: HostPath };

export interface CredentialStoreOptions {
  /** `$DOCKER_CONFIG`, or `~/.docker`. */
  readonly configDir: HostPath;
  /** The environment of helper programs; `PATH` in it is where `docker-credential-*` are looked up. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What Docker Hub's credentials are kept under, for reasons of history. */
const HUB_KEY = 'https://index.docker.io/v1/';
const HELPER = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** As the Docker CLI has it: `credHelpers[host]` before `credsStore` before `auths`; other fields of the file are kept. */
export function createCredentialStore(options: CredentialStoreOptions): CredentialStore {
  const file = joinHost(options.configDir, 'config.json');
  const save = async (config: JsonObject): Promise<void> =>
    writeWhole(await realFile(file), `${JSON.stringify(config, null, '\t')}\n`, 0o600);

  async function get(host: string): Promise<Credentials | undefined> {
    const config = await readConfig(file);
    const helper = helperFor(host, config);
    const helped = helper === undefined ? undefined : await askHelper(helper, host, options);
    return helped ?? fromAuths(host, config);
  }

  async function store(
    host: string,
    credentials: Extract<Credentials, { kind: 'basic' | 'identity' }>,
  ): Promise<CredentialPlace> {
    const config = await readConfig(file);
    const helper = helperFor(host, config);
    const [username, secret] =
      credentials.kind === 'basic'
        ? [credentials.username, credentials.password]
        : ['<token>', credentials.token];
    if (helper !== undefined) {
      const request = JSON.stringify({ ServerURL: keyOf(host), Username: username, Secret: secret });
      await runHelper({ helper, verb: 'store', input: request }, options);
    }
    const entry = helper === undefined ? authEntry(credentials) : {};
    await save({ ...config, auths: { ...authsOf(config), [keyOf(host)]: entry } });
    return helper === undefined ? { kind: 'file', path: file } : { kind: 'helper', name: helper };
  }

  async function erase(host: string): Promise<boolean> {
    const config = await readConfig(file);
    const helper = helperFor(host, config);
    const known = (await get(host)) !== undefined;
    if (helper !== undefined && known) {
      await runHelper({ helper, verb: 'erase', input: keyOf(host) }, options);
    }
    const kept = Object.entries(authsOf(config)).filter(([key]) => hostOf(key) !== host);
    if (kept.length < Object.keys(authsOf(config)).length) {
      await save({ ...config, auths: Object.fromEntries(kept) });
    }
    return known;
  }

  return { get, store, erase };
}

/** A file that is a symlink stays one: what it points at is replaced. */
async function realFile(file: HostPath): Promise<HostPath> {
  try {
    return (await realpath(file)) as HostPath;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return file;
    throw diskError(error, `looking at ${file}`);
  }
}

async function readConfig(file: HostPath): Promise<JsonObject> {
  let content: string;
  try {
    content = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return {};
    throw diskError(error, `reading ${file}`);
  }
  try {
    const config: unknown = JSON.parse(content);
    if (isObject(config)) return config;
  } catch (error) {
    throw new MachineError('config-invalid', `${file} is no JSON`, {
      hint: 'repair or remove it',
      cause: error,
    });
  }
  throw new MachineError('config-invalid', `${file} is no JSON object`, { hint: 'repair or remove it' });
}

function keyOf(host: string): string {
  return host === 'docker.io' ? HUB_KEY : host;
}

/** Keys are hosts or, from old versions, URLs. */
function hostOf(key: string): string {
  const host = key.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host;
}

function authsOf(config: JsonObject): JsonObject {
  return isObject(config['auths']) ? config['auths'] : {};
}

function helperFor(host: string, config: JsonObject): string | undefined {
  const perHost = isObject(config['credHelpers']) ? textField(config['credHelpers'], keyOf(host)) : undefined;
  const perHub =
    host === 'docker.io' && isObject(config['credHelpers'])
      ? textField(config['credHelpers'], host)
      : undefined;
  const helper = perHost ?? perHub ?? textField(config, 'credsStore');
  if (helper === undefined || helper === '') return undefined;
  if (HELPER.test(helper)) return helper;
  throw new MachineError(
    'config-invalid',
    `${JSON.stringify(helper)} is no possible name of a credential helper`,
    {
      hint: "correct credsStore or credHelpers in Docker's config.json",
    },
  );
}

function fromAuths(host: string, config: JsonObject): Credentials | undefined {
  const entry = Object.entries(authsOf(config)).find(([key]) => hostOf(key) === host)?.[1];
  if (!isObject(entry)) return undefined;
  const identity = textField(entry, 'identitytoken');
  if (identity !== undefined && identity !== '') return { kind: 'identity', token: identity };
  const bearer = textField(entry, 'registrytoken');
  if (bearer !== undefined && bearer !== '') return { kind: 'bearer', token: bearer };
  const auth = Buffer.from(textField(entry, 'auth') ?? '', 'base64').toString('utf8');
  const colon = auth.indexOf(':');
  const username = colon === -1 ? textField(entry, 'username') : auth.slice(0, colon);
  const password = colon === -1 ? textField(entry, 'password') : auth.slice(colon + 1).replace(/\0+$/, '');
  if (username === undefined || username === '' || password === undefined) return undefined;
  return { kind: 'basic', username, password };
}

function authEntry(credentials: Extract<Credentials, { kind: 'basic' | 'identity' }>): JsonObject {
  if (credentials.kind === 'identity') return { identitytoken: credentials.token };
  return { auth: Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64') };
}

async function askHelper(
  helper: string,
  host: string,
  options: CredentialStoreOptions,
): Promise<Credentials | undefined> {
  const output = await runHelper({ helper, verb: 'get', input: keyOf(host) }, options);
  if (output === undefined) return undefined;
  let answer: unknown;
  try {
    answer = JSON.parse(output);
  } catch (error) {
    throw helperFailed(helper, 'its answer is no JSON', error);
  }
  const username = isObject(answer) ? textField(answer, 'Username') : undefined;
  const secret = isObject(answer) ? textField(answer, 'Secret') : undefined;
  if (username === undefined || secret === undefined)
    throw helperFailed(helper, 'it gave no Username and Secret');
  return username === '<token>'
    ? { kind: 'identity', token: secret }
    : { kind: 'basic', username, password: secret };
}

/** The protocol of docker-credential-helpers: the request on standard input. Undefined: the helper knows no such host. */
async function runHelper(
  call: { readonly helper: string; readonly verb: 'get' | 'store' | 'erase'; readonly input: string },
  { env }: CredentialStoreOptions,
): Promise<string | undefined> {
  const { helper, verb, input } = call;
  const child = spawn(`docker-credential-${helper}`, [verb], {
    env: { ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  // A helper that does not read its input is judged by its exit code.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  try {
    const [output, errors, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    if (code === 0) return output;
    const said = `${output}${errors}`.trim();
    if (/credentials not found/i.test(said)) return undefined;
    throw helperFailed(helper, said === '' ? `it ended with exit code ${code}` : said);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw helperFailed(helper, 'there is no such program', error);
    throw error;
  }
}

function helperFailed(helper: string, reason: string, cause?: unknown): MachineError {
  return new MachineError('credential-helper', `docker-credential-${helper}: ${reason}`, {
    hint: "install it, or take it out of credsStore and credHelpers in Docker's config.json",
    cause,
  });
}
