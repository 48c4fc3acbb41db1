/** The fields of each record that a supervisor tells (`runner/native/sandbox.c`): `u` a u32, `b` bytes with their length before them. */
const FIELDS: ReadonlyMap<string, string> = new Map([
  ['R', ''],
  ['O', 'b'],
  ['U', 'b'],
  ['M', 'b'],
  ['D', 'b'],
  ['E', 'u'],
  ['N', 'ub'],
  ['F', 'ubbb'],
]);
const LAST: ReadonlySet<string> = new Set(['E', 'N', 'F']);

/** Finds where the story of a supervisor ends, while it comes: the stream itself ends later. */
export class StoryEnd {
  #bytes: Buffer = Buffer.alloc(0);
  readonly #chunks: Buffer[] = [];
  #size = 0;
  #needed = 1;
  /** Where the first record begins that is not known to be whole. */
  #at = 0;

  /** Takes what came next. @returns the whole story, once it is there. */
  add(chunk: Buffer): Buffer | undefined {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size < this.#needed) return undefined;
    this.#bytes = Buffer.concat([this.#bytes, ...this.#chunks.splice(0)]);
    for (;;) {
      const tag = String.fromCharCode(this.#bytes[this.#at] ?? 0);
      const end = this.#endOf(tag);
      if (end === undefined) return undefined;
      this.#at = end;
      if (LAST.has(tag)) return this.#bytes.subarray(0, end);
    }
  }

  /** Where the record at `#at` ends; undefined, with `#needed` told, where it is not whole, or no record. */
  #endOf(tag: string): number | undefined {
    const fields = FIELDS.get(tag);
    this.#needed = this.#at < this.#size ? Number.POSITIVE_INFINITY : this.#at + 1;
    if (fields === undefined) return undefined;
    let end = this.#at + 1;
    for (const field of fields) {
      this.#needed = end + 4;
      if (this.#needed > this.#size) return undefined;
      end += 4 + (field === 'b' ? this.#bytes.readUInt32LE(end) : 0);
      this.#needed = end;
      if (end > this.#size) return undefined;
    }
    return end;
  }
}
