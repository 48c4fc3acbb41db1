import { type Digest, digestHex, type FileMark } from '../core/index.ts';

/** What the index remembers of one file. */
export interface IndexEntry {
  /** xxh64 of the stat tuple. */
  readonly mark: FileMark;
  readonly digest: Digest;
  /** Savings since a build last asked for the file. */
  readonly age: number;
}

/** Rows and paths as the index file has them: see `encodeIndex`. */
export interface IndexBytes {
  readonly count: number;
  readonly rows: Buffer;
  readonly paths: Buffer;
}

const DIGEST_AT = 8;
const AGE_AT = 40;
/** Mark, digest, age. */
export const ROW_BYTES = 41;
const OLDEST = 255;

const ASKED = 1;
const REMOVED = 2;

/** An empty slot; else a slot has the number of a row. */
const FREE = 0xffffffff;
const FEWEST_SLOTS = 64;

/**
 * What an index remembers, by path, in the bytes that its file has: there may be hundreds of thousands of rows, of which most builds change
 * none. Rows are found by a hash of the path, with open addressing.
 */
export class IndexTable {
  #count: number;
  #rows: Buffer;
  #paths: Buffer;
  /** Where each row's path ends in `#paths`: it begins one behind the end of the one before. */
  #ends: Uint32Array;
  #flags: Uint8Array;
  #slots: Uint32Array;
  #scratch = Buffer.allocUnsafe(4096);

  constructor(
    { count, rows, paths }: IndexBytes = { count: 0, rows: Buffer.alloc(0), paths: Buffer.alloc(0) },
  ) {
    this.#count = count;
    this.#rows = rows;
    this.#paths = paths;
    this.#ends = new Uint32Array(count);
    this.#flags = new Uint8Array(count);
    for (let row = 0, from = 0; row < count; row += 1) {
      const end = paths.indexOf(0, from);
      this.#ends[row] = end === -1 ? paths.length : end;
      from = end + 1;
    }
    this.#slots = this.#hashed();
  }

  /** What is remembered of the file at `path`, which is asked for by that. */
  find(path: string): IndexEntry | undefined {
    const row = this.#rowOf(this.#encoded(path));
    if (row === undefined || this.#flag(row) === REMOVED) return undefined;
    this.#flags[row] = ASKED;
    return this.#entry(row);
  }

  /** @returns whether anything was remembered of the file. */
  remove(path: string): boolean {
    const row = this.#rowOf(this.#encoded(path));
    if (row === undefined || this.#flag(row) === REMOVED) return false;
    this.#flags[row] = REMOVED;
    return true;
  }

  set(path: string, mark: FileMark, digest: Digest): void {
    const bytes = this.#encoded(path);
    const row = this.#rowOf(bytes) ?? this.#append(bytes);
    const at = row * ROW_BYTES;
    this.#rows.writeBigUInt64BE(mark, at);
    this.#rows.write(digestHex(digest), at + DIGEST_AT, 'hex');
    this.#rows[at + AGE_AT] = 0;
    this.#flags[row] = ASKED;
  }

  /** Every path with what is remembered of it. */
  *[Symbol.iterator](): Generator<readonly [path: string, entry: IndexEntry]> {
    for (let row = 0; row < this.#count; row += 1) {
      if (this.#flag(row) !== REMOVED) yield [this.#path(row), this.#entry(row)];
    }
  }

  /** A table of what was asked for since this one came about, and of the rest as a saving older, as far as it is not forgotten at `age`. */
  aged(age: number): IndexTable {
    const kept = new IndexTable();
    for (let row = 0; row < this.#count; row += 1) {
      const flag = this.#flag(row);
      const at = row * ROW_BYTES;
      const older = flag === ASKED ? 0 : this.#rows.readUInt8(at + AGE_AT) + 1;
      if (flag === REMOVED || older >= age) continue;
      const copy = kept.#append(this.#pathBytes(row));
      this.#rows.copy(kept.#rows, copy * ROW_BYTES, at, at + ROW_BYTES);
      kept.#rows[copy * ROW_BYTES + AGE_AT] = Math.min(older, OLDEST);
    }
    return kept;
  }

  /** Views, not copies. */
  bytes(): IndexBytes {
    const end = this.#end(this.#count - 1);
    return {
      count: this.#count,
      rows: this.#rows.subarray(0, this.#count * ROW_BYTES),
      paths: this.#paths.subarray(0, end),
    };
  }

  #flag(row: number): number {
    return this.#flags[row] ?? 0;
  }

  #entry(row: number): IndexEntry {
    const at = row * ROW_BYTES;
    return {
      mark: this.#rows.readBigUInt64BE(at) as FileMark,
      digest: `sha256:${this.#rows.toString('hex', at + DIGEST_AT, at + AGE_AT)}` as Digest,
      age: this.#rows.readUInt8(at + AGE_AT),
    };
  }

  #end(row: number): number {
    return row < 0 ? 0 : (this.#ends[row] ?? 0);
  }

  #pathBytes(row: number): Buffer {
    return this.#paths.subarray(row === 0 ? 0 : this.#end(row - 1) + 1, this.#end(row));
  }

