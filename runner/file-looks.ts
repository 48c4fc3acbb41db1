import type { Socket } from 'node:net';
import {
  type Digest,
  type FileLooks,
  type HostPath,
  type ImagePath,
  isSymlinkRow,
  type LookedFile,
  type LookedFolder,
  type LookInto,
  rowAt,
  STAT_ROW_BYTES,
} from '../core/index.ts';
import type { NativeServer } from './native-server.ts';
import { WireReader, WireWriter } from './native-wire.ts';

const LENGTH_BYTES = 4;
const DIGEST_BYTES = 32;

/** {@link FileLooks} by the native program: one process for a folder, which answers one order after the other. */
export function createLookInto(native: NativeServer): LookInto {
  return (folder) => new NativeLooks(native, folder);
}

/** An order that waits for its answer; told undefined where none comes any more. */
type Waiting = (answer: Buffer | undefined) => void;

class NativeLooks implements FileLooks {
  readonly #native: NativeServer;
  readonly #folder: HostPath;
  readonly #waiting: Waiting[] = [];
  #stream: Promise<Socket | undefined> | undefined;
  #ended = false;

  constructor(native: NativeServer, folder: HostPath) {
    this.#native = native;
    this.#folder = folder;
  }

  async list(folders: readonly ImagePath[]): Promise<readonly (LookedFolder | undefined)[]> {
    const order = new WireWriter();
    order.tag('l');
    order.texts(folders);
    return readAnswer(await this.#ask(order.take()), folders, readFolder);
  }

  async read(
    files: readonly { readonly path: ImagePath; readonly size: number }[],
  ): Promise<readonly (LookedFile | undefined)[]> {
    const order = new WireWriter();
    order.tag('h');
    order.u32(files.length);
    for (const { path, size } of files) {
      order.text(path);
      order.i64(size);
    }
    return readAnswer(await this.#ask(order.take()), files, readFile);
  }

  end(): void {
    this.#ended = true;
    void this.#stream?.then((stream) => stream?.destroy());
  }

  async #ask(order: Buffer): Promise<Buffer | undefined> {
    if (this.#ended) throw new Error('looks that have ended');
    this.#stream ??= this.#open().catch(() => undefined);
    const stream = await this.#stream;
    if (stream === undefined || stream.destroyed) return undefined;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      stream.write(order);
    });
  }

  async #open(): Promise<Socket> {
    const [stream] = await this.#native.start('look', [0]);
    if (stream === undefined) throw new Error('a native process without a stream');
    const head = new WireWriter();
    head.text(this.#folder);
    stream.write(head.take());
    const answers = new AnswerReader((answer) => this.#waiting.shift()?.(answer));
    stream.on('data', (chunk: Buffer) => answers.add(chunk));
    stream.once('close', () => {
      for (const tell of this.#waiting.splice(0)) tell(undefined);
    });
    return stream;
  }
}

/** Puts the chunks of a stream together to answers: bytes with their length before them. */
class AnswerReader {
  readonly #tell: (answer: Buffer) => void;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #wanted = LENGTH_BYTES;

  constructor(tell: (answer: Buffer) => void) {
    this.#tell = tell;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    while (this.#bytes >= this.#wanted) {
      const whole = this.#chunks.length === 1 ? (this.#chunks[0] ?? chunk) : Buffer.concat(this.#chunks);
      const length = LENGTH_BYTES + whole.readUInt32LE(0);
      if (whole.length >= length) this.#tell(whole.subarray(LENGTH_BYTES, length));
      const rest = whole.length >= length ? whole.subarray(length) : whole;
      this.#wanted = whole.length >= length ? LENGTH_BYTES : length;
      this.#chunks = [rest];
      this.#bytes = rest.length;
    }
  }
}

/** One for each that was asked for; undefined for what was not told. */
function readAnswer<T>(
  answer: Buffer | undefined,
  asked: readonly unknown[],
  read: (reader: WireReader) => T,
): readonly (T | undefined)[] {
  if (answer === undefined) return asked.map(() => undefined);
  const reader = new WireReader(answer);
  return asked.map(() => (reader.u8() === 0 ? undefined : read(reader)));
}

function readFolder(reader: WireReader): LookedFolder {
  const count = reader.u32();
  const names: string[] = [];
  const rows = Buffer.allocUnsafe(count * STAT_ROW_BYTES);
  const targets = new Map<number, string>();
  for (let at = 0; at < count; at += 1) {
    reader.rawInto(rows, at * STAT_ROW_BYTES, STAT_ROW_BYTES);
    names.push(reader.path());
    if (isSymlinkRow(rowAt(rows, at))) targets.set(at, reader.path());
  }
  return { names, rows, targets };
}

function readFile(reader: WireReader): LookedFile {
  const after = rowAt(reader.raw(STAT_ROW_BYTES), 0);
  return { after, digest: `sha256:${reader.raw(DIGEST_BYTES).toString('hex')}` as Digest };
}
