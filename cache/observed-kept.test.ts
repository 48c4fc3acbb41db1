import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from 'vitest';
import { digestOf, type Observation, USE } from '../core/index.ts';
import { actionDigest, keyPreimage, stepKey } from './canonical.ts';
import { MOST_PATH_SETS } from './contract.ts';
import { startChild } from './fixtures/child.ts';
import {
  ACTION,
  APP,
  children,
  freshStores,
  LOOKED,
  look,
  NPM,
  observed,
  open,
  query,
  record,
  root,
  rows,
  saw,
  sql,
  warnings,
} from './fixtures/observed-store.ts';
import { FakeTree, type Lying } from './fixtures/observed-tree.ts';
import { MOST_OBSERVATIONS } from './observed.ts';
import { MIGRATIONS } from './schema.ts';

freshStores();

describe('what is kept', () => {
  it('ends with the record: when it is forgotten, replaced, or evicted', async () => {
    const cache = open();
    const key = await observed(cache, APP, NPM);
    cache.forget(key);
    expect([rows('observations'), rows('path_sets')]).toEqual([0, 0]);
    expect(await look(cache, APP)).toEqual({ kind: 'miss' });

    await observed(cache, APP, NPM);
    await record(cache, JSON.stringify([APP, NPM]));
    expect([rows('observations'), rows('path_sets')]).toEqual([0, 0]);

    await observed(cache, APP, NPM);
    cache.close();
    const pruner = open('pruner');
    const [{ diffId } = { diffId: undefined }] = pruner.usage();
    if (diffId === undefined) throw new Error('no diff');
    const stored = [{ diffId, bytes: 1, createdAtMs: 0 }];
    await pruner.prune({ stored, images: new Set(), limitBytes: 0 }, async () => {});
    expect([rows('records'), rows('observations'), rows('path_sets')]).toEqual([0, 0, 0]);
  });

  it('is nothing for a record that was evicted meanwhile', async () => {
    const cache = open();
    const { key } = await record(cache, 'a');
    cache.forget(key);
    await cache.observe(key, query(new FakeTree(APP)), { observations: NPM, parentDiffs: [] });
    expect([rows('observations'), rows('path_sets')]).toEqual([0, 0]);
  });

  it('is one observation for a record that is observed again', async () => {
    const cache = open();
    const made = await record(cache, 'a');
    for (const content of ['one', 'other']) {
      const tree = new FakeTree({ ...APP, 'app/package.json': { content } });
      await cache.observe(made.key, query(tree), { observations: NPM, parentDiffs: [] });
    }
    expect([rows('observations'), rows('path_sets')]).toEqual([1, 1]);
    expect((await look(cache, { ...APP, 'app/package.json': { content: 'one' } })).kind).toBe('miss');
    expect((await look(cache, { ...APP, 'app/package.json': { content: 'other' } })).kind).toBe('hit');
  });

  it('is at most so many path sets of an action, the least recently used gone', async () => {
    const cache = open();
    const set = (at: number): readonly Observation[] => [saw(`app/${at}`, LOOKED)];
    const state = (at: number): Readonly<Record<string, Lying>> => ({ ...APP, [`app/${at}`]: { size: 1 } });
    for (let at = 0; at < MOST_PATH_SETS; at += 1) await observed(cache, state(at), set(at));
    expect((await look(cache, state(0))).kind).toBe('hit');
    await observed(cache, state(99), set(99));
    expect([rows('path_sets'), rows('observations')]).toEqual([MOST_PATH_SETS, MOST_PATH_SETS]);
    expect((await look(cache, state(0))).kind).toBe('hit');
    expect((await look(cache, state(1))).kind).toBe('miss');
    expect((await look(cache, state(2))).kind).toBe('hit');
  });

  it('is at most so many observations of a path set, the least recently used gone', async () => {
    const cache = open();
    const state = (at: number): Readonly<Record<string, Lying>> => ({ 'app/.npmrc': { size: at } });
    const set = [saw('app/.npmrc', LOOKED)];
    for (let at = 0; at < MOST_OBSERVATIONS; at += 1) await observed(cache, state(at), set);
    expect((await look(cache, state(0))).kind).toBe('hit');
    await observed(cache, state(999), set);
    expect([rows('path_sets'), rows('observations')]).toEqual([1, MOST_OBSERVATIONS]);
    for (const [at, kind] of [
      [0, 'hit'],
      [1, 'miss'],
      [2, 'hit'],
      [999, 'hit'],
    ] as const) {
      expect((await look(cache, state(at))).kind).toBe(kind);
    }
    expect(cache.usage().length).toBe(MOST_OBSERVATIONS + 1);
  });

  it('is not pushed out by many records of one state', async () => {
    const cache = open();
    const set = [saw('app/.npmrc', LOOKED)];
    const rare = await observed(cache, { 'app/.npmrc': {} }, set);
    const keys = [];
    for (let at = 0; at <= MOST_OBSERVATIONS; at += 1) {
      const { key } = await record(cache, `${at}`);
      await cache.observe(key, query(new FakeTree({})), { observations: set, parentDiffs: [] });
      keys.push(key);
    }
    expect(rows('observations')).toBe(MOST_OBSERVATIONS);
    expect(await look(cache, { 'app/.npmrc': {} })).toMatchObject({ kind: 'hit', record: { key: rare } });
    expect(await look(cache, {})).toMatchObject({ kind: 'hit', record: { key: keys.at(-1) } });
    expect(keys.map((key) => cache.reads(key) === undefined).lastIndexOf(true)).toBe(1);
  });

  it('takes less than 20 bytes for each path of a folder of packages', async () => {
    const lying: Record<string, Lying> = {};
    const seen: Observation[] = [];
    for (let at = 0; at < 10_000; at += 1) {
      const folder = `app/node_modules/@scope${at % 37}/package-${Math.floor(at / 12)}/dist/esm`;
      const path = at % 12 === 0 ? folder : `${folder}/module-${at}.js`;
      const uses = LOOKED | (at % 12 === 0 ? USE.LISTING : at % 2 === 0 ? USE.CONTENT : 0);
      seen.push(saw(path, uses, at % 3 === 0 ? 'node' : 'npm'));
      if (at % 5 === 0) continue;
      const mtime = { sec: 1_700_000_000 + at, nsec: (at * 7919) % 1_000_000_000 };
      lying[path] = at % 12 === 0 ? { type: 'dir' } : { content: `module ${at}`, mtime };
    }
    const cache = open();
    await observed(cache, lying, seen);
    const [{ bytes } = { bytes: undefined }] = sql(
      `SELECT length(paths) + length(programs) + length(marks) AS bytes
         FROM observations JOIN path_sets ON path_sets.id = observations.path_set`,
    );
    expect(bytes).toBeLessThan(20 * 10_000);
    const tree = new FakeTree(lying);
    expect(await cache.lookupObserved(query(tree))).toMatchObject({ kind: 'hit', paths: 10_000 });
  });
});

