import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tryExec } from '../fixtures/index.ts';

export interface RunningDocker extends AsyncDisposable {
  /** The command line's words up to the command: client and socket. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly version: string;
}

/** Why no daemon could be started, for people. */
export interface NoDocker {
  readonly reason: string;
}

const STORAGE_DRIVERS = ['overlay2', 'vfs'];
/** Debian's client before any other on the path: it knows BuildKit without a plugin. */
const CLIENT = existsSync('/usr/bin/docker') ? '/usr/bin/docker' : 'docker';

/** Debian's dockerd with its socket and all of its data in `folder`, with the first storage driver that works here. */
export async function startDocker(folder: string): Promise<RunningDocker | NoDocker> {
  const reasons: string[] = [];
  for (const driver of STORAGE_DRIVERS) {
    const place = join(folder, driver);
    await mkdir(place, { recursive: true });
    const started = await startDaemon(place, driver);
    if (!('reason' in started)) return started;
    reasons.push(`${driver}: ${started.reason}`);
  }
  return { reason: `dockerd does not start here (${reasons.join('; ')})` };
}

async function startDaemon(place: string, driver: string): Promise<RunningDocker | NoDocker> {
  const config = join(place, 'daemon.json');
  await writeFile(config, '{}');
  const socket = `unix://${join(place, 'docker.sock')}`;
  const flags = [
    `--config-file=${config}`,
    `--host=${socket}`,
    `--data-root=${join(place, 'data')}`,
    `--exec-root=${join(place, 'exec')}`,
    `--pidfile=${join(place, 'dockerd.pid')}`,
    `--storage-driver=${driver}`,
    // Builds use the machine's network: no bridge, and the machine's packet filter stays as it is.
    '--bridge=none',
    '--iptables=false',
    '--ip6tables=false',
    '--exec-opt=native.cgroupdriver=cgroupfs',
  ];
  // Its mounts end with it: they are made in a mount namespace of its own.
  const daemon = spawn('unshare', ['--mount', '--propagation', 'private', 'dockerd', ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  daemon.stderr?.on('data', (chunk: Buffer) => {
    log += chunk.toString();
  });
  let failure: string | undefined;
  daemon.on('error', (error) => {
    failure = error.message;
  });
  daemon.on('exit', () => {
    failure ??= log.trim().split('\n').at(-1) ?? '';
  });
  const command = [CLIENT, '-H', socket];
  const env = { DOCKER_BUILDKIT: '1', DOCKER_CONFIG: place };
  while (failure === undefined) {
    const asked = await tryExec([...command, 'version', '--format', '{{.Server.Version}}'], { env });
    if (asked.code === 0) {
      return { command, env, version: asked.stdout.trim(), [Symbol.asyncDispose]: () => stop(daemon) };
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return { reason: failure };
}

async function stop(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null || daemon.signalCode !== null) return;
  const ended = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  await ended;
}
