import { DatabaseSync } from 'node:sqlite';
import { type HostPath, MachineError } from '../core/index.ts';
import type { KernelLock } from './locks.ts';
import { createEmpty } from './locks.ts';
import { sqliteCode } from './store-error.ts';

const SQLITE_BUSY = 5;

/**
 * A lock that many can share or one can have alone, freed by the kernel however its holder dies: SQLite's own locks on an empty file
 * that is opened as a database (see locks.ts). The file stays; whoever takes or removes it must hold a lock around that, since a failed try
 * for the whole lock keeps new sharers out for a moment.
 */
export function tryMountLock(path: HostPath, how: 'shared' | 'alone'): KernelLock | undefined {
  createEmpty(path);
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: 0 });
    if (how === 'alone') database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    else {
      database.exec('BEGIN');
      // A transaction that has read keeps its shared lock until it ends.
      database.prepare('SELECT count(*) FROM sqlite_schema').get();
    }
    return held(database);
  } catch (error) {
    database?.close();
    if (sqliteCode(error) === SQLITE_BUSY) return undefined;
    const reason = error instanceof Error ? error.message : error;
    throw new MachineError('store-io', `cannot lock ${path}: ${reason}`, {
      hint: 'The store must be on a file system that can be written to and that has file locks.',
      cause: error,
    });
  }
}

function held(database: DatabaseSync): KernelLock {
  let open = true;
  return {
    [Symbol.dispose](): void {
      if (!open) return;
      open = false;
      database.close();
    },
  };
}