describe('damage', () => {
  it('of paths counts as no path set, until the next observation of them mends it', async () => {
    const key = await observed(open(), APP, NPM);
    const other = await observed(open(), APP, [saw('elsewhere', LOOKED)]);
    const [{ paths } = { paths: null }] = sql(
      'SELECT paths FROM path_sets JOIN observations ON path_set = id WHERE record = ?',
      other,
    );
    if (!(paths instanceof Uint8Array)) throw new Error('no paths');
    const update =
      'UPDATE path_sets SET paths = ? WHERE id = (SELECT path_set FROM observations WHERE record = ?)';
    const changed = { ...APP, 'app/package.json': { content: 'edited' }, elsewhere: {} };
    // The paths of another set would hit by what was never observed.
    for (const damage of [Buffer.from('damage'), Buffer.alloc(0), paths]) {
      sql(update, damage, key);
      const cache = open();
      expect(cache.reads(key)).toBeUndefined();
      expect((await look(cache, changed)).kind).toBe('miss');
      expect(await look(cache, APP)).toMatchObject({ kind: 'hit', record: { key: other } });
    }
    const cache = open();
    await cache.observe(key, query(new FakeTree(APP)), { observations: NPM, parentDiffs: [] });
    expect(open().reads(key)?.length).toBe(4);
    expect(await look(open(), APP)).toMatchObject({ kind: 'hit', record: { key } });
    expect(warnings).toEqual([]);
  });

  it('of marks and programs costs the explanation only', async () => {
    const key = await observed(open(), APP, NPM);
    const edited = { ...APP, 'app/package.json': { content: 'edited' } };
    sql('UPDATE path_sets SET programs = ?', Buffer.from('damage'));
    expect(await look(open(), edited)).toEqual({
      kind: 'miss',
      why: { reason: 'observed-changed', path: 'app/package.json', change: 'content', others: 0 },
    });
    expect(open().reads(key)?.[0]).toEqual(saw('app', LOOKED));
    sql('UPDATE observations SET marks = ?', Buffer.from('damage'));
    expect(await look(open(), edited)).toEqual({ kind: 'miss' });
    expect(await look(open(), APP)).toMatchObject({ kind: 'hit' });
    expect(warnings).toEqual([]);
  });

  it('of what no varve wrote sets the database aside', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    sql("UPDATE observations SET parent_diffs = '[1]'");
    expect(await look(cache, APP)).toEqual({ kind: 'miss' });
    expect(warnings.length).toBe(1);
  });

  it('does not let the paths of a former database stand for those of a new one', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    expect((await look(cache, APP)).kind).toBe('hit');
    for (const suffix of ['', '-wal', '-shm']) await rm(join(root, `varve.db${suffix}`), { force: true });
    const other = [saw('app/src/main.js', LOOKED | USE.CONTENT)];
    const key = await observed(open('new'), APP, other);
    expect(await look(cache, APP)).toMatchObject({ kind: 'hit', record: { key }, paths: 1 });
    expect((await look(cache, { ...APP, 'app/src/main.js': { content: 'x' } })).kind).toBe('miss');
  });
});

