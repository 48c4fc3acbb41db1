import { spawn } from 'node:child_process';
import { mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import {
  type BuildSession,
  errnoOf,
  fsPath,
  type HostPath,
  MachineError,
  UsageError,
} from '../core/index.ts';
import type { Environment } from './argv/pairs.ts';
import type { AgentSource, SecretSource } from './argv/session-options.ts';

/** The largest secret that BuildKit takes. */
const MOST_BYTES = 500 * 1024;

export interface SessionOptions {
  readonly secrets: readonly SecretSource[];
  readonly agents: readonly AgentSource[];
  readonly env: Environment;
  /** For the sockets of agents that are started here. */
  readonly temporaryFolder: string;
}

/**
 * Lends what `--secret` and `--ssh` name. Values are read when a step asks for them, and are kept nowhere. Disposal ends the agents that were
 * started for keys; they also end with this process, however it ends.
 *
 * @throws UsageError where a file, a socket or a key that was named is not there.
 */
export async function openSession(options: SessionOptions): Promise<BuildSession & AsyncDisposable> {
  const { secrets, agents, env, temporaryFolder } = options;
  for (const secret of secrets) await checkSecret(secret);
  const sockets = new Map<string, () => Promise<HostPath>>();
  const cleanup = new AsyncDisposableStack();
  for (const agent of new Map(agents.map((one) => [JSON.stringify(one), one])).values()) {
    if (sockets.has(agent.id)) {
      throw new UsageError(`--ssh ${agent.id} is given twice`, 'Give each agent an id of its own.');
    }
    const found = await findAgent(agent, env);
    let started: Promise<HostPath> | undefined;
    sockets.set(agent.id, async () => {
      if (found.kind === 'socket') return found.path;
      started ??= startAgent(found.keys, { temporaryFolder, env, cleanup });
      return started;
    });
  }
  const byId = new Map(secrets.map((secret) => [secret.id, secret]));
  return {
    secret: async (id) => {
      const secret = byId.get(id);
      return secret === undefined ? undefined : readSecretValue(secret, env);
    },
    agent: async (id) => sockets.get(id)?.(),
    [Symbol.asyncDispose]: () => cleanup.disposeAsync(),
  };
}

async function checkSecret({ id, from }: SecretSource): Promise<void> {
  if (from.kind === 'variable') return;
  const found = await look(from.path, `--secret id=${id}`);
  if (!found.isFile() && !found.isFIFO() && !found.isCharacterDevice())
    throw new UsageError(`--secret id=${id}: ${from.path} is no file`);
  if (found.size > MOST_BYTES) throw tooLarge(id, found.size);
}

function tooLarge(id: string, bytes: number): UsageError {
  return new UsageError(`--secret id=${id}: ${bytes} bytes are too many, a secret may have ${MOST_BYTES}`);
}

async function look(path: HostPath, flag: string) {
  try {
    return await stat(fsPath(path));
  } catch (error) {
    throw new UsageError(`${flag}: cannot read ${path}: ${errnoOf(error) ?? 'unknown error'}`);
  }
}

/** An absent variable is an absent secret. */
async function readSecretValue(
  { id, from }: SecretSource,
  env: Environment,
): Promise<Uint8Array | undefined> {
  if (from.kind === 'variable') {
    const value = env[from.name];
    return value === undefined ? undefined : Buffer.from(value);
  }
  try {
    const value = await readFile(fsPath(from.path));
    if (value.length > MOST_BYTES) throw tooLarge(id, value.length);
    return value;
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new MachineError(
      'secret-unreadable',
      `secret ${id}: cannot read ${from.path}: ${errnoOf(cause) ?? 'unknown error'}`,
      {
        hint: 'Look at the file that --secret names.',
        cause,
      },
    );
  }
}

type FoundAgent =
  | { readonly kind: 'socket'; readonly path: HostPath }
  | { readonly kind: 'keys'; readonly keys: readonly HostPath[] };

async function findAgent({ id, paths }: AgentSource, env: Environment): Promise<FoundAgent> {
  const flag = `--ssh ${id}`;
  if (paths.length === 0) {
    const path = env['SSH_AUTH_SOCK'] ?? '';
    if (path === '') {
      throw new UsageError(
        `${flag}: there is no agent, SSH_AUTH_SOCK is not set`,
        `Start one with ssh-agent, or name a key: --ssh ${id}=KEY.`,
      );
    }
    const found = await look(path as HostPath, `${flag}: SSH_AUTH_SOCK`);
    if (!found.isSocket()) throw new UsageError(`${flag}: SSH_AUTH_SOCK: ${path} is no socket`);
    return { kind: 'socket', path: path as HostPath };
  }
  const kinds = new Set<FoundAgent['kind']>();
  for (const path of paths) {
    const found = await look(path, flag);
    kinds.add(found.isSocket() ? 'socket' : 'keys');
  }
  const [path] = paths;
  if (kinds.has('keys') && kinds.size === 1) return { kind: 'keys', keys: paths };
  if (path !== undefined && paths.length === 1) return { kind: 'socket', path };
  throw new UsageError(`${flag}: invalid combination of keys and sockets`, 'Give one socket, or keys only.');
}

/**
 * Keeps the agent until standard input ends, which this process holds open, then removes its folder: this process may have been killed.
 * `ssh-agent COMMAND` would end by itself, but looks for its child every ten seconds only, and has the keys for so long.
 */
const KEEP_AGENT = `command -v ssh-agent > /dev/null || exit 127
exec 3<&0
ssh-agent -D -a "$1" & agent=$!
{ cat <&3; kill $agent; } > /dev/null 2>&1 &
exec 3<&-
wait $agent
rm -rf "\${1%/*}"`;

const NOT_FOUND = 127;

/** An agent of the system's with these keys. */
async function startAgent(
  keys: readonly HostPath[],
  {
    temporaryFolder,
    env,
    cleanup,
  }: { readonly temporaryFolder: string; readonly env: Environment; readonly cleanup: AsyncDisposableStack },
): Promise<HostPath> {
  const folder = await mkdtemp(join(temporaryFolder, 'varve-agent-'));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const socket = join(folder, 'socket');
  const { PATH, HOME } = env;
  const child = spawn('sh', ['-c', KEEP_AGENT, 'sh', socket], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    env: { PATH, HOME },
  });
  const complaint = collect(child.stderr);
  const ended = new Promise<number | null>((done) => child.once('close', done));
  cleanup.defer(async () => {
    child.stdin.end();
    await ended;
  });
  // Once it listens, it says where.
  const listens = new Promise<'listens'>((resolve) => child.stdout.once('data', () => resolve('listens')));
  const began = await Promise.race([listens, ended]);
  if (began !== 'listens') {
    const reason = began === NOT_FOUND ? 'it is not installed' : complaint();
    throw new MachineError('no-ssh-agent', `cannot start ssh-agent: ${reason}`, {
      hint: 'Install openssh-client, or give the socket of a running agent.',
    });
  }
  for (const key of keys) await addKey(key, { PATH, HOME, SSH_AUTH_SOCK: socket });
  return socket as HostPath;
}

/** Keys come in by standard input, so that their files' modes do not matter; without a terminal nobody is asked for a passphrase. */
async function addKey(key: HostPath, env: Environment): Promise<void> {
  await using file = await open(fsPath(key));
  const child = spawn('ssh-add', ['-q', '-'], {
    stdio: [file.fd, 'ignore', 'pipe'],
    detached: true,
    env: { ...env, SSH_ASKPASS_REQUIRE: 'never' },
  });
  const complaint = collect(child.stderr);
  const code = await new Promise((resolve, reject) => child.once('close', resolve).once('error', reject));
  if (code === 0) return;
  throw new MachineError('ssh-key-unusable', `ssh-add does not take the key ${key}: ${complaint()}`, {
    hint: 'A key with a passphrase must be added to an agent first; give --ssh that agent.',
  });
}

/** What comes from a stream, so far. */
function collect(stream: Readable | null): () => string {
  const chunks: Buffer[] = [];
  stream?.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString().trim() || 'no reason given';
}
