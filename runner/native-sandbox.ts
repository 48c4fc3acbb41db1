import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { Socket } from 'node:net';
import { constants, type SignalConstants } from 'node:os';
import { Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { getSystemErrorMap } from 'node:util';
import { decodePath, MachineError, type SandboxIo, type TraceReport } from '../core/index.ts';
import { WireReader, WireWriter } from './native-wire.ts';
import { readTrace } from './trace-wire.ts';

/** How the program ended, as the supervisor saw it. */
export type NativeEnding =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signaled'; readonly signal: NodeJS.Signals; readonly signalNumber: number }
  | { readonly kind: 'not-started'; readonly code: 126 | 127; readonly message: string };

/** One supervisor process; see `runner/native/sandbox.c`. */
export interface NativeSandbox {
  /** Settles once the program runs, or can be said not to; rejects with MachineError where the set-up failed. */
  readonly started: Promise<void>;
  /** Settles when nothing of the sandbox is left and all output has been delivered. */
  readonly ended: Promise<NativeEnding>;
  /** Settles with `ended`; undefined where the root has no traced diffs. */
  readonly trace: Promise<TraceReport | undefined>;
  signal(signal: NodeJS.Signals): void;
  resize(columns: number, rows: number): void;
  kill(): void;
}

const CONTROL = 3;

/** Starts the supervisor, sends it `orders` (`encodeSandbox`) and connects the program's streams with `io`. */
export function startNativeSandbox(program: string, orders: Buffer, io: SandboxIo): NativeSandbox {
  const child = spawn(program, ['sandbox'], {
    stdio: stdioOf(io),
    env: {},
    cwd: '/',
    // A session of its own: Ctrl-C in the terminal is for varve, which decides what becomes of the sandbox.
    detached: true,
  });
  const control = child.stdio[CONTROL];
  const story = new Story(child);
  // Without a control stream the process could not be started; the `error` event tells why.
  if (control instanceof Socket) story.listen(control);
  const send = (write: (out: WireWriter) => void) => {
    if (!(control instanceof Socket) || control.destroyed) return;
    const out = new WireWriter(16);
    write(out);
    control.write(out.take());
  };
  if (control instanceof Socket) control.write(orders);
  child.stdout?.on('data', (chunk: Buffer) => io.onOutput?.('stdout', chunk));
  child.stderr?.on('data', (chunk: Buffer) => io.onOutput?.('stderr', chunk));
  const kill = () => send((out) => out.tag('K'));
  if (io.stdin !== undefined && child.stdin !== null) {
    feed(child.stdin, io.stdin).catch((error: unknown) => {
      story.fail(error);
      kill();
    });
  }
  return {
    started: story.started,
    ended: story.ended,
    trace: story.trace,
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

function stdioOf(io: SandboxIo): StdioOptions {
  const input = io.stdin === undefined ? 'ignore' : 'pipe';
  switch (io.mode) {
    case 'inherit':
      return ['inherit', 'inherit', 'inherit', 'pipe'];
    case 'terminal':
      return [input, 'pipe', 'ignore', 'pipe'];
    case 'pipe':
      return [input, 'pipe', 'pipe', 'pipe'];
  }
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

/** What the supervisor tells, record by record. */
class Story {
  readonly started: Promise<void>;
  readonly ended: Promise<NativeEnding>;
  readonly #start = Promise.withResolvers<void>();
  readonly trace: Promise<TraceReport | undefined>;
  readonly #end = Promise.withResolvers<NativeEnding>();
  readonly #trace = Promise.withResolvers<TraceReport | undefined>();
  readonly #chunks: Buffer[] = [];
  #failure: { readonly error: unknown } | undefined;
  #report: TraceReport | undefined;

  constructor(child: ChildProcess) {
    this.started = this.#start.promise;
    this.ended = this.#end.promise;
    this.trace = this.#trace.promise;
    // Whoever awaits `started` hears of a failure there; nobody need await all of them.
    this.ended.catch(() => undefined);
    this.trace.catch(() => undefined);
    this.started.catch(() => undefined);
    child.once('error', (cause) => {
      this.fail(new MachineError('sandbox-setup', `cannot start varve's native program`, { cause }));
      this.#settle(undefined);
    });
    child.once('close', (_code, killer) => this.#settle(this.#readEnd(killer)));
  }

  listen(control: Socket): void {
    // ECONNRESET: the supervisor died; its `close` event follows.
    control.on('error', () => undefined);
    control.on('data', (chunk: Buffer) => {
      const started = this.#chunks.length === 0 && chunk.at(0) === 'R'.charCodeAt(0);
      if (started) this.#start.resolve();
      const rest = started ? chunk.subarray(1) : chunk;
      if (rest.length > 0) this.#chunks.push(rest);
    });
  }

  /** Remembers the first failure: it is what `ended`, and `started` if still open, reject with. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  #settle(ending: NativeEnding | undefined): void {
    if (this.#failure === undefined && ending !== undefined) {
      this.#start.resolve();
      this.#trace.resolve(this.#report);
      this.#end.resolve(ending);
      return;
    }
    const { error } = this.#failure ?? { error: new Error('a sandbox without an end') };
    this.#start.reject(error);
    this.#trace.reject(error);
    this.#end.reject(error);
  }

  #readEnd(killer: NodeJS.Signals | null): NativeEnding | undefined {
    const reader = new WireReader(Buffer.concat(this.#chunks));
    let type = reader.ended ? '' : reader.tag();
    if (type === 'O' || type === 'U') {
      this.#report = readTrace(type, reader);
      type = reader.ended ? '' : reader.tag();
    }
    if (type === 'E') return readWaitStatus(reader.u32());
    if (type === 'N') {
      const code = reader.u32() === 127 ? 127 : 126;
      return { kind: 'not-started', code, message: reader.bytes().toString() };
    }
    if (type === 'F') this.fail(readFailure(reader));
    else
      this.fail(
        new MachineError(
          'sandbox-lost',
          `the supervisor of a sandbox ended without a report (${killer ?? 'no signal'})`,
        ),
      );
    return undefined;
  }
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