describe('several processes', () => {
  it('note and find observations of one action at once, and never a wrong one', async () => {
    for (const session of ['one', 'two']) {
      children.push(startChild('store-process.ts', ['observe', root, session]));
    }
    const lines = await Promise.all(children.map((child) => child.lines));
    expect(lines).toEqual([['hits 60'], ['hits 60']]);
    expect(rows('path_sets')).toBe(MOST_PATH_SETS);
    expect(sql('PRAGMA foreign_key_check')).toEqual([]);
  });
});

describe('a database of the schema before', () => {
  it('keeps its records, which ran when they were written, and takes observations', async () => {
    const [before = ''] = MIGRATIONS;
    const old = new DatabaseSync(join(root, 'varve.db'));
    old.exec(before);
    old.exec('PRAGMA user_version = 1');
    const first = { action: ACTION, parent: undefined, inputs: [], slot: 's' };
    const key = stepKey(first);
    old
      .prepare('INSERT INTO records VALUES (?, ?, ?, NULL, NULL, NULL, ?, ?, 1234, 1235, 2, 1.5)')
      .run(key, actionDigest(ACTION), keyPreimage(first), 'RUN', 'RUN old');
    old.close();
    const cache = open();
    const record = { key, origin: 'ran', createdAtMs: 1234, ranAtMs: 1234, durationMs: 1.5 };
    expect(await cache.lookup(first)).toEqual({ kind: 'hit', record });
    expect(cache.earlier(ACTION, 5)).toEqual([record]);
    expect(cache.repeatable(key)).toBeUndefined();
    expect(await look(cache, APP)).toEqual({ kind: 'miss' });
    await cache.observe(key, query(new FakeTree(APP)), { observations: NPM, parentDiffs: [] });
    expect(await look(cache, APP)).toMatchObject({ kind: 'hit', record });
    expect(sql('PRAGMA user_version')).toEqual([{ user_version: MIGRATIONS.length }]);
    expect(warnings).toEqual([]);
  });

  it('was made by a migration that stays what it is', () => {
    const [published = ''] = MIGRATIONS;
    expect(digestOf(published)).toBe(
      'sha256:21634a0f6979b9a84091ce00f2b08906c9beb9dbc0a961548c06d033ac19fa5f',
    );
  });
});
