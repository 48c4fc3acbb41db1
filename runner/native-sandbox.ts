import { type StdioOptions, spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { constants, type SignalConstants } from 'node:os';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { getSystemErrorMap } from 'node:util';
import {
  type Change,
  decodePath,
  MachineError,
  type SandboxIo,
  type TraceReport,
  UNMAPPED_ID_HINT,
} from '../core/index.ts';
import { collectEnd, type NativeServer } from './native-server.ts';
import { WireReader, WireWriter } from './native-wire.ts';
import { StoryEnd } from './story-end.ts';
import { readTrace } from './trace-wire.ts';
import { readChanges } from './tree-ops.ts';

/** How the program ended, as the supervisor saw it. */
export type NativeEnding =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signaled'; readonly signal: NodeJS.Signals; readonly signalNumber: number }
  | { readonly kind: 'not-started'; readonly code: 126 | 127; readonly message: string };

/** One supervisor process; see `runner/native/sandbox.c`. */
export interface NativeSandbox {
  /** Settles once the program runs, or can be said not to; rejects with MachineError where the set-up failed. */
  readonly started: Promise<void>;
  /** Settles when no process of the sandbox is left and all output has been delivered. */
  readonly told: Promise<NativeStory>;
  /** Settles when nothing of the sandbox is left; never rejects. */
  readonly gone: Promise<void>;
  signal(signal: NodeJS.Signals): void;
  resize(columns: number, rows: number): void;
  kill(): void;
}

/** All that a supervisor tells in the end. */
export interface NativeStory {
  readonly ending: NativeEnding;
  /** Undefined where the root has no traced diffs. */
  readonly trace: TraceReport | undefined;
  /** By target. */
  readonly mountTraces: ReadonlyMap<string, TraceReport>;
  /** Undefined where they were not asked for, or are many. */
  readonly changes: readonly Change[] | undefined;
}

const [STDIN, STDOUT, STDERR, CONTROL] = [0, 1, 2, 3];

/** A supervisor with the streams that lead to it and to its program. */
interface Supervisor {
  readonly control: Socket | undefined;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  /** What it wrote to `control` and how it ended, in words, when all streams are closed. */
  readonly ended: Promise<{ readonly records: Buffer; readonly ending: string }>;
}

/** Starts the supervisor, sends it `orders` (`encodeSandbox`) and connects the program's streams with `io`. */
export async function startNativeSandbox(
  native: NativeServer,
  orders: Buffer,
  io: SandboxIo,
): Promise<NativeSandbox> {
  const supervisor =
    io.mode === 'pipe' ? await forkSupervisor(native, io) : spawnSupervisor(native.program, io);
  const { control, stdin, stdout, stderr } = supervisor;
  const story = new Story(supervisor);
  const send = (write: (out: WireWriter) => void) => {
    if (control === undefined || control.destroyed) return;
    const out = new WireWriter(16);
    write(out);
    control.write(out.take());
  };
  control?.write(orders);
  stdout?.on('data', (chunk: Buffer) => io.onOutput?.('stdout', chunk));
  stderr?.on('data', (chunk: Buffer) => io.onOutput?.('stderr', chunk));
  const kill = () => send((out) => out.tag('K'));
  if (io.stdin !== undefined && stdin !== undefined) {
    feed(stdin, io.stdin).catch((error: unknown) => {
      story.fail(error);
      kill();
    });
  }
  return {
    started: story.started,
    told: story.told,
    gone: supervisor.ended.then(
      () => undefined,
      () => undefined,
    ),
    kill,
    signal: (name) =>
      send((out) => {
        out.tag('S');
        out.u32(constants.signals[name]);
      }),
    resize: (columns, rows) =>
      send((out) => {
        out.tag('W');
        out.u16(columns);
        out.u16(rows);
      }),
  };
}

const NOTHING = Buffer.alloc(0);

/** Settles when all of `stream` has come. */
async function closing(stream: Readable | undefined): Promise<void> {
  if (stream !== undefined && !stream.closed) await new Promise<void>((done) => stream.once('close', done));
}

async function forkSupervisor(native: NativeServer, io: SandboxIo): Promise<Supervisor> {
  const input = io.stdin === undefined ? [] : [STDIN];
  const [control, stdout, stderr, stdin] = await native.start('sandbox', [CONTROL, STDOUT, STDERR, ...input]);
  if (control === undefined || stdout === undefined || stderr === undefined)
    throw new Error('a sandbox without streams');
  // Nothing comes from there but the end.
  stdin?.resume();
  const end = collectEnd(control);
  const ended = Promise.all([end, closing(stdout), closing(stderr)]).then(([{ output, status }]) =>
    status === undefined
      ? { records: NOTHING, ending: 'its server died too' }
      : { records: output, ending: `wait status ${status}` },
  );
  return { control, stdin, stdout, stderr, ended };
}

/** With descriptors of this process, which cannot be handed to a server. */
function spawnSupervisor(program: string, io: SandboxIo): Supervisor {
  const child = spawn(program, ['sandbox'], {
    stdio: stdioOf(io),
    env: {},
    cwd: '/',
    // A session of its own: Ctrl-C in the terminal is for varve, which decides what becomes of the sandbox.
    detached: true,
  });
  const control = child.stdio[CONTROL];
  const records: Buffer[] = [];
  if (control instanceof Socket) {
    // ECONNRESET: the supervisor died; its `close` event follows.
    control.on('error', () => undefined);
    control.on('data', (chunk: Buffer) => records.push(chunk));
  }
  const ended = new Promise<{ records: Buffer; ending: string }>((resolve, reject) => {
    child.once('error', (cause) => {
      reject(new MachineError('sandbox-setup', `cannot start varve's native program`, { cause }));
    });
    child.once('close', (_code, killer) =>
      resolve({ records: Buffer.concat(records), ending: killer ?? 'no signal' }),
    );
  });
  return {
    control: control instanceof Socket ? control : undefined,
    stdin: child.stdin ?? undefined,
    stdout: child.stdout ?? undefined,
    stderr: child.stderr ?? undefined,
    ended,
  };
}

function stdioOf(io: SandboxIo): StdioOptions {
  if (io.mode === 'inherit') return ['inherit', 'inherit', 'inherit', 'pipe'];
  return [io.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'ignore', 'pipe'];
}

/** A program need not read its input: that it closed it, or has ended, is no failure. */
const READER_GONE: ReadonlySet<string> = new Set([
  'EPIPE',
  'ECONNRESET',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_STREAM_DESTROYED',
]);

/** Writes `source` to `stdin` until it ends or nobody reads any more; rejects with what the source throws. */
async function feed(stdin: Writable, source: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    await pipeline(Readable.from(source), stdin);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (!READER_GONE.has(code)) throw error;
  }
}

