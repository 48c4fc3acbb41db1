import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  DEFAULT_SHM_BYTES,
  type HostPath,
  ROOT_PATH,
  ROOT_USER,
  type Runner,
  type SandboxIo,
  type SandboxOutcome,
  type SandboxSpec,
} from '../../core/index.ts';
import { createRunner, type RunnerOptions } from '../runner.ts';

/** Whether this machine can make sandboxes for tests. */
export const CAN_SANDBOX = process.getuid?.() === 0;

const tested = process.env['VARVE_NATIVE'];

/** The native program that tests try: the one of `VARVE_NATIVE`, else the built one. */
export const TESTED_NATIVE: Pick<RunnerOptions, 'nativeProgram'> =
  tested === undefined ? {} : { nativeProgram: tested };

/** Mount point of a line of `mountinfo`, proc(5). */
const MOUNT_POINT = 4;

/** The machine's mounts, line by line, but for what others have mounted in temporary folders beside `folder` meanwhile. */
export function machineMounts(folder: string): string {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const isOthers = (point: string) => point.startsWith(`${tmpdir()}/`) && !point.startsWith(folder);
  return lines.filter((line) => !isOthers(line.split(' ')[MOUNT_POINT] ?? '')).join('\n');
}

/** What a sandboxed command did. */
export interface Ran {
  readonly outcome: SandboxOutcome;
  readonly stdout: string;
  readonly stderr: string;
}

/** `attack`: the image has `/bin/attack`, see attack.c. */
export type BoxOptions = Omit<RunnerOptions, 'tempFolder'> & { readonly attack?: boolean };

type StartOptions = NonNullable<Parameters<Runner['start']>[2]>;

/** A busybox image on disk with a writable layer on top, and a runner for it. */
export class Box {
  readonly folder: string;
  readonly lower: string;
  readonly upper: string;
  readonly runner: Runner;

  private constructor(folder: string, options: Omit<RunnerOptions, 'tempFolder'>) {
    this.folder = folder;
    this.lower = join(folder, 'lower');
    this.upper = join(folder, 'upper');
    this.runner = createRunner({ tempFolder: folder, ...options });
  }

  static make({ attack, ...options }: BoxOptions = {}): Box {
    const box = new Box(mkdtempSync(join(tmpdir(), 'varve-box-')), { ...TESTED_NATIVE, ...options });
    for (const name of ['lower/bin', 'lower/tmp', 'upper', 'work'])
      mkdirSync(join(box.folder, name), { recursive: true });
    cpSync('/bin/busybox', join(box.lower, 'bin/busybox'), { dereference: true });
    execFileSync('chroot', [box.lower, '/bin/busybox', '--install', '-s', '/bin']);
    if (attack) compileAttack(join(box.lower, 'bin/attack'));
    return box;
  }

  spec(changes: Partial<SandboxSpec> = {}): SandboxSpec {
    return {
      root: {
        type: 'overlay',
        lowers: [this.lower as HostPath],
        writable: { upper: this.upper as HostPath, work: join(this.folder, 'work') as HostPath },
        userXattrs: false,
      },
      readonlyRoot: false,
      mounts: [],
      args: ['true'],
      env: ['PATH=/bin'],
      cwd: ROOT_PATH,
      user: ROOT_USER,
      hostname: 'box',
      network: 'none',
      extraHosts: [],
      limits: {},
      shmSizeBytes: DEFAULT_SHM_BYTES,
      security: 'default',
      noNewPrivileges: false,
      id: 'test',
      ...changes,
    };
  }

  /** Runs `args` to its end and collects what it wrote. */
  async run(
    args: readonly string[],
    changes: Partial<SandboxSpec> = {},
    options: StartOptions & { readonly io?: Partial<SandboxIo> } = {},
  ): Promise<Ran> {
    const chunks = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
    const io: SandboxIo = {
      mode: 'pipe',
      onOutput: (stream, chunk) => chunks[stream].push(chunk),
      ...options.io,
    };
    const started = await this.runner.start(this.spec({ args, ...changes }), io, options);
    const outcome = await started.outcome;
    const text = (list: Uint8Array[]) => Buffer.concat(list).toString();
    return { outcome, stdout: text(chunks.stdout), stderr: text(chunks.stderr) };
  }

  /** Runs a shell script. */
  sh(
    script: string,
    changes: Partial<SandboxSpec> = {},
    options: Parameters<Box['run']>[2] = {},
  ): Promise<Ran> {
    return this.run(['sh', '-c', script], changes, options);
  }

  /** One attempt of attack.c: `ok`, or the name of the error. */
  async attack(name: string, argument = '', changes: Partial<SandboxSpec> = {}): Promise<string> {
    const { stdout, outcome } = await this.run(['attack', name, argument], changes);
    const [last = JSON.stringify(outcome)] = stdout.trim().split(`${name} `).slice(-1);
    return last;
  }

  /** Everything that sandboxes left in the writable layer. */
  left(): readonly string[] {
    return readdirSync(this.upper, { recursive: true, encoding: 'utf8' }).sort();
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function compileAttack(output: string): void {
  const source = fileURLToPath(new URL('./attack.c', import.meta.url));
  execFileSync('cc', ['-std=gnu11', '-O1', '-static', '-o', output, source]);
}

/** The processes that this one has started and that still run; in place of servers of the native program, theirs. */
export function childProcesses(pid: number = process.pid): readonly number[] {
  return startedBy(pid).flatMap((child) => (isServer(child) ? startedBy(child) : child));
}

/** The server of the native program that this process has started. */
export function serverProcess(pid: number = process.pid): number | undefined {
  return startedBy(pid).find(isServer);
}

/** Ends the server that runs `program`, and waits until nobody runs it any more. */
export async function endServer(program: string): Promise<void> {
  const { ino } = statSync(program);
  const server = startedBy(process.pid).find(
    (pid) => isServer(pid) && statSync(`/proc/${pid}/exe`).ino === ino,
  );
  if (server === undefined) return;
  process.kill(server, 'SIGKILL');
  while (existsSync(`/proc/${server}/exe`)) await sleep(5);
}

function startedBy(pid: number): readonly number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
  );
}

function isServer(pid: number): boolean {
  return readFileSync(`/proc/${pid}/comm`, 'utf8') === 'varve-native\n';
}
