import type { BigIntStats } from 'node:fs';
import type { Entry, Time } from './entry.ts';
import type { ImagePath } from './path.ts';
import { deviceOf, typeOfMode } from './stat.ts';

/**
 * What lstat(2) says of one file, as 64 bytes rather than an object of a thousand: eight unsigned 64-bit numbers, little-endian.
 *
 *     device  inode  size  mtime  ctime  mode  device number  number of links
 *
 * Times are nanoseconds since 1970; before that they are negative, as two's complement. The first six are the tuple by which a file is told to be
 * unchanged. Rows stand behind one another in one buffer, and none is cut out: a buffer of its own would take more than the row.
 */
export interface StatRow {
  readonly rows: Buffer;
  /** Where it begins. */
  readonly from: number;
}

export const STAT_ROW_BYTES = 64;
export const STAT_TUPLE_BYTES = 48;

const SIZE_OF_NUMBER = 8;
const SIZE = 16;
const MTIME = 24;
const CTIME = 32;
const MODE = 40;
const RDEV = 48;
const NLINK = 56;

const S_IFMT = 0o170000;

const BILLION = 1_000_000_000;
const TWO_TO_32 = 2 ** 32;

/** The row at number `at` of `rows`. */
export function rowAt(rows: Buffer, at: number): StatRow {
  return { rows, from: at * STAT_ROW_BYTES };
}

/** Its bytes alone, which are shared. */
export function rowBytes({ rows, from }: StatRow): Buffer {
  return rows.subarray(from, from + STAT_ROW_BYTES);
}

export function rowOf(stat: BigIntStats): StatRow {
  const { dev, ino, size, mtimeNs, ctimeNs, mode, rdev, nlink } = stat;
  const row = Buffer.allocUnsafe(STAT_ROW_BYTES);
  for (const [at, field] of [dev, ino, size, mtimeNs, ctimeNs, mode, rdev, nlink].entries()) {
    row.writeBigUInt64LE(BigInt.asUintN(64, field), at * 8);
  }
  return { rows: row, from: 0 };
}

/** Copies of rows, behind one another. */
export function joinRows(rows: readonly StatRow[]): Buffer {
  const joined = Buffer.allocUnsafe(rows.length * STAT_ROW_BYTES);
  for (const [at, { rows: source, from }] of rows.entries())
    source.copy(joined, at * STAT_ROW_BYTES, from, from + STAT_ROW_BYTES);
  return joined;
}

/** Whether two rows have the same tuple. */
export function sameTuple(a: StatRow, b: StatRow): boolean {
  return a.rows.compare(b.rows, b.from, b.from + STAT_TUPLE_BYTES, a.from, a.from + STAT_TUPLE_BYTES) === 0;
}

export function isFileRow({ rows, from }: StatRow): boolean {
  return (rows.readUInt32LE(from + MODE) & S_IFMT) === 0o100000;
}

export function isDirRow({ rows, from }: StatRow): boolean {
  return (rows.readUInt32LE(from + MODE) & S_IFMT) === 0o040000;
}

export function isSymlinkRow({ rows, from }: StatRow): boolean {
  return (rows.readUInt32LE(from + MODE) & S_IFMT) === 0o120000;
}

/** Has it other names too? */
export function isLinkedRow({ rows, from }: StatRow): boolean {
  return rows.readUInt32LE(from + NLINK) > 1 || rows.readUInt32LE(from + NLINK + 4) > 0;
}

/** Device and inode: two names with the same are one file. */
export function placeInRow({ rows, from }: StatRow): string {
  return rows.toString('latin1', from, from + SIZE);
}

/** Exact within 2^53. */
export function sizeInRow({ rows, from }: StatRow): number {
  return rows.readUInt32LE(from + SIZE) + rows.readUInt32LE(from + SIZE + 4) * TWO_TO_32;
}

/** Are all of these rows of one device, and was none of what they tell changed at `beforeNs` (ns since 1970, about) or later? */
export function areSettledRows(rows: Buffer, device: StatRow, beforeNs: number): boolean {
  for (let at = 0; at < rows.length; at += STAT_ROW_BYTES) {
    if (device.rows.compare(rows, at, at + SIZE_OF_NUMBER, device.from, device.from + SIZE_OF_NUMBER) !== 0)
      return false;
    for (const field of [MTIME, CTIME]) {
      const high = rows.readInt32LE(at + field + 4);
      if (high * TWO_TO_32 + rows.readUInt32LE(at + field) >= beforeNs) return false;
    }
  }
  return true;
}

/** When its content and when anything of it was changed last. */
export function timesInRow({ rows, from }: StatRow): { readonly mtimeNs: bigint; readonly ctimeNs: bigint } {
  return { mtimeNs: rows.readBigInt64LE(from + MTIME), ctimeNs: rows.readBigInt64LE(from + CTIME) };
}

/** The row as an entry that belongs to 0:0 and has no extended attributes. */
export function entryOfRow(row: StatRow, path: ImagePath, linkTarget: string | undefined): Entry {
  const { rows, from } = row;
  const mode = rows.readUInt32LE(from + MODE);
  const type = typeOfMode(mode) ?? 'socket';
  return {
    path,
    type,
    mode: mode & 0o7777,
    uid: 0,
    gid: 0,
    size: type === 'file' ? sizeInRow(row) : 0,
    mtime: timeIn(rows, from + MTIME),
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(type === 'char' || type === 'block' ? { device: deviceOf(rows.readBigUInt64LE(from + RDEV)) } : {}),
  };
}

/** Seconds and nanoseconds of the time at `at`, without a bigint: a rough quotient, put right by the last 32 bits of what it leaves. */
function timeIn(rows: Buffer, at: number): Time {
  const low = rows.readUInt32LE(at);
  let sec = Math.floor((rows.readInt32LE(at + 4) * TWO_TO_32 + low) / BILLION);
  let nsec = (low - Math.imul(sec, BILLION)) >>> 0;
  if (nsec >= BILLION) {
    sec += nsec < 2 * BILLION ? 1 : -1;
    nsec = (low - Math.imul(sec, BILLION)) >>> 0;
  }
  return { sec, nsec };
}
