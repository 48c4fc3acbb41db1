import type { BigIntStats } from 'node:fs';
import type { FileType, Time } from './entry.ts';

const BILLION = 1_000_000_000n;

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
