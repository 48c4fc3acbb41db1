import { spawn } from 'node:child_process';
import { mkdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf, MachineError } from '../core/index.ts';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** Docker Hub's name in `config.json`. */
const HUB_KEY = 'https://index.docker.io/v1/';

/** How `config.json` calls a registry host. */
export function serverKey(host: string): string {
  return host === 'docker.io' || host === 'index.docker.io' || host === 'registry-1.docker.io'
    ? HUB_KEY
    : host;
}

/**
 * Keeps credentials where Docker keeps them: with the credential helper that `config.json` names for the host, else in
 * the file itself (base64, mode 0600). Other keys of the file are left as they are.
 *
 * @returns where they are: the helper's name or the file.
 */
export async function storeCredentials(
  folder: string,
  host: string,
  credentials: Credentials,
): Promise<string> {
  const config = await readConfig(folder);
  const key = serverKey(host);
  const helper = helperFor(config.json, key);
  if (helper !== undefined) {
    const { username: Username, password: Secret } = credentials;
    await runHelper(helper, 'store', JSON.stringify({ ServerURL: key, Username, Secret }));
    return helper;
  }
  const auth = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
  await writeConfig(config, {
    ...config.json,
    auths: { ...objectAt(config.json, 'auths'), [key]: { auth } },
  });
  return config.file;
}

/** Takes credentials away. @returns false where there were none in the file and no helper is in charge. */
export async function eraseCredentials(folder: string, host: string): Promise<boolean> {
  const config = await readConfig(folder);
  const key = serverKey(host);
  const helper = helperFor(config.json, key);
  if (helper !== undefined) await runHelper(helper, 'erase', key);
  const auths = { ...objectAt(config.json, 'auths') };
  if (!Object.hasOwn(auths, key)) return helper !== undefined;
  delete auths[key];
  await writeConfig(config, { ...config.json, auths });
  return true;
}

interface DockerConfig {
  readonly file: string;
  readonly json: Readonly<Record<string, unknown>>;
}

async function readConfig(folder: string): Promise<DockerConfig> {
  const named = join(folder, 'config.json');
  try {
    // A config.json that is a symlink stays one: what it points at is replaced.
    const file = await realpath(named);
    const json: unknown = JSON.parse(await readFile(file, 'utf8'));
    if (isObject(json)) return { file, json };
    throw new SyntaxError('not a JSON object');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { file: named, json: {} };
    if (errnoOf(error) === undefined && !(error instanceof SyntaxError)) throw error;
    const what = errnoOf(error) ?? (error instanceof Error ? error.message : '');
    throw new MachineError('credentials-unreadable', `cannot read ${named}: ${what}`, { cause: error });
  }
}

async function writeConfig(config: DockerConfig, json: unknown): Promise<void> {
  const temporary = `${config.file}.${process.pid}.tmp`;
  try {
    await mkdir(dirname(config.file), { recursive: true, mode: 0o700 });
    await writeFile(temporary, `${JSON.stringify(json, null, '\t')}\n`, { mode: 0o600, flag: 'wx' });
    await rename(temporary, config.file);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    await rm(temporary, { force: true });
    throw new MachineError('credentials-unwritable', `cannot write ${config.file}: ${errnoOf(error)}`, {
      cause: error,
    });
  }
}

function helperFor(json: DockerConfig['json'], key: string): string | undefined {
  const own = objectAt(json, 'credHelpers')[key];
  if (typeof own === 'string' && own !== '') return own;
  const store = json['credsStore'];
  return typeof store === 'string' && store !== '' ? store : undefined;
}

/** One call of the credential helper protocol (docker/docker-credential-helpers): input on stdin, errors on stdout. */
async function runHelper(name: string, verb: 'store' | 'erase', input: string): Promise<void> {
  const program = `docker-credential-${name}`;
  const child = spawn(program, [verb], { stdio: ['pipe', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  // A helper that ends without reading is told by its exit code.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('close', resolve);
    child.on('error', (cause) => {
      const message = `cannot start the credential helper ${program}`;
      const hint = 'Install it, or take it out of config.json (credsStore, credHelpers).';
      reject(new MachineError('credential-helper', message, { hint, cause }));
    });
  });
  if (code === 0) return;
  throw new MachineError(
    'credential-helper',
    `${program} ${verb} failed: ${output.trim() || `exit code ${code}`}`,
  );
}

function objectAt(json: DockerConfig['json'], key: string): Record<string, unknown> {
  const value = json[key];
  return isObject(value) ? value : {};
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
