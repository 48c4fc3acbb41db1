import { GrowingBuffer } from '../core/index.ts';

/** Appends compact fields to a growing buffer; {@link ByteReader} reads them. */
export class ByteWriter extends GrowingBuffer {
  /** A whole number of 0 to 2^53, seven bits a byte, lowest first (LEB128). */
  varint(value: number): void {
    while (value >= 0x80) {
      this.u8((value % 0x80) | 0x80);
      value = Math.floor(value / 0x80);
    }
    this.u8(value);
  }

  f64(value: number): void {
    const at = this.reserve(8);
    this.buffer.writeDoubleLE(value, at);
  }

  bytes(value: Uint8Array): void {
    this.varint(value.length);
    this.raw(value);
  }

  take(): Buffer {
    return this.buffer.subarray(0, this.used);
  }
}

/** Reads what {@link ByteWriter} wrote. Reading past the end throws a RangeError. */
export class ByteReader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  u8(): number {
    const value = this.#buffer[this.#at++];
    if (value === undefined) throw new RangeError('read past the end');
    return value;
  }

  /** The next byte, which stays the next. */
  peek(): number {
    const value = this.#buffer[this.#at];
    if (value === undefined) throw new RangeError('read past the end');
    return value;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
  }

  f64(): number {
    const value = this.#buffer.readDoubleLE(this.#at);
    this.#at += 8;
    return value;
  }

  /** A view into what is read, not a copy. */
  raw(size: number): Buffer {
    if (this.#at + size > this.#buffer.length) throw new RangeError('read past the end');
    const value = this.#buffer.subarray(this.#at, this.#at + size);
    this.#at += size;
    return value;
  }

  bytes(): Buffer {
    return this.raw(this.varint());
  }

  /** All that is left. */
  rest(): Buffer {
    return this.raw(this.#buffer.length - this.#at);
  }
}
