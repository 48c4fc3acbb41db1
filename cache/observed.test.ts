import { describe, expect, it } from 'vitest';
import { type DiffId, digestOf, type ImagePath, type SnapshotId, USE } from '../core/index.ts';
import { FactList } from './fact-list.ts';
import {
  ACTION,
  APP,
  freshStores,
  LOOKED,
  look,
  NPM,
  observed,
  open,
  query,
  record,
  rows,
  saw,
} from './fixtures/observed-store.ts';
import { FakeTree, type Lying } from './fixtures/observed-tree.ts';

freshStores();

describe('lookupObserved', () => {
  it('knows nothing before anything was observed, then hits while the observed paths are what they were', async () => {
    const cache = open();
    expect(await look(cache, APP)).toEqual({ kind: 'miss' });
    const parentDiffs = [digestOf('one') as DiffId, digestOf('two') as DiffId];
    const made = await record(cache, 'a');
    await cache.observe(made.key, query(new FakeTree(APP)), { observations: NPM, parentDiffs });
    const changed = { ...APP, 'app/src/main.js': { content: 'edited' }, 'app/README.md': {} };
    const hit = { kind: 'hit', record: made, paths: 4, parentDiffs, observation: expect.anything() };
    expect(await look(cache, changed)).toEqual(hit);
    expect(await look(open(), changed)).toEqual(hit);
    expect(cache.usage()).toMatchObject([{ uses: 2 }]);
  });

  it('tells the first path that differs, what changed in it, who used it, and how many more differ', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    const lock = { ...APP, 'app/package-lock.json': { content: '{"lock":1,"more":2}' } };
    expect(await look(cache, lock)).toEqual({
      kind: 'miss',
      why: {
        reason: 'observed-changed',
        path: 'app/package-lock.json',
        change: 'content',
        by: 'npm',
        others: 0,
      },
    });
    expect(await look(open(), { ...lock, 'app/.npmrc': {}, app: { type: 'dir', uid: 1 } })).toEqual({
      kind: 'miss',
      why: { reason: 'observed-changed', path: 'app', change: 'metadata', by: 'sh', others: 2 },
    });
  });

  it('misses with other inputs or another action, and keeps these apart', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    const tree = new FakeTree(APP);
    expect((await cache.lookupObserved(query(tree))).kind).toBe('hit');
    const facts = [{ path: 'a' as ImagePath, type: 'file', mode: 0, uid: 0, gid: 0 }] as const;
    const list = FactList.of(facts);
    const inputs = [{ name: 'the build context', digest: list.digest, facts: list }];
    const action = { ...ACTION, definition: { ...ACTION.definition, base: 'sha256:2' } };
    for (const other of [query(tree, { inputs }), query(tree, { action })]) {
      expect(await cache.lookupObserved(other)).toEqual({ kind: 'miss' });
    }
  });

  it('hits what observed nothing at all, on any tree', async () => {
    const cache = open();
    const key = await observed(cache, APP, []);
    expect(await look(cache, {})).toMatchObject({ kind: 'hit', record: { key }, paths: 0 });
    expect(cache.reads(key)).toEqual([]);
  });

  it('reads no file where something else differs, and each once where nothing does', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    const other = new FakeTree({ ...APP, 'app/.npmrc': {} });
    expect((await cache.lookupObserved(query(other))).kind).toBe('miss');
    expect(other.read).toEqual([]);
    const same = new FakeTree(APP);
    expect((await cache.lookupObserved(query(same))).kind).toBe('hit');
    expect(same.read).toEqual(['app/package-lock.json', 'app/package.json']);
  });

  it('misses where content alone differs, with the same size and time', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    expect(await look(cache, { ...APP, 'app/package.json': { content: '[]' } })).toMatchObject({
      kind: 'miss',
      why: { path: 'app/package.json', change: 'content', by: 'npm', others: 0 },
    });
    expect((await look(cache, APP)).kind).toBe('hit');
  });

  it('finds the record of each former state by the same paths, and by other paths of the same action', async () => {
    const cache = open();
    const states = ['one', 'two!', 'three'].map((content) => ({ ...APP, 'app/package.json': { content } }));
    const keys = [];
    for (const state of states) keys.push(await observed(cache, state, NPM));
    const more = { ...APP, 'app/package.json': { content: 'more' }, 'app/.npmrc': { content: 'x' } };
    keys.push(await observed(cache, more, [...NPM, saw('root/.npmrc', LOOKED)]));
    for (const [at, state] of [...states, more].entries()) {
      expect(await look(cache, state)).toMatchObject({ kind: 'hit', record: { key: keys[at] } });
    }
    expect([rows('path_sets'), rows('observations')]).toEqual([2, 4]);
  });

  it('takes the result of the last run where several saw the same', async () => {
    const cache = open();
    const parents = ['first', 'second', 'third'];
    const made = [];
    for (const [at, name] of parents.entries()) {
      const parent = digestOf(name) as string as SnapshotId;
      const result = { durationMs: 1, ranAtMs: [5, 9, 7][at] ?? 0 };
      const one = await cache.record({ action: ACTION, parent, inputs: [], slot: 's' }, result);
      await cache.observe(one.key, query(new FakeTree(APP)), { observations: NPM, parentDiffs: [] });
      made.push(one);
    }
    const [, second, third] = made;
    expect(await look(cache, APP)).toMatchObject({ kind: 'hit', record: second });
    if (second !== undefined) cache.forget(second.key);
    expect(await look(cache, APP)).toMatchObject({ kind: 'hit', record: third });
  });

  it('holds the diff of a hit before it tells of it', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    cache.close();
    const reader = open('reader');
    expect(reader.held()).toEqual(new Set());
    const found = await look(reader, APP);
    if (found.kind !== 'hit' || found.record.diffId === undefined) throw new Error('no hit');
    expect(open('other').held()).toEqual(new Set([found.record.diffId]));
  });
});

