import { type ChildProcess, spawn } from 'node:child_process';
import { createConnection, Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { MachineError } from '../core/index.ts';
import { WireReader, WireWriter } from './native-wire.ts';

/** Commands of the native program that a server forks processes for, by the letters of `runner/native/serve.c`. */
const TASKS = {
  sandbox: 's',
  apply: 'a',
  'scan-diff': 'd',
  'scan-tree': 't',
  remove: 'r',
  look: 'l',
  'hash-tar': 'h',
} as const;
export type NativeTask = keyof typeof TASKS;

/** A tag and a wait status end what a task writes. */
const STATUS_TAG = 'X'.charCodeAt(0);
const STATUS_BYTES = 5;

/** What a process that has ended left to be told. */
export interface NativeEnd {
  /** All that it wrote to the stream that tells its end. Cut anywhere where there is no status. */
  readonly output: Buffer;
  /** wait(2); undefined where the server did not live to tell it. */
  readonly status: number | undefined;
}

/**
 * The native program as a server, which forks a process for each task: Node's own fork copies the page tables of a large process, and
 * that takes longer than most tasks. It is started with the first task and again where it has died; it ends with this process, and keeps
 * no event loop alive.
 */
export class NativeServer {
  readonly #locate: () => string;
  #address: Promise<string> | undefined;
  #lifeline: Writable | undefined;
  #tasks = 0;
  #log = '';

  /** @param locate the program's path; may throw, which then every task rejects with. */
  constructor(locate: () => string) {
    this.#locate = locate;
  }

  /** The path of the program. @throws what `locate` throws. */
  get program(): string {
    return this.#locate();
  }

  /** What the server, and processes of it that are no sandboxes, wrote to standard error: for messages. */
  get log(): string {
    return this.#log.trim();
  }

  /**
   * Starts a process. @param descriptors the descriptors that become streams. Returns these streams in the order given.
   * @throws MachineError `native-failed` where the server cannot be started.
   */
  async start(task: NativeTask, descriptors: readonly number[]): Promise<readonly Socket[]> {
    this.#address ??= this.#launch();
    const address = await this.#address;
    this.#tasks = (this.#tasks + 1) >>> 0;
    const all = descriptors.reduce((bits, descriptor) => bits | (1 << descriptor), 0);
    return await Promise.all(
      descriptors.map((descriptor) => {
        const header = new WireWriter(8);
        header.tag(TASKS[task]);
        header.u8(descriptor);
        header.u8(all);
        header.u8(0);
        header.u32(this.#tasks);
        return connected(`\0${address}`, header.take());
      }),
    );
  }

  /** Lets the server end with its last task. A later task starts another one. */
  close(): void {
    this.#lifeline?.destroy();
    this.#lifeline = undefined;
    this.#address = undefined;
  }

  async #launch(): Promise<string> {
    try {
      const child = spawn(this.#locate(), ['serve'], {
        stdio: ['pipe', 'pipe', 'pipe'],
        env: {},
        cwd: '/',
        // A session of its own: Ctrl-C in the terminal is for varve, which decides what becomes of a task.
        detached: true,
      });
      this.#lifeline = child.stdin;
      child.once('exit', () => {
        if (this.#lifeline === child.stdin) this.#address = undefined;
      });
      child.stderr.on('data', (chunk: Buffer) => {
        if (this.#log.length < LONGEST_LOG) this.#log += chunk.toString();
      });
      const address = await announced(child);
      for (const stream of [child.stdin, child.stdout, child.stderr]) {
        if (stream instanceof Socket) stream.unref();
      }
      child.unref();
      return address;
    } catch (error) {
      this.#address = undefined;
      throw error;
    }
  }
}

const LONGEST_LOG = 64 * 1024;

/** The number of the sources of the program that the bundle was made for (scripts/bundle.ts). Where the sources run themselves: absent. */
declare const VARVE_NATIVE_SOURCES: number | undefined;

const ANNOUNCES = 'B'.charCodeAt(0);
/** A tag, the number, and the length of an address. */
const ANNOUNCED_BYTES = 9;

/** A program that somebody compiled by hand says 0. */
function fits(sources: number): boolean {
  return typeof VARVE_NATIVE_SOURCES !== 'number' || sources === 0 || sources === VARVE_NATIVE_SOURCES;
}

function mismatch(): MachineError {
  return new MachineError('native-mismatch', 'varve and its native program are not of the same making', {
    hint: 'Run npm rebuild varve, or npm install again (in a checkout: npm run build).',
  });
}

/** The address that a server tells when it listens. */
function announced(child: ChildProcess): Promise<string> {
  const parts: Buffer[] = [];
  return new Promise((resolve, reject) => {
    const failed = (cause?: unknown) =>
      reject(new MachineError('native-failed', "cannot start varve's native program", { cause }));
    child.once('error', failed);
    child.once('close', (code, killer) => failed(new Error(`it ended with ${killer ?? `status ${code}`}`)));
    child.stdout?.on('data', (chunk: Buffer) => {
      parts.push(chunk);
      const bytes = Buffer.concat(parts);
      if (bytes.length > 0 && bytes[0] !== ANNOUNCES) reject(mismatch());
      if (bytes.length < ANNOUNCED_BYTES || bytes.length < ANNOUNCED_BYTES + bytes.readUInt32LE(5)) return;
      const reader = new WireReader(bytes);
      reader.tag();
      if (fits(reader.u32())) resolve(reader.bytes().toString('latin1'));
      else reject(mismatch());
    });
  });
}

/** A stream that has sent `header`: one that its user closes before would leave its task waiting for it. */
function connected(path: string, header: Buffer): Promise<Socket> {
  const stream = createConnection({ path });
  return new Promise((resolve, reject) => {
    stream.once('error', (cause) =>
      reject(new MachineError('native-failed', "cannot reach varve's native program", { cause })),
    );
    stream.once('connect', () => {
      // From here on, what goes wrong shows as a stream that ends too early.
      stream.on('error', () => undefined);
      stream.write(header, () => resolve(stream));
    });
  });
}

/** Collects what a process writes to `stream`, up to its end. */
export function collectEnd(stream: Socket): Promise<NativeEnd> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    stream.once('close', () => {
      const bytes = Buffer.concat(chunks);
      const end = bytes.length - STATUS_BYTES;
      if (end < 0 || bytes[end] !== STATUS_TAG) resolve({ output: bytes, status: undefined });
      else resolve({ output: bytes.subarray(0, end), status: bytes.readUInt32LE(end + 1) });
    });
  });
}
