import type { BigIntStats } from 'node:fs';
import type { Brand } from './brand.ts';
import type { Entry, FileType, Time } from './entry.ts';
import type { ImagePath } from './path.ts';
import { deviceOf } from './stat.ts';

/**
 * What lstat(2) says of one file, as 64 bytes rather than an object of a thousand: eight unsigned 64-bit numbers, little-endian. Many rows
 * stand behind one another in one buffer.
 *
 *     device  inode  size  mtime  ctime  mode  device number  number of links
 *
 * Times are nanoseconds since 1970; before that they are negative, as two's complement. The first six are the tuple by which a file is told to be
 * unchanged.
 */
export type StatRow = Brand<Buffer, 'StatRow'>;

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
const TYPES: ReadonlyMap<number, FileType> = new Map([
  [0o100000, 'file'],
  [0o040000, 'dir'],
  [0o120000, 'symlink'],
  [0o020000, 'char'],
  [0o060000, 'block'],
  [0o010000, 'fifo'],
  [0o140000, 'socket'],
]);

const BILLION = 1_000_000_000;
const TWO_TO_32 = 2 ** 32;

/** The row at number `at` of `rows`; it shares their bytes. */
export function rowAt(rows: Buffer, at: number): StatRow {
  return rows.subarray(at * STAT_ROW_BYTES, (at + 1) * STAT_ROW_BYTES) as StatRow;
}

export function rowOf(stat: BigIntStats): StatRow {
  const { dev, ino, size, mtimeNs, ctimeNs, mode, rdev, nlink } = stat;
  const row = Buffer.allocUnsafe(STAT_ROW_BYTES);
  for (const [at, field] of [dev, ino, size, mtimeNs, ctimeNs, mode, rdev, nlink].entries()) {
    row.writeBigUInt64LE(BigInt.asUintN(64, field), at * 8);
  }
  return row as StatRow;
}

/** Whether two rows have the same tuple. */
export function sameTuple(a: StatRow, b: StatRow): boolean {
  return a.compare(b, 0, STAT_TUPLE_BYTES, 0, STAT_TUPLE_BYTES) === 0;
}

export function isFileRow(row: StatRow): boolean {
  return (row.readUInt32LE(MODE) & S_IFMT) === 0o100000;
}

export function isDirRow(row: StatRow): boolean {
  return (row.readUInt32LE(MODE) & S_IFMT) === 0o040000;
}

export function isSymlinkRow(row: StatRow): boolean {
  return (row.readUInt32LE(MODE) & S_IFMT) === 0o120000;
}

/** Has it other names too? */
export function isLinkedRow(row: StatRow): boolean {
  return row.readUInt32LE(NLINK) > 1 || row.readUInt32LE(NLINK + 4) > 0;
}

/** Device and inode: two names with the same are one file. */
export function placeInRow(row: StatRow): string {
  return row.toString('latin1', 0, SIZE);
}

/** Exact within 2^53. */
export function sizeInRow(row: StatRow): number {
  return row.readUInt32LE(SIZE) + row.readUInt32LE(SIZE + 4) * TWO_TO_32;
}

/** Are all of these rows of one device, and was none of what they tell changed at `beforeNs` (ns since 1970, about) or later? */
export function areSettledRows(rows: Buffer, device: Buffer, beforeNs: number): boolean {
  for (let at = 0; at < rows.length; at += STAT_ROW_BYTES) {
    if (device.compare(rows, at, at + SIZE_OF_NUMBER, 0, SIZE_OF_NUMBER) !== 0) return false;
    for (const field of [MTIME, CTIME]) {
      const high = rows.readInt32LE(at + field + 4);
      if (high * TWO_TO_32 + rows.readUInt32LE(at + field) >= beforeNs) return false;
    }
  }
  return true;
}

/** When its content and when anything of it was changed last. */
export function timesInRow(row: StatRow): { readonly mtimeNs: bigint; readonly ctimeNs: bigint } {
  return { mtimeNs: row.readBigInt64LE(MTIME), ctimeNs: row.readBigInt64LE(CTIME) };
}

/** The row as an entry that belongs to 0:0 and has no extended attributes. */
export function entryOfRow(row: StatRow, path: ImagePath, linkTarget: string | undefined): Entry {
  const mode = row.readUInt32LE(MODE);
  const type = TYPES.get(mode & S_IFMT) ?? 'socket';
  return {
    path,
    type,
    mode: mode & 0o7777,
    uid: 0,
    gid: 0,
    size: type === 'file' ? sizeInRow(row) : 0,
    mtime: timeIn(row, MTIME),
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(type === 'char' || type === 'block' ? { device: deviceOf(row.readBigUInt64LE(RDEV)) } : {}),
  };
}

/** Seconds and nanoseconds of the time at `at`, without a bigint: a rough quotient, put right by the last 32 bits of what it leaves. */
function timeIn(row: StatRow, at: number): Time {
  const low = row.readUInt32LE(at);
  let sec = Math.floor((row.readInt32LE(at + 4) * TWO_TO_32 + low) / BILLION);
  let nsec = (low - Math.imul(sec, BILLION)) >>> 0;
  if (nsec >= BILLION) {
    sec += nsec < 2 * BILLION ? 1 : -1;
    nsec = (low - Math.imul(sec, BILLION)) >>> 0;
  }
  return { sec, nsec };
}
