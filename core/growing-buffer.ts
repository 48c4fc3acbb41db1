/** Bytes that are appended to; the base of writers of binary formats. */
export class GrowingBuffer {
  protected buffer: Buffer;
  protected used = 0;

  constructor(capacity: number) {
    this.buffer = Buffer.allocUnsafe(capacity);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.used;
  }

  /** Makes room for `size` more bytes. @returns where they begin. */
  protected reserve(size: number): number {
    const at = this.used;
    if (at + size > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, at + size));
      this.buffer.copy(larger, 0, 0, at);
      this.buffer = larger;
    }
    this.used = at + size;
    return at;
  }

  u8(value: number): void {
    const at = this.reserve(1);
    this.buffer[at] = value;
  }

  /** Bytes as they are, without their length. */
  raw(value: Uint8Array): void {
    const at = this.reserve(value.length);
    this.buffer.set(value, at);
  }
}
