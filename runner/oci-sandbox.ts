import { type ChildProcess, spawn } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  errnoOf,
  MachineError,
  type Mount,
  type RootMount,
  type SandboxIo,
  type SandboxOutcome,
  type SandboxSpec,
} from '../core/index.ts';
import { capabilitiesOf } from './docker-defaults.ts';
import { GET_NATIVE } from './native-program.ts';
import { toOciConfig } from './oci-config.ts';

/** A sandbox made by an OCI runtime, for machines on which the native program could not be compiled. */
export interface OciSandbox {
  readonly outcome: Promise<SandboxOutcome>;
  signal(signal: NodeJS.Signals): void;
  kill(): void;
}

export interface OciRequest {
  /** Path of runc or crun. */
  readonly runtime: string;
  readonly spec: SandboxSpec;
  /** The spec's mounts and those of /etc, in the order in which they are mounted. */
  readonly mounts: readonly Mount[];
  readonly io: SandboxIo;
  readonly tempFolder: string;
}

/**
 * Mounts the root in a private mount namespace and runs the runtime there. Everything is killed when descriptor 3 ends, which
 * it does when varve dies. The two `cat` make pipes of Node's sockets: a socket cannot be opened again as /dev/stdout.
 */
const SCRIPT = `
folder=$1 runtime=$2 id=$3
. "$folder/mounts.sh" || exit 1
{
  while read -r _ <&3; do :; done
  while [ ! -e "$folder/status" ]; do
    "$runtime" --root "$folder/state" kill "$id" KILL 2>/dev/null
    sleep 0.05
  done
} >/dev/null 2>&1 &
watcher=$!
exec 3<&-
( { "$runtime" --root "$folder/state" --log "$folder/log" --log-format json run --bundle "$folder" "$id"
    echo $? > "$folder/status"; } 2>&1 1>&4 | cat >&2 ) 4>&1 | cat
kill $watcher 2>/dev/null
exit 0
`;

/** The page that mount(2) takes its options in. */
const LONGEST_OPTIONS = 4000;

