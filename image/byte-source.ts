import { MachineError } from '../core/index.ts';

const EMPTY = new Uint8Array();

/** Refuses hostile or broken input: what a layer or an archive may not do. */
export function refused(message: string, cause?: unknown): MachineError {
  return new MachineError('layer-refused', message, {
    hint: 'the archive is damaged or hostile; nothing outside of the store was touched',
    cause,
  });
}

/** Reads a stream of chunks in pieces of the sizes that a parser asks for. */
export class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #maxBytes: number;
  #chunk: Uint8Array = EMPTY;
  #at = 0;
  #total = 0;
  #done = false;

  /** More than `maxBytes` in all is refused with `layer-refused`. */
  constructor(chunks: AsyncIterable<Uint8Array>, maxBytes: number) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#maxBytes = maxBytes;
  }

  /** Exactly `length` bytes; undefined where the stream ends before the first of them. */
  async read(length: number): Promise<Uint8Array | undefined> {
    if (this.#chunk.byteLength - this.#at >= length) return this.#take(length);
    if (!(await this.#fill())) return undefined;
    if (this.#chunk.byteLength - this.#at >= length) return this.#take(length);
    const whole = Buffer.alloc(length);
    let filled = 0;
    for await (const part of this.parts(length)) {
      whole.set(part, filled);
      filled += part.byteLength;
    }
    return whole;
  }

  /** The next `length` bytes as they come. @throws MachineError `layer-refused` where the stream ends before. */
  async *parts(length: number): AsyncGenerator<Uint8Array> {
    let left = length;
    while (left > 0) {
      if (!(await this.#fill())) throw refused(`the archive is cut short: ${left} more bytes were announced`);
      const part = this.#take(Math.min(left, this.#chunk.byteLength - this.#at));
      left -= part.byteLength;
      yield part;
    }
  }

  async skip(length: number): Promise<void> {
    let left = length;
    while (left > 0) {
      if (!(await this.#fill())) throw refused(`the archive is cut short: ${left} more bytes were announced`);
      left -= this.#take(Math.min(left, this.#chunk.byteLength - this.#at)).byteLength;
    }
  }

  /** Reads to the end, so that a digest over the stream is complete. */
  async drain(): Promise<void> {
    while (await this.#fill()) this.#at = this.#chunk.byteLength;
  }

  /** Tells the producer that no more is wanted. */
  async close(): Promise<void> {
    if (this.#done) return;
    this.#done = true;
    await this.#chunks.return?.();
  }

  #take(length: number): Uint8Array {
    const part = this.#chunk.subarray(this.#at, this.#at + length);
    this.#at += length;
    return part;
  }

  /** Makes sure that a byte is there; false at the end. */
  async #fill(): Promise<boolean> {
    while (this.#at >= this.#chunk.byteLength) {
      if (this.#done) return false;
      const next = await this.#chunks.next();
      if (next.done === true) {
        this.#done = true;
        return false;
      }
      this.#chunk = next.value;
      this.#at = 0;
      this.#total += next.value.byteLength;
      if (this.#total > this.#maxBytes) {
        throw refused(`the archive is larger than the limit of ${this.#maxBytes} bytes`);
      }
    }
    return true;
  }
}