describe('the reason of an observed miss', () => {
  const everything: Readonly<Record<string, Lying>> = {
    ...APP,
    'app/link': { type: 'symlink', linkTarget: 'src' },
    'app/old': 'whiteout',
  };
  const seen = [
    ...NPM,
    saw('app/src', LOOKED | USE.LISTING, 'webpack'),
    saw('app/link', LOOKED | USE.TARGET, 'sh'),
    saw('app/old', LOOKED),
    saw('app/src/main.js', LOOKED, 'make'),
  ];

  it.each<[string, string, Readonly<Record<string, Lying>>]>([
    ['app/.npmrc', 'added', { 'app/.npmrc': {} }],
    ['app/.npmrc', 'removed', { 'app/.npmrc': 'whiteout' }],
    ['app/old', 'added', { 'app/old': {} }],
    ['app/src', 'listing', { 'app/src/new.js': {} }],
    ['app/src', 'metadata', { 'app/src': { type: 'dir', opaque: true } }],
    ['app/link', 'link-target', { 'app/link': { type: 'symlink', linkTarget: 'lib' } }],
    ['app/link', 'type', { 'app/link': {} }],
    ['app/src/main.js', 'attributes', { 'app/src/main.js': { content: 'edited' } }],
    ['app/src/main.js', 'metadata', { 'app/src/main.js': { content: 'main', mode: 0o600 } }],
    ['app/package.json', 'attributes', { 'app/package.json': { content: '{}', mtime: { sec: 1, nsec: 0 } } }],
    ['app/package.json', 'content', { 'app/package.json': { content: '[]', mtime: { sec: 1, nsec: 0 } } }],
    ['app/package.json', 'metadata', { 'app/package.json': { content: '{}', uid: 7 } }],
  ])('is, for %s, that it was %s', async (path, change, other) => {
    const cache = open();
    await observed(cache, everything, seen);
    const why = { reason: 'observed-changed', path, change, others: 0 };
    expect(await look(cache, { ...everything, ...other })).toMatchObject({ kind: 'miss', why });
  });

  it('is removed for what is gone, and for what shows nothing of the tree any more', async () => {
    const cache = open();
    await observed(cache, everything, seen);
    const { 'app/link': _link, ...gone } = everything;
    expect(await look(cache, gone)).toMatchObject({ why: { path: 'app/link', change: 'removed', by: 'sh' } });
    const { 'app/old': _old, ...shown } = everything;
    const found = await look(cache, shown);
    expect(found).toMatchObject({ why: { path: 'app/old', change: 'added' } });
    if (found.kind === 'miss') expect(found.why !== undefined && 'by' in found.why).toBe(false);
  });

  it('is told from what was used last, not from what was noted last', async () => {
    const cache = open();
    const other = { ...APP, 'app/package.json': { content: 'other' } };
    await observed(cache, APP, NPM);
    await observed(cache, other, NPM);
    const third = { ...APP, 'app/package.json': { content: 'other' }, 'app/.npmrc': {} };
    expect(await look(cache, third)).toMatchObject({ why: { path: 'app/.npmrc', others: 0 } });
    expect((await look(cache, APP)).kind).toBe('hit');
    expect(await look(cache, third)).toMatchObject({ why: { path: 'app/.npmrc', others: 1 } });
  });
});

describe('reads', () => {
  it('gives what a step looked at, in path order, with the programs; nothing of a step that nobody traced', async () => {
    const cache = open();
    const key = await observed(cache, APP, [...NPM, saw('app', USE.LISTING, 'ls'), saw('z', LOOKED)]);
    const expected = [
      saw('app', LOOKED | USE.LISTING, 'sh'),
      saw('app/.npmrc', LOOKED, 'npm'),
      saw('app/package-lock.json', LOOKED | USE.CONTENT, 'npm'),
      saw('app/package.json', LOOKED | USE.CONTENT, 'npm'),
      saw('z', LOOKED),
    ];
    expect(cache.reads(key)).toEqual(expected);
    expect(open().reads(key)).toEqual(expected);
    const { key: untraced } = await record(cache, 'untraced');
    expect(cache.reads(untraced)).toBeUndefined();
  });
});
