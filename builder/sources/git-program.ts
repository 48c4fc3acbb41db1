import { spawn } from 'node:child_process';
import { type HostPath, MachineError } from '../../core/index.ts';

export interface GitProgramOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Host keys that were met, kept from one connection to the next. */
  readonly knownHosts: HostPath;
  /** Of the authorities to trust, in a file; absent or undefined: those that git trusts by itself. */
  readonly certificates?: () => Promise<HostPath | undefined>;
}

export interface GitCall {
  readonly cwd?: string;
  /** Protocols that this call, and what it starts, may use. Absent: those that reach another machine. */
  readonly protocols?: readonly string[];
  /** Which SSH agent may be asked for keys; absent: none. */
  readonly agent?: HostPath | 'own';
  /** A header for requests to `remote`. */
  readonly authorization?: string;
  readonly remote?: string;
  readonly signal: AbortSignal;
}

/** Runs the system's git. @returns its standard output. @throws GitFailure, MachineError `git-missing`, the signal's reason */
export type GitProgram = (args: readonly string[], call: GitCall) => Promise<string>;

/** git said no: `stderr` is its own words. */
export class GitFailure extends Error {
  override readonly name = 'GitFailure';
  readonly stderr: string;

  constructor(stderr: string) {
    super(stderr);
    this.stderr = stderr;
  }
}

/** `file` and `ext` are never among them: a repository could otherwise name this machine's files as its submodules. */
const REMOTE_PROTOCOLS = ['http', 'https', 'ssh', 'git'];
const MAX_OUTPUT_BYTES = 32 * 2 ** 20;
/** A transfer with less than a byte a second over this time is dead. */
const STALL_SECONDS = 120;
const PROXIES = [
  'http_proxy',
  'https_proxy',
  'no_proxy',
  'all_proxy',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'ALL_PROXY',
];

/** Settings that outrank those of any repository: nothing that a repository brings is run, nothing goes on in the background. */
const SETTINGS = [
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'core.logAllRefUpdates=false',
  'credential.helper=',
  'fetch.recurseSubmodules=false',
  'gc.auto=0',
  'maintenance.auto=false',
  'pack.threads=1',
  'advice.detachedHead=false',
  'init.defaultBranch=main',
];

/**
 * The system's git in a closed environment: no configuration of the machine or the user, no hooks, no prompts, and no keys but
 * those of an agent that is handed in. Its files are made with the modes that the reference promises (umask 022).
 */
export function createGitProgram(options: GitProgramOptions): GitProgram {
  const path = options.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin';
  const settings = SETTINGS.flatMap((setting) => ['-c', setting]);
  return async (args, call) => {
    const certificates = await options.certificates?.();
    const env = environment(options, call, path);
    if (certificates !== undefined) env['GIT_SSL_CAINFO'] = certificates;
    return run([...settings, ...args], env, call);
  };
}

function environment(options: GitProgramOptions, call: GitCall, path: string): Record<string, string> {
  const agent = call.agent === 'own' ? options.env['SSH_AUTH_SOCK'] : call.agent;
  const proxies = PROXIES.flatMap((name) => {
    const value = options.env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...Object.fromEntries(proxies),
    PATH: path,
    LC_ALL: 'C',
    HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_ATTR_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '/bin/false',
    SSH_ASKPASS: '/bin/false',
    GIT_ALLOW_PROTOCOL: (call.protocols ?? REMOTE_PROTOCOLS).join(':'),
    GIT_HTTP_LOW_SPEED_LIMIT: '1',
    GIT_HTTP_LOW_SPEED_TIME: String(STALL_SECONDS),
    GIT_SSH_COMMAND: sshCommand(options.knownHosts),
    GIT_SSH_VARIANT: 'ssh',
    ...(agent === undefined ? {} : { SSH_AUTH_SOCK: agent }),
    ...headerFor(call),
  };
}

/** In the environment: other users can read a program's arguments. */
function headerFor({ authorization, remote }: GitCall): Record<string, string> {
  if (authorization === undefined || remote === undefined) return {};
  return {
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: `http.${remote}.extraHeader`,
    GIT_CONFIG_VALUE_0: `Authorization: ${authorization}`,
  };
}

/** A host's key is taken when it is first met, and must stay the same from then on. */
function sshCommand(knownHosts: HostPath): string {
  const options = [
    'BatchMode=yes',
    'IdentityFile=none',
    'ForwardAgent=no',
    'ConnectTimeout=30',
    'ServerAliveInterval=30',
    'StrictHostKeyChecking=accept-new',
    `UserKnownHostsFile="${knownHosts}"`,
  ];
  const quoted = options.map((option) => `-o '${option.replaceAll("'", `'\\''`)}'`);
  return `ssh -F /dev/null ${quoted.join(' ')}`;
}

/** Whoever waits at descriptor 3 ends the whole group with this process, however that ends, or with git. */
const RUN_GIT = 'umask 022; { read -r _ <&3; kill -KILL 0; } > /dev/null 2>&1 & exec 3<&-; exec git "$@"';

function run(args: readonly string[], env: Record<string, string>, call: GitCall): Promise<string> {
  const { signal, cwd } = call;
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', RUN_GIT, 'git', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      // A group of its own: ssh and the helpers that git starts end with it.
      detached: true,
      ...(cwd === undefined ? {} : { cwd }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let bytes = 0;
    const stop = (): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    };
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_OUTPUT_BYTES) stop();
      else into.push(chunk);
    };
    signal.addEventListener('abort', stop, { once: true });
    child.stdout?.on('data', collect(stdout));
    child.stderr?.on('data', collect(stderr));
    child.on('error', reject);
    child.on('exit', () => child.stdio[3]?.destroy());
    child.on('close', (code) => {
      signal.removeEventListener('abort', stop);
      if (signal.aborted) return reject(signal.reason);
      if (code === 0) return resolve(Buffer.concat(stdout).toString('utf8'));
      if (code === 127) return reject(missing());
      reject(new GitFailure(Buffer.concat(stderr).toString('utf8')));
    });
  });
}

function missing(): MachineError {
  return new MachineError('git-missing', 'a Git repository is needed, and this machine has no git', {
    hint: 'Install it (on Debian: apt-get install git).',
  });
}
