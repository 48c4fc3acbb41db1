import { describe, expect, it } from 'vitest';
import {
  type ComparedStack,
  type DiffId,
  digestOf,
  type ImagePath,
  type Observation,
  type ObservedTree,
  type StepKey,
  type TreeChange,
} from '../core/index.ts';
import type { ObservedHit, PrunableCache } from './contract.ts';
import {
  APP,
  freshStores,
  LOOKED,
  NPM,
  open,
  query,
  record,
  rows,
  saw,
  sql,
} from './fixtures/observed-store.ts';
import { FakeTree } from './fixtures/observed-tree.ts';

freshStores();

/** A tree that knows its changes since others, and counts the paths that it is asked for. */
class StackTree extends FakeTree {
  readonly stack: ComparedStack;
  asked = 0;

  constructor(
    lying: typeof APP,
    name: string,
    since: Readonly<Record<string, readonly TreeChange[] | undefined>>,
  ) {
    super(lying);
    this.stack = { name, changesSince: (before) => (before === name ? [] : since[before]) };
  }

  override state(path: ImagePath): ReturnType<ObservedTree['state']> {
    this.asked += 1;
    return super.state(path);
  }
}

const MAIN = { path: 'app/src/main.js' as ImagePath, reach: 'path' } as const;
const LOCK = { path: 'app/package-lock.json' as ImagePath, reach: 'path' } as const;
const EDITED = { ...APP, 'app/src/main.js': { content: 'edited' } };

async function observedOn(
  cache: PrunableCache,
  tree: ObservedTree,
  seen: readonly Observation[],
): Promise<StepKey> {
  const { key } = await record(cache, JSON.stringify([tree.stack?.name, seen]));
  await cache.observe(key, query(tree), { observations: seen, parentDiffs: [] });
  return key;
}

async function hitOn(cache: PrunableCache, tree: ObservedTree): Promise<ObservedHit> {
  const found = await cache.lookupObserved(query(tree));
  if (found.kind !== 'hit') throw new Error('a miss');
  return found;
}

describe('lookupObserved, of a tree that knows what changed in it', () => {
  it('hits without a look at any path where no change reaches one', async () => {
    const key = await observedOn(open(), new StackTree(APP, 'one', {}), NPM);
    for (const since of [[], [MAIN], [{ ...MAIN, reach: 'below' as const }]]) {
      const tree = new StackTree(EDITED, 'two', { one: since });
      expect(await hitOn(open(), tree)).toMatchObject({ record: { key }, paths: 4 });
      expect(tree.asked).toBe(0);
    }
    const same = new StackTree(APP, 'one', {});
    expect(await hitOn(open(), same)).toMatchObject({ record: { key } });
    expect(same.asked).toBe(0);
  });

  it('asks for all paths where one is reached, and where nothing is known', async () => {
    const key = await observedOn(open(), new StackTree(APP, 'one', {}), NPM);
    for (const since of [
      undefined,
      [LOCK],
      [MAIN, LOCK],
      [{ path: 'app' as ImagePath, reach: 'below' as const }],
    ]) {
      const tree = new StackTree(EDITED, 'two', { one: since });
      expect(await hitOn(open(), tree)).toMatchObject({ record: { key } });
      expect(tree.asked).toBeGreaterThan(0);
      const other = { ...APP, 'app/package-lock.json': { content: '{"lock":2}' } };
      expect((await open().lookupObserved(query(new StackTree(other, 'two', { one: since })))).kind).toBe(
        'miss',
      );
    }
    // Another step's look at the same diffs says nothing of this one's paths.
    const elsewhere = await open().lookupObserved(
      query(new StackTree(APP, 'one', {}), {
        inputs: [],
        action: { version: 1, kind: 'RUN', definition: {} },
      }),
    );
    expect(elsewhere).toEqual({ kind: 'miss' });
  });

  it('compares with the last used trees of each path set, and takes no paths that are damaged', async () => {
    const cache = open();
    const first = await observedOn(cache, new StackTree(APP, 'one', {}), NPM);
    const second = await observedOn(cache, new StackTree(EDITED, 'two', {}), [
      saw('app/src/main.js', LOOKED),
    ]);
    const back = new StackTree(APP, 'three', { one: [], two: [MAIN] });
    expect(await hitOn(open(), back)).toMatchObject({ record: { key: first } });
    const on = new StackTree(EDITED, 'four', { one: undefined, two: [LOCK] });
    expect(await hitOn(open(), on)).toMatchObject({ record: { key: second } });
    expect([back.asked, on.asked]).toEqual([0, 0]);
    sql('UPDATE path_sets SET paths = ?', Buffer.from('damage'));
    expect(await open().lookupObserved(query(on))).toEqual({ kind: 'miss' });
  });

  it('takes no stack that a disk has changed, or that was noted of other paths', async () => {
    await observedOn(open(), new StackTree(APP, 'one', {}), NPM);
    await observedOn(open(), new StackTree(APP, 'other', {}), [saw('app/src/main.js', LOOKED)]);
    sql("UPDATE observations SET stack = replace(stack, ' one', ' two') WHERE path_set = 1");
    sql(
      'UPDATE observations SET stack = (SELECT stack FROM observations WHERE path_set = 1) WHERE path_set = 2',
    );
    const other = { ...APP, 'app/package-lock.json': {}, 'app/src/main.js': { content: 'edited' } };
    const tree = new StackTree(other, 'three', { one: [], two: [], other: [] });
    expect((await open().lookupObserved(query(tree))).kind).toBe('miss');
    expect(tree.asked).toBeGreaterThan(0);
  });

  it('does not ask for what an observation of an older varve stood on', async () => {
    await observedOn(open(), new StackTree(APP, 'one', {}), NPM);
    sql('UPDATE observations SET stack = NULL');
    const tree = new StackTree(EDITED, 'two', { one: [] });
    await hitOn(open(), tree);
    expect(tree.asked).toBeGreaterThan(0);
  });
});

