import { hasNoRoom } from '../core/index.ts';

/**
 * The primary result code of an error that `node:sqlite` threw (https://sqlite.org/rescode.html), undefined for other
 * errors.
 */
export function sqliteCode(error: unknown): number | undefined {
  const code = extendedSqliteCode(error);
  return code === undefined ? undefined : code & 0xff;
}

/** As {@link sqliteCode}, with the bits that tell errors of one kind apart. */
export function extendedSqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error)) return undefined;
  return typeof error.errcode === 'number' ? error.errcode : undefined;
}

const SQLITE_FULL = 13;

/** Did this fail because the disk, or the user's share of it, is full? */
export function isDiskFull(error: unknown): boolean {
  return hasNoRoom(error) || sqliteCode(error) === SQLITE_FULL;
}

export const DISK_FULL_HINT = 'Free some space, e.g. with `varve cache prune`.';
