import { renameSync, statSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { type Digest, errnoOf, type HostPath, isDigest, MachineError } from '../core/index.ts';
import { blockFor, createEmpty, waitForLockBlocking } from './locks.ts';
import { DISK_FULL_HINT, extendedSqliteCode, isDiskFull, sqliteCode } from './store-error.ts';

export interface DatabaseOptions {
  readonly path: HostPath;
  /** The lock under which a damaged database is set aside. */
  readonly repairLock: HostPath;
  /** SQL that brings version n to n + 1, from version 0, an empty database. */
  readonly migrations: readonly string[];
  /** Called after every opening, also when the file was found to have been replaced: the place to write what must be in it. */
  readonly onOpen: (database: Database) => void;
  readonly onWarning: (message: string) => void;
  /** Called when a file was begun, or brought to another version. */
  readonly onMigrate?: () => void;
}

export type Row = Readonly<Record<string, SQLOutputValue>>;

/** Longer than any write transaction: the longest is the removal of one diff (see `PrunableCache.prune`). */
const BUSY_TIMEOUT_MS = 60_000;
const BUSY_TRIES = 50;
const BUSY_PAUSE_MS = 20;

/** Primary result codes (https://sqlite.org/rescode.html). */
const SQLITE = { ERROR: 1, BUSY: 5, CORRUPT: 11, CONSTRAINT: 19, NOTADB: 26 };
const SQLITE_IOERR_SHORT_READ = 522;

/**
 * A SQLite database in WAL mode that any number of processes share. It holds nothing that cannot be made again: a
 * damaged file is set aside, an empty one takes its place, and `onWarning` tells. Another process that has the old file
 * open notices before its next transaction.
 *
 * Every method throws `MachineError`: `store-busy`, `disk-full`, `store-io`, `store-corrupt` where setting aside did not help,
 * `store-newer` where a newer varve made the file, which is then left as it is.
 */
export class Database implements Disposable {
  readonly #options: DatabaseOptions;
  readonly #statements = new Map<string, StatementSync>();
  #connection: DatabaseSync | undefined;
  #inode = '';
  #depth = 0;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#guard(() => this.#current());
  }

  get(sql: string, ...values: readonly SQLInputValue[]): Row | undefined {
    return this.#guard(() => this.#statement(sql).get(...values));
  }

  all(sql: string, ...values: readonly SQLInputValue[]): readonly Row[] {
    return this.#guard(() => this.#statement(sql).all(...values));
  }

  /** Returns the number of rows changed. */
  run(sql: string, ...values: readonly SQLInputValue[]): number {
    return this.#guard(() => Number(this.#statement(sql).run(...values).changes));
  }

  /** Runs `work`, which reads rows: one that no varve wrote counts as damage to the file. */
  reading<T>(work: () => T): T {
    return this.#guard(work);
  }

  /** Runs `work` in one write transaction; inside another one it is a part of that. */
  transaction<T>(work: () => T): T {
    if (this.#depth > 0) return work();
    return this.#guard(() => {
      this.#begin();
      try {
        const result = work();
        this.#end('COMMIT');
        return result;
      } catch (error) {
        this.#abandon();
        throw error;
      }
    });
  }

  /** As {@link transaction}, kept open while `work` waits: every other writer is blocked until then. */
  async longTransaction<T>(work: () => Promise<T>): Promise<T> {
    this.#guard(() => this.#begin());
    try {
      const result = await work();
      this.#guard(() => this.#end('COMMIT'));
      return result;
    } catch (error) {
      this.#abandon();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#statements.clear();
    this.#connection?.close();
    this.#connection = undefined;
  }

  #begin(): void {
    this.#current().exec('BEGIN IMMEDIATE');
    this.#depth = 1;
  }

  #end(command: 'COMMIT' | 'ROLLBACK'): void {
    this.#connection?.exec(command);
    this.#depth = 0;
  }

  /** Ends a transaction that failed. SQLite may have rolled it back already. */
  #abandon(): void {
    if (this.#depth === 0) return;
    this.#depth = 0;
    if (this.#connection?.isTransaction === true) this.#connection.exec('ROLLBACK');
  }

  #statement(sql: string): StatementSync {
    const connection = this.#current();
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = prepare(connection, sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** The connection to the file that lies at the path now. */
  #current(): DatabaseSync {
    if (this.#connection !== undefined) {
      if (this.#depth > 0 || inodeOf(this.#options.path) === this.#inode) return this.#connection;
      this[Symbol.dispose]();
    }
    const connection = openConnection(this.#options);
    this.#connection = connection;
    this.#inode = inodeOf(this.#options.path);
    this.#options.onOpen(this);
    return connection;
  }

  #guard<T>(work: () => T): T {
    if (this.#depth > 0) return work();
    try {
      return work();
    } catch (error) {
      if (!isDamage(error)) throw machineError(this.#options.path, error);
    }
    this.#setAside();
    try {
      return work();
    } catch (error) {
      throw machineError(this.#options.path, error);
    }
  }

  /** Moves the damaged file away, unless another process has done so by now. */
  #setAside(): void {
    const { path, repairLock, onWarning } = this.#options;
    const damaged = this.#inode;
    this[Symbol.dispose]();
    using _lock = waitForLockBlocking(repairLock, BUSY_TIMEOUT_MS);
    if (damaged !== '' && inodeOf(path) !== damaged) return;
    if (damaged === '' && opensWell(this.#options)) return;
    const aside = `${path}.corrupt`;
    // The file goes first: without its log it would look whole, and be old.
    for (const suffix of ['', '-wal', '-shm']) {
      try {
        renameSync(`${path}${suffix}`, `${aside}${suffix}`);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw machineError(path, error);
      }
    }
    onWarning(
      `the database of the build cache was damaged; it was moved to ${aside} and a new one was begun`,
    );
  }
}

/** @throws DamagedRow where tables or columns are missing that every database of this version has. */
function prepare(connection: DatabaseSync, sql: string): StatementSync {
  try {
    return connection.prepare(sql);
  } catch (cause) {
    if (sqliteCode(cause) !== SQLITE.ERROR) throw cause;
    throw new DamagedRow(`a schema that is not varve's: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

function opensWell(options: DatabaseOptions): boolean {
  try {
    openConnection(options).close();
    return true;
  } catch (error) {
    if (isDamage(error)) return false;
    throw machineError(options.path, error);
  }
}

/** Opens, sets WAL, and migrates an older schema in one transaction. Two processes may do this at once. */
function openConnection({ path, migrations, onMigrate }: DatabaseOptions): DatabaseSync {
  // Preimages hold the values of build arguments: nobody else may read them. SQLite gives its log the same mode.
  createEmpty(path);
  const connection = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    refuseNewer(connection, path, migrations.length);
    retryBusy(() => connection.exec('PRAGMA journal_mode = WAL'));
    // A power cut may lose the last records, which costs a step's time, but never leaves a torn file.
    connection.exec('PRAGMA synchronous = NORMAL');
    if (versionOf(connection) !== migrations.length) {
      migrate(connection, path, migrations);
      onMigrate?.();
    }
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

function migrate(connection: DatabaseSync, path: HostPath, migrations: readonly string[]): void {
  connection.exec('BEGIN IMMEDIATE');
  refuseNewer(connection, path, migrations.length);
  for (const sql of migrations.slice(versionOf(connection))) connection.exec(sql);
  connection.exec(`PRAGMA user_version = ${migrations.length}`);
  connection.exec('COMMIT');
}

function refuseNewer(connection: DatabaseSync, path: HostPath, known: number): void {
  const found = versionOf(connection);
  if (found <= known) return;
  throw new MachineError(
    'store-newer',
    `the store at ${path} has schema version ${found}, and this varve knows versions up to ${known}`,
    { hint: 'Use the newer varve that made the store, or another one with --root.' },
  );
}

function versionOf(connection: DatabaseSync): number {
  const version = retryBusy(() => connection.prepare('PRAGMA user_version').get()?.['user_version']);
  return typeof version === 'number' ? version : 0;
}

/** Switching to WAL and recovering a log report a busy database at once, without the busy timeout. */
function retryBusy<T>(work: () => T): T {
  for (let tries = 1; ; tries += 1) {
    try {
      return work();
    } catch (error) {
      if (sqliteCode(error) !== SQLITE.BUSY || tries >= BUSY_TRIES) throw error;
      blockFor(BUSY_PAUSE_MS);
    }
  }
}

function inodeOf(path: HostPath): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.birthtimeNs}`;
}

function isDamage(error: unknown): boolean {
  // A log or index that belongs to another file, left where setting aside was cut short.
  if (extendedSqliteCode(error) === SQLITE_IOERR_SHORT_READ) return true;
  const code = sqliteCode(error);
  // No statement here breaks a rule of the schema where the rows are what they were.
  if (code === SQLITE.CONSTRAINT) return true;
  return code === SQLITE.CORRUPT || code === SQLITE.NOTADB || error instanceof DamagedRow;
}

function machineError(path: HostPath, error: unknown): unknown {
  const code = sqliteCode(error);
  const errno = errnoOf(error);
  if (code === undefined && errno === undefined && !(error instanceof DamagedRow)) return error;
  const message = `${path}: ${error instanceof Error ? error.message : error}`;
  if (isDiskFull(error)) {
    return new MachineError('disk-full', message, { hint: DISK_FULL_HINT, cause: error });
  }
  if (code === SQLITE.BUSY) {
    const hint = 'Wait for other varve processes to end, then try again.';
    return new MachineError('store-busy', message, { hint, cause: error });
  }
  if (isDamage(error)) {
    const hint = `Remove ${path}; it holds records that builds make again.`;
    return new MachineError('store-corrupt', message, { hint, cause: error });
  }
  const hint = 'Check that the folder of the store exists, can be written to, and that its disk works.';
  return new MachineError('store-io', message, { hint, cause: error });
}

/** A row that no varve wrote: treated as a damaged file. */
export class DamagedRow extends Error {
  override readonly name = 'DamagedRow';
}

export function textOf(row: Row, column: string): string {
  const value = row[column];
  if (typeof value !== 'string') throw new DamagedRow(`column ${column} holds no text`);
  return value;
}

export function optionalTextOf(row: Row, column: string): string | undefined {
  return row[column] === null ? undefined : textOf(row, column);
}

export function digestOfRow(row: Row, column: string): Digest {
  const value = textOf(row, column);
  if (!isDigest(value)) throw new DamagedRow(`column ${column} holds no digest`);
  return value;
}

export function numberOf(row: Row, column: string): number {
  const value = row[column];
  if (typeof value !== 'number') throw new DamagedRow(`column ${column} holds no number`);
  return value;
}

export function bytesOf(row: Row, column: string): Uint8Array {
  const value = row[column];
  if (!(value instanceof Uint8Array)) throw new DamagedRow(`column ${column} holds no bytes`);
  return value;
}

/** The JSON in a column that this version of the schema only ever holds a `T` in. */
export function jsonOf<T>(row: Row, column: string): T {
  try {
    const value: T = JSON.parse(textOf(row, column));
    return value;
  } catch (cause) {
    if (cause instanceof DamagedRow) throw cause;
    throw new DamagedRow(`column ${column} holds no JSON`, { cause });
  }
}