describe('observeAgain', () => {
  it('notes of a record what was noted of the one that was found, on the diffs of today', async () => {
    const cache = open();
    const key = await observedOn(cache, new StackTree(APP, 'one', {}), NPM);
    const tree = new StackTree(EDITED, 'two', { one: [MAIN] });
    const found = await hitOn(cache, tree);
    const again = await record(cache, 'again');
    const parentDiffs = [digestOf('today') as DiffId];
    cache.observeAgain(again.key, query(tree), { found, parentDiffs });
    expect(tree.asked).toBe(0);
    expect(cache.reads(again.key)).toEqual(cache.reads(key));
    const [was, is] = sql('SELECT * FROM observations ORDER BY rowid');
    expect(is).toEqual({
      ...was,
      record: again.key,
      parent_diffs: JSON.stringify(parentDiffs),
      stack: expect.stringMatching(/^sha256:[0-9a-f]{64} two$/),
      used_at: expect.anything(),
    });
    expect(rows('path_sets')).toBe(1);
    // The next edit is compared with today's tree, whose diffs may be all that is left.
    expect(await hitOn(open(), new StackTree(EDITED, 'three', { two: [MAIN] }))).toMatchObject({
      observation: found.observation,
    });
    // What observing it anew would have noted.
    await cache.observe(again.key, query(new StackTree(EDITED, 'two', {})), {
      observations: NPM,
      parentDiffs,
    });
    expect(sql('SELECT outline, fingerprint, hex(marks) FROM observations GROUP BY 1, 2, 3')).toHaveLength(1);
  });

  it('notes nothing where the record that was found is gone, or the new one', async () => {
    const cache = open();
    const key = await observedOn(cache, new StackTree(APP, 'one', {}), NPM);
    const tree = new StackTree(APP, 'two', { one: [] });
    const found = await hitOn(cache, tree);
    cache.observeAgain(digestOf('no record') as string as StepKey, query(tree), { found, parentDiffs: [] });
    expect(rows('observations')).toBe(1);
    const again = await record(cache, 'again');
    cache.forget(key);
    cache.observeAgain(again.key, query(tree), { found, parentDiffs: [] });
    expect(rows('observations')).toBe(0);
  });
});
