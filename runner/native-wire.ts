import { decodePath, encodePath, GrowingBuffer, type RootMount } from '../core/index.ts';

/** Writes the fields that `runner/native/wire.h` reads: little endian, texts with their length before them. */
export class WireWriter extends GrowingBuffer {
  constructor(capacity = 4096) {
    super(capacity);
  }

  /** One ASCII character, as the tags of records are. */
  tag(char: string): void {
    this.u8(char.charCodeAt(0));
  }

  flag(value: boolean): void {
    this.u8(value ? 1 : 0);
  }

  u16(value: number): void {
    const at = this.reserve(2);
    this.buffer.writeUInt16LE(value, at);
  }

  u32(value: number): void {
    const at = this.reserve(4);
    this.buffer.writeUInt32LE(value, at);
  }

  /** A whole number within 2^53, negative ones in two's complement. */
  i64(value: number): void {
    const at = this.reserve(8);
    this.buffer.writeBigInt64LE(BigInt(value), at);
  }

  bytes(value: Uint8Array): void {
    this.u32(value.length);
    this.raw(value);
  }

  /** A path, link target or attribute name; escaped bytes (see `decodePath`) become themselves again. */
  text(value: string): void {
    if (!value.isWellFormed()) {
      this.bytes(encodePath(value));
      return;
    }
    const lengthAt = this.reserve(4 + value.length * 3);
    const size = this.buffer.write(value, lengthAt + 4, 'utf8');
    this.buffer.writeUInt32LE(size, lengthAt);
    this.used = lengthAt + 4 + size;
  }

  texts(values: readonly string[]): void {
    this.u32(values.length);
    for (const value of values) this.text(value);
  }

  /** What was written since the last call; the writer starts anew and keeps nothing of it. */
  take(): Buffer {
    const taken = this.buffer.subarray(0, this.used);
    this.buffer = Buffer.allocUnsafe(this.buffer.length);
    this.used = 0;
    return taken;
  }
}

/** `root` in the form that `runner/native/rootmount.h` states. */
export function writeRootMount(out: WireWriter, root: RootMount): void {
  if (root.type === 'directory') {
    out.tag('D');
    out.text(root.path);
    out.flag(root.readonly);
    return;
  }
  out.tag('O');
  out.texts(root.lowers);
  out.texts(root.traced ?? []);
  out.flag(root.writable !== undefined);
  if (root.writable !== undefined) {
    out.text(root.writable.upper);
    out.text(root.writable.work);
  }
  out.flag(root.userXattrs);
}

/** Reads fields that `runner/native/wire.h` wrote. Reading past the end throws a RangeError. */
export class WireReader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  get ended(): boolean {
    return this.#at >= this.#buffer.length;
  }

  u8(): number {
    return this.#buffer.readUInt8(this.#at++);
  }

  tag(): string {
    return String.fromCharCode(this.u8());
  }

  u16(): number {
    const value = this.#buffer.readUInt16LE(this.#at);
    this.#at += 2;
    return value;
  }

  u32(): number {
    const value = this.#buffer.readUInt32LE(this.#at);
    this.#at += 4;
    return value;
  }

  /** Exact within 2^53. */
  i64(): number {
    const low = this.u32();
    const high = this.#buffer.readInt32LE(this.#at);
    this.#at += 4;
    return high * 0x1_0000_0000 + low;
  }

  /** The next `size` bytes: a view, not a copy. */
  raw(size: number): Buffer {
    this.#at += size;
    if (this.#at > this.#buffer.length) throw new RangeError('bytes reach beyond the stream');
    return this.#buffer.subarray(this.#at - size, this.#at);
  }

  /** Copies the next `size` bytes to `to`, where they begin at `at`. */
  rawInto(to: Buffer, at: number, size: number): void {
    this.#at += size;
    if (this.#buffer.copy(to, at, this.#at - size, this.#at) < size)
      throw new RangeError('bytes reach beyond the stream');
  }

  /** A text of bytes, as {@link decodePath} makes it. */
  path(): string {
    const size = this.#field();
    const from = this.#at - size;
    const text = this.#buffer.toString('utf8', from, this.#at);
    // Lists hold tens of thousands of them: a view of its own is made for the odd one only.
    return text.includes('\uFFFD') ? decodePath(this.#buffer.subarray(from, this.#at)) : text;
  }

  /** A view into what is read, not a copy. */
  bytes(): Buffer {
    const size = this.#field();
    return this.#buffer.subarray(this.#at - size, this.#at);
  }

  /** Passes over a field of bytes. @returns their number. */
  #field(): number {
    const size = this.u32();
    if (this.#at + size > this.#buffer.length) throw new RangeError('a field reaches beyond the stream');
    this.#at += size;
    return size;
  }
}