/** The record of a program that runs. */
const STARTED = 'R'.charCodeAt(0);

/** What the supervisor tells, record by record. */
class Story {
  readonly started: Promise<void>;
  readonly told: Promise<NativeStory>;
  readonly #start = Promise.withResolvers<void>();
  #failure: { readonly error: unknown } | undefined;

  constructor({ control, stdout, stderr, ended }: Supervisor) {
    this.started = this.#start.promise;
    const whole = Promise.withResolvers<Buffer>();
    const end = new StoryEnd();
    control?.once('data', (chunk: Buffer) => {
      if (chunk.at(0) === STARTED) this.#start.resolve();
    });
    control?.on('data', (chunk: Buffer) => {
      const records = end.add(chunk);
      if (records !== undefined) whole.resolve(records);
    });
    const delivered = Promise.all([stdout, stderr].map(closing));
    const early = whole.promise.then((records) => delivered.then(() => ({ records, ending: 'all told' })));
    this.told = Promise.race([early, ended]).then(({ records, ending }) => {
      if (this.#failure !== undefined) throw this.#failure.error;
      return readStory(records, ending);
    });
    this.told.then(() => this.#start.resolve(), this.#start.reject);
    // Whoever awaits `started` hears of a failure there; nobody need await both.
    for (const promise of [this.started, this.told]) promise.catch(() => undefined);
  }

  /** Remembers the first failure: it is what `told`, and `started` if still open, reject with. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }
}

/** @throws MachineError what the supervisor reported instead of an end, or `sandbox-lost` where it reported nothing. */
function readStory(records: Buffer, how: string): NativeStory {
  const reader = new WireReader(records.at(0) === STARTED ? records.subarray(1) : records);
  const next = () => (reader.ended ? '' : reader.tag());
  let type = next();
  let trace: TraceReport | undefined;
  const mountTraces = new Map<string, TraceReport>();
  let target: string | undefined;
  while (type === 'O' || type === 'U' || type === 'M') {
    if (type === 'M') target = decodePath(reader.bytes());
    else if (target === undefined) trace = readTrace(type, reader);
    else mountTraces.set(target, readTrace(type, reader));
    type = next();
  }
  const changes = type === 'D' ? readChanges(reader.bytes()) : undefined;
  if (type === 'D') type = next();
  const told = { trace, mountTraces, changes };
  if (type === 'E') return { ending: readWaitStatus(reader.u32()), ...told };
  if (type === 'N') {
    const code = reader.u32() === 127 ? 127 : 126;
    return { ending: { kind: 'not-started', code, message: reader.bytes().toString() }, ...told };
  }
  if (type === 'F') throw readFailure(reader);
  throw new MachineError('sandbox-lost', `the supervisor of a sandbox ended without a report (${how})`);
}

/** wait(2): the low 7 bits are the signal, the next byte the exit code. */
function readWaitStatus(status: number): NativeEnding {
  const signalNumber = status & 0x7f;
  if (signalNumber === 0) return { kind: 'exited', code: (status >> 8) & 0xff };
  return { kind: 'signaled', signal: signalName(signalNumber), signalNumber };
}

const SIGNAL_NAMES: ReadonlyMap<number, NodeJS.Signals> = new Map(
  (Object.entries(constants.signals) as [keyof SignalConstants, number][])
    // Two names of one number: the later ones are old synonyms (SIGIOT, SIGPOLL).
    .reverse()
    .map(([name, number]) => [number, name]),
);

/** Real-time signals have no name in Node; they are reported as SIGKILL's like by number. */
function signalName(number: number): NodeJS.Signals {
  return SIGNAL_NAMES.get(number) ?? 'SIGUNUSED';
}

const HINTS: Readonly<Record<string, string>> = {
  'no-sandbox': 'run varve as root',
  'trace-lost': 'run the build again; without /dev/fuse it reads its layers another way',
  'snapshot-corrupt': 'remove the cache with `varve cache prune --all`, and build again',
  'unmapped-id': UNMAPPED_ID_HINT,
  'network-failed': 'give --network host for the network of the machine, or --network none',
  'disk-full': 'free some space, or let `varve cache prune` do it',
  'mount-failed': 'mounting needs root, or a kernel that lets users mount overlays (Linux 5.11)',
};

/** The record of `runner/native/failure.h`. */
function readFailure(reader: WireReader): MachineError {
  const errno = reader.u32();
  const code = reader.bytes().toString();
  const path = decodePath(reader.bytes());
  const message = reader.bytes().toString();
  const system = errno === 0 ? '' : (getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`);
  const hint = HINTS[code];
  return new MachineError(
    code,
    [message, path, system].filter((part) => part !== '').join(': '),
    hint === undefined ? {} : { hint },
  );
}
