import { closeSync, openSync, statSync, unlinkSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, type HostPath, joinHost, MachineError } from '../core/index.ts';
import { DISK_FULL_HINT, isDiskFull, sqliteCode } from './store-error.ts';

/**
 * Locks between processes that the kernel frees when their holder dies, however it dies.
 *
 * Node has no call for flock(2) or fcntl(2) locks, but SQLite takes fcntl locks on its files: a lock here is an empty file,
 * opened as a database and kept in an exclusive transaction that writes nothing. That was preferred to
 * sockets in the abstract name space (which end at a network namespace and can be squatted by any user) and to files
 * that hold a process id (which outlive their process, and process ids are reused). A process's fcntl locks are lost
 * when it closes any descriptor of the file, so nothing else here ever opens a lock file that may be held.
 *
 * A lock's file exists only while the lock is held or wanted. The holder removes it before it lets go; whoever got
 * the lock of a file that is no longer the one at the path (device, inode, times of birth and change) has got nothing, and tries again.
 */
export interface KernelLock extends Disposable {
  /** Frees the lock; a second call does nothing. */
  [Symbol.dispose](): void;
}

const SQLITE_BUSY = 5;
const SQLITE_CANTOPEN = 14;
const FIRST_DELAY_MS = 2;
const LONGEST_DELAY_MS = 40;

/** Takes the lock at `path` if it is free now. @throws MachineError `store-io` where the file cannot be made or locked. */
export function tryLock(path: HostPath): KernelLock | undefined {
  try {
    createEmpty(path);
    const before = identityOf(path);
    if (before === undefined) return undefined;
    const database = new DatabaseSync(path, { timeout: 0 });
    try {
      // An exclusive transaction on an empty file prepares its first page; in this mode it needs no journal file for that.
      database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
      if (identityOf(path) === before) return heldLock(path, database);
    } catch (error) {
      database.close();
      throw error;
    }
    database.close();
    return undefined;
  } catch (error) {
    if (sqliteCode(error) === SQLITE_BUSY) return undefined;
    throw lockError(path, error);
  }
}

/** Waits for the lock at `path` without blocking the event loop. Rejects with the signal's reason when aborted. */
export async function waitForLock(path: HostPath, signal?: AbortSignal): Promise<KernelLock> {
  let delay = FIRST_DELAY_MS;
  for (;;) {
    signal?.throwIfAborted();
    const lock = tryLock(path);
    if (lock !== undefined) return lock;
    // Waiters that started together must not go on trying in step: two that try at once can both fail.
    await sleep(delay * (0.5 + Math.random()), undefined, {
      ...(signal === undefined ? {} : { signal }),
    }).catch(() => signal?.throwIfAborted());
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }
}

/** Waits for a lock that is never held for long, blocking this thread. @throws MachineError `store-busy` after `timeoutMs`. */
export function waitForLockBlocking(path: HostPath, timeoutMs: number): KernelLock {
  for (let waited = 0; waited <= timeoutMs; waited += LONGEST_DELAY_MS) {
    const lock = tryLock(path);
    if (lock !== undefined) return lock;
    blockFor(LONGEST_DELAY_MS);
  }
  throw new MachineError('store-busy', `${path} is locked by another process`, {
    hint: 'Wait for other varve processes to end, then try again.',
  });
}

/** Is the lock at `path` held, by whichever process? Asking disturbs no holder. */
export function isLocked(path: HostPath): boolean {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { readOnly: true, timeout: 0 });
    // Reading takes a shared lock, which an exclusive one refuses.
    database.prepare('SELECT count(*) FROM sqlite_schema').get();
    return false;
  } catch (error) {
    const code = sqliteCode(error);
    if (code === SQLITE_BUSY) return true;
    if (code === SQLITE_CANTOPEN && identityOf(path) === undefined) return false;
    throw lockError(path, error);
  } finally {
    database?.close();
  }
}

/** Stops this thread for a moment. */
export function blockFor(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** One lock a name in a folder; callers in this process queue up first, in order, so that only one of them asks the kernel. */
export class NamedLocks {
  readonly #folder: HostPath;
  readonly #tails = new Map<string, Promise<void>>();

  constructor(folder: HostPath) {
    this.#folder = folder;
  }

  /** Runs `work` while nobody else, here or in another process, works under `name`. */
  async run<T>(name: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const previous = this.#tails.get(name);
    const { promise: done, resolve: finish } = Promise.withResolvers<void>();
    const tail = previous === undefined ? done : previous.then(() => done);
    this.#tails.set(name, tail);
    void tail.then(() => {
      if (this.#tails.get(name) === tail) this.#tails.delete(name);
    });
    try {
      if (previous !== undefined) await unlessAborted(previous, signal);
      using _lock = await waitForLock(joinHost(this.#folder, `${name}.lock`), signal);
      return await work();
    } finally {
      finish();
    }
  }
}

async function unlessAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function heldLock(path: HostPath, database: DatabaseSync): KernelLock {
  let held = true;
  return {
    [Symbol.dispose](): void {
      if (!held) return;
      held = false;
      try {
        unlinkSync(path);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw lockError(path, error);
      } finally {
        database.close();
      }
    },
  };
}

/**
 * Makes a file that only its owner can read, where there is none. Never opens one that exists: closing it would drop this
 * process's fcntl locks on it.
 */
export function createEmpty(path: HostPath): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
}

function identityOf(path: HostPath): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? undefined : [stat.dev, stat.ino, stat.birthtimeNs, stat.ctimeNs].join(':');
}

function lockError(path: HostPath, cause: unknown): MachineError {
  const message = `cannot lock ${path}: ${cause instanceof Error ? cause.message : cause}`;
  if (isDiskFull(cause)) return new MachineError('disk-full', message, { hint: DISK_FULL_HINT, cause });
  const hint = 'The store must be on a file system that can be written to and that has file locks.';
  return new MachineError('store-io', message, { hint, cause });
}
