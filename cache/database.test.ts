import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { HostPath } from '../core/index.ts';
import { Database, numberOf } from './database.ts';

let root: HostPath;
const warnings: string[] = [];

beforeEach(async () => {
  warnings.length = 0;
  root = (await mkdtemp(join(tmpdir(), 'varve-database-'))) as HostPath;
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

const FIRST = 'CREATE TABLE t (n INTEGER NOT NULL); INSERT INTO t VALUES (1)';

function open(...migrations: readonly string[]): Database {
  return new Database({
    path: join(root, 'db') as HostPath,
    repairLock: join(root, 'repair.lock') as HostPath,
    migrations,
    onOpen: () => {},
    onWarning: (message) => warnings.push(message),
  });
}

function values(database: Database): readonly number[] {
  return database.all('SELECT n FROM t ORDER BY n').map((row) => numberOf(row, 'n'));
}

describe('Database', () => {
  it('brings an older schema up step by step and keeps its rows', () => {
    open(FIRST)[Symbol.dispose]();
    using database = open(FIRST, 'ALTER TABLE t ADD COLUMN m INTEGER', 'UPDATE t SET m = n + 1');
    expect(database.get('SELECT n, m FROM t')).toEqual({ n: 1, m: 2 });
    expect(database.get('PRAGMA user_version')).toEqual({ user_version: 3 });
  });

  it('leaves the older schema whole where a migration fails', () => {
    open(FIRST)[Symbol.dispose]();
    expect(() => open(FIRST, 'UPDATE t SET n = 5', 'nonsense')).toThrow('syntax error');
    using database = open(FIRST);
    expect(values(database)).toEqual([1]);
  });

  it('rolls a transaction back when its work throws, also a long one', async () => {
    using database = open(FIRST);
    const fail = (): never => {
      database.run('INSERT INTO t VALUES (2)');
      throw new Error('stop');
    };
    expect(() => database.transaction(fail)).toThrow('stop');
    await expect(database.longTransaction(async () => fail())).rejects.toThrow('stop');
    expect(() => database.transaction(() => database.transaction(fail))).toThrow('stop');
    expect(values(database)).toEqual([1]);
    database.transaction(() => database.run('INSERT INTO t VALUES (3)'));
    expect(values(database)).toEqual([1, 3]);
  });

  it('takes a schema that lacks what its version has for damage', () => {
    open(FIRST)[Symbol.dispose]();
    using database = open(FIRST);
    database.run('DROP TABLE t');
    // Set aside, told, and begun anew with the first row.
    expect(values(database)).toEqual([1]);
    expect(warnings).toHaveLength(1);
  });

  it('says that the disk is full, and keeps what was there', () => {
    using database = open(FIRST);
    database.get('PRAGMA max_page_count = 3');
    const grow = (): void => {
      for (let at = 0; at < 20; at += 1) database.run('INSERT INTO t SELECT n FROM t');
    };
    expect(() => database.transaction(grow)).toThrow(expect.objectContaining({ code: 'disk-full' }));
    expect(values(database)).toEqual([1]);
  });

  it('waits for a writer in another connection', async () => {
    using database = open(FIRST);
    const other = new DatabaseSync(join(root, 'db'));
    other.exec('BEGIN IMMEDIATE; INSERT INTO t VALUES (2)');
    expect(values(database)).toEqual([1]);
    other.exec('COMMIT');
    other.close();
    expect(values(database)).toEqual([1, 2]);
  });
});
