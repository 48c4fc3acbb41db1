import type { BigIntStats } from 'node:fs';
import type { FileType, Time } from './entry.ts';

const BILLION = 1_000_000_000n;

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

/** What the upper bits of a mode say, inode(7); undefined for bits of no type. */
export function typeOfMode(mode: number): FileType | undefined {
  return TYPES.get(mode & S_IFMT);
}

export function fileTypeOf(stat: BigIntStats): FileType {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'dir';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isCharacterDevice()) return 'char';
  if (stat.isBlockDevice()) return 'block';
  return stat.isFIFO() ? 'fifo' : 'socket';
}

/** Splits a device number as glibc's gnu_dev_major and gnu_dev_minor do (makedev(3)). */
export function deviceOf(rdev: bigint): { readonly major: number; readonly minor: number } {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return { major: Number(major), minor: Number(minor) };
}

/** Nanoseconds since 1970, before it too, as seconds and the nanoseconds behind them. */
export function timeOf(nanoseconds: bigint): Time {
  const nsec = ((nanoseconds % BILLION) + BILLION) % BILLION;
  return { sec: Number((nanoseconds - nsec) / BILLION), nsec: Number(nsec) };
}