  #path(row: number): string {
    const text = this.#pathBytes(row).toString('utf8');
    return text.startsWith('\x01') ? String(JSON.parse(text.slice(1))) : text;
  }

  /** Valid until the next path is encoded. */
  #encoded(path: string): Buffer {
    const text = path.isWellFormed() && !path.startsWith('\x01') ? path : `\x01${JSON.stringify(path)}`;
    if (text.length * 3 > this.#scratch.length) this.#scratch = Buffer.allocUnsafe(text.length * 6);
    return this.#scratch.subarray(0, this.#scratch.write(text, 'utf8'));
  }

  #rowOf(path: Buffer): number | undefined {
    const mask = this.#slots.length - 1;
    for (let slot = hashOf(path) & mask; ; slot = (slot + 1) & mask) {
      const row = this.#slots[slot] ?? FREE;
      if (row === FREE) return undefined;
      const from = row === 0 ? 0 : this.#end(row - 1) + 1;
      const end = this.#end(row);
      if (end - from === path.length && path.compare(this.#paths, from, end) === 0) return row;
    }
  }

  /** A row of zeros for a path that has none. */
  #append(path: Buffer): number {
    const row = this.#count;
    const from = row === 0 ? 0 : this.#end(row - 1) + 1;
    this.#rows = roomFor(this.#rows, (row + 1) * ROW_BYTES);
    this.#paths = roomFor(this.#paths, from + path.length);
    if (row === this.#ends.length) this.#growColumns();
    if (row > 0) this.#paths[from - 1] = 0;
    path.copy(this.#paths, from);
    this.#ends[row] = from + path.length;
    this.#count = row + 1;
    if (this.#count * 2 > this.#slots.length) this.#slots = this.#hashed();
    else this.#enter(this.#slots, row);
    return row;
  }

  #growColumns(): void {
    const ends = new Uint32Array(Math.max(FEWEST_SLOTS, this.#ends.length * 2));
    ends.set(this.#ends);
    this.#ends = ends;
    const flags = new Uint8Array(ends.length);
    flags.set(this.#flags);
    this.#flags = flags;
  }

  #hashed(): Uint32Array {
    let size = FEWEST_SLOTS;
    while (size < this.#count * 2 + 1) size *= 2;
    const slots = new Uint32Array(size).fill(FREE);
    for (let row = 0; row < this.#count; row += 1) this.#enter(slots, row);
    return slots;
  }

  #enter(slots: Uint32Array, row: number): void {
    const mask = slots.length - 1;
    let slot = hashOf(this.#pathBytes(row)) & mask;
    while (slots[slot] !== FREE) slot = (slot + 1) & mask;
    slots[slot] = row;
  }
}

/** FNV-1a, 32 bits: cheap, and good enough to spread paths. */
function hashOf(bytes: Buffer): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < bytes.length; at += 1) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
}

/** `bytes` itself where it is large enough, or a larger copy. */
function roomFor(bytes: Buffer, size: number): Buffer {
  if (size <= bytes.length) return bytes;
  const larger = Buffer.allocUnsafe(Math.max(4096, bytes.length * 2, size));
  bytes.copy(larger);
  return larger;
}