/** Starts the sandbox. @throws MachineError `no-sandbox` for what only the native program can do. */
export function startOciSandbox(request: OciRequest): OciSandbox {
  const { spec } = request;
  const wanted = onlyNative(request);
  if (wanted !== undefined && spec.hooks !== undefined && spec.hooks.length > 0) {
    throw new MachineError('no-sandbox', `${wanted} and a device that asks for hooks do not go together`, {
      hint: 'Use them in two steps.',
    });
  }
  if (wanted !== undefined) {
    throw new MachineError('no-sandbox', `${wanted} needs varve’s native program, which is not installed`, {
      hint: GET_NATIVE,
    });
  }
  const folder = mkdtempSync(join(request.tempFolder, 'varve-oci-'));
  try {
    const before = stubCandidates(request);
    writeBundle(folder, request);
    const child = spawnScript(folder, request);
    const outcome = finish(child, folder, request).finally(() => {
      for (const remove of before) remove();
      rmSync(folder, { recursive: true, force: true });
    });
    const control = child.stdio[3];
    return {
      outcome,
      kill: () => {
        if (control instanceof Writable) control.end();
      },
      signal: (signal) => {
        spawn(request.runtime, ['--root', join(folder, 'state'), 'kill', containerId(spec), signal], {
          stdio: 'ignore',
        });
      },
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** What no OCI runtime is asked for here. */
function onlyNative({ spec, mounts, io }: OciRequest): string | undefined {
  if (spec.userNamespace !== undefined) return 'a user namespace';
  const secret = spec.hasSecretEnvironment === true || mounts.some(({ type }) => type === 'file');
  if (secret) return 'a secret';
  return io.mode === 'terminal' ? 'a terminal' : undefined;
}

function containerId(spec: SandboxSpec): string {
  return `varve-${process.pid}-${spec.id}`;
}

function writeBundle(folder: string, { spec, mounts }: OciRequest): void {
  mkdirSync(join(folder, 'state'));
  const lines = ['mount --make-rprivate / || exit 1'];
  const place = (root: RootMount, name: string): string => {
    const path = join(folder, name);
    mkdirSync(path);
    lines.push(`${mountCommand(root, path)} || exit 1`);
    return path;
  };
  const rootPath = place(spec.root, 'root');
  const trees = mounts.flatMap((mount, number) =>
    mount.type === 'tree' ? [[mount.target as string, place(mount.root, `tree${number}`)] as const] : [],
  );
  const bundle = {
    rootPath,
    mounts,
    treePaths: new Map(trees),
    cgroupsPath: `/${spec.cgroupParent ?? 'varve-oci'}/${containerId(spec)}`,
    architecture: thisArchitecture(),
    ownCapabilities: ownCapabilities(),
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(toOciConfig(spec, bundle)));
  writeFileSync(join(folder, 'mounts.sh'), `${lines.join('\n')}\n`);
}

function ownCapabilities(): readonly string[] {
  const set = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return capabilitiesOf(set ?? '0');
}

function thisArchitecture(): 'x64' | 'arm64' {
  return process.arch === 'arm64' ? 'arm64' : 'x64';
}

function mountCommand(root: RootMount, path: string): string {
  if (root.type === 'directory') {
    return `mount --bind ${quote(root.path)} ${quote(path)}`;
  }
  // Colons part the folders, commas the options (mount(8), overlay).
  const escaped = (text: string) => text.replace(/[\\:,]/g, (char) => `\\${char}`);
  const writable = root.writable;
  const options = [
    `lowerdir=${lowersOf(root).map(escaped).join(':')}`,
    ...(writable === undefined
      ? []
      : [`upperdir=${escaped(writable.upper)}`, `workdir=${escaped(writable.work)}`]),
    ...(root.userXattrs ? ['userxattr'] : []),
  ].join(',');
  if (options.length > LONGEST_OPTIONS) {
    throw new MachineError(
      'no-sandbox',
      `${lowersOf(root).length} layers are too many to mount without varve's native program`,
      {
        hint: GET_NATIVE,
      },
    );
  }
  return `mount -t overlay overlay -o ${quote(options)} ${quote(path)}`;
}

/** Folders of all diffs, topmost first: nothing is traced here. */
function lowersOf(root: Extract<RootMount, { readonly type: 'overlay' }>): readonly string[] {
  return [...(root.traced ?? []).map((home) => join(home, 'fs')), ...root.lowers];
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function spawnScript(folder: string, { runtime, spec, io }: OciRequest): ChildProcess {
  const out = io.mode === 'inherit' ? 'inherit' : 'pipe';
  const input = io.mode === 'inherit' ? 'inherit' : io.stdin === undefined ? 'ignore' : 'pipe';
  const child = spawn(
    'unshare',
    ['--mount', 'sh', '-c', SCRIPT, 'varve-oci', folder, runtime, containerId(spec)],
    {
      stdio: [input, out, out, 'pipe'],
      detached: true,
    },
  );
  child.stdout?.on('data', (chunk: Buffer) => io.onOutput?.('stdout', chunk));
  child.stderr?.on('data', (chunk: Buffer) => io.onOutput?.('stderr', chunk));
  if (io.stdin !== undefined && child.stdin !== null) {
    // EPIPE: the program has closed its standard input, as it may.
    pipeline(io.stdin, child.stdin).catch(() => undefined);
  }
  return child;
}

async function finish(child: ChildProcess, folder: string, { runtime }: OciRequest): Promise<SandboxOutcome> {
  await new Promise((resolve, reject) => {
    child.once('error', (cause) => reject(new MachineError('no-sandbox', 'cannot start unshare', { cause })));
    child.once('close', resolve);
  });
  const complaint = readComplaint(join(folder, 'log'));
  if (complaint !== undefined) return judge(complaint, runtime);
  const code = Number(readIfThere(join(folder, 'status')).trim() || Number.NaN);
  if (Number.isNaN(code))
    throw new MachineError('sandbox-setup', `the root of the sandbox cannot be mounted`);
  return { kind: 'exited', code };
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

/** The runtime's own last error; its warnings are of no interest. */
function readComplaint(path: string): string | undefined {
  const lines = readIfThere(path).split('\n').filter(Boolean);
  const errors = lines.filter(
    (line) => line.includes('"level":"error"') || line.includes('"level": "error"'),
  );
  const last = errors.at(-1);
  if (last === undefined) return undefined;
  const entry: unknown = JSON.parse(last);
  return typeof entry === 'object' && entry !== null && 'msg' in entry ? String(entry.msg) : last;
}

/** Sorts a program that cannot be started from a sandbox that cannot be made. */
function judge(complaint: string, runtime: string): SandboxOutcome {
  const message = /exec: ".*|executable file .*not found.*/.exec(complaint)?.[0];
  if (message === undefined) throw new MachineError('sandbox-setup', `${runtime}: ${complaint}`);
  return { kind: 'not-started', code: /not found|no such file/.test(message) ? 127 : 126, message };
}

/** For each place that the runtime may make for a mount: a call that takes it out of the writable layer again. */
function stubCandidates({ spec, mounts }: OciRequest): readonly (() => void)[] {
  const folders = layersOf(spec.root);
  if (folders === undefined) return [];
  const { upper, lowers } = folders;
  const targets = ['proc', 'sys', 'dev', ...mounts.map((mount) => mount.target as string)];
  const withParents = targets.flatMap((target) =>
    target.split('/').map((_part, index, parts) => parts.slice(0, parts.length - index).join('/')),
  );
  const absent = [...new Set(withParents)].filter((path) =>
    [upper, ...lowers].every((folder) => statusOf(join(folder, path)) === undefined),
  );
  return absent.toSorted((a, b) => b.length - a.length).map((path) => () => removeStub(join(upper, path)));
}

/** Where a writable root keeps what is new, and the folders below; undefined for a root that is only read. */
function layersOf(
  root: RootMount,
): { readonly upper: string; readonly lowers: readonly string[] } | undefined {
  if (root.type === 'directory') return root.readonly ? undefined : { upper: root.path, lowers: [] };
  return root.writable === undefined ? undefined : { upper: root.writable.upper, lowers: lowersOf(root) };
}

function statusOf(path: string) {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** Folders on the way are the upper folder's own: the kernel copies none up as a symlink. Whatever has content stays. */
function removeStub(path: string): void {
  const status = statusOf(path);
  if (status === undefined || (!status.isDirectory() && (!status.isFile() || status.size > 0))) return;
  const above = lstatSync(dirname(path));
  try {
    if (status.isDirectory()) rmdirSync(path);
    else unlinkSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOTEMPTY') return;
    throw error;
  }
  utimesSync(dirname(path), above.atime, above.mtime);
}
