import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Change,
  type CommittedSnapshot,
  changePath,
  digestOf,
  FOLDER_TIME,
  type FrozenSnapshot,
  imagePath,
  type RootMount,
  type Snapshotter,
} from '../core/index.ts';
import { diffIdOf, layer, Rig, treeListing, treeOps } from './test-rig.ts';

/** What drivers promise of traced trees, of fixed times and known digests, and of what changed between snapshots. */
export function describeTracedContract(driver: 'overlay' | 'copy', userXattrs = false): void {
  let rig: Rig;
  let snapshotter: Snapshotter;

  beforeEach(() => {
    rig = new Rig(driver, userXattrs);
    snapshotter = rig.open();
  });
  afterEach(() => rig.dispose());

  const make = async (parent: CommittedSnapshot | undefined, name: string, text: string) => {
    const write = (root: RootMount) => {
      rig.run(root, text);
    };
    return (await layer(snapshotter, parent, { name, write })).committed;
  };
  const makeThree = async () => {
    const base = await make(
      undefined,
      'base',
      'mkdir d; echo b > d/base; chmod 711 .; touch -d 2001-01-01 .',
    );
    const one = await make(base, 'one', 'echo 1 > d/one; rm d/base');
    const two = await make(one, 'two', 'echo 2 > d/two');
    return { base, one, two };
  };
  const homesOf = (snapshot: CommittedSnapshot) =>
    snapshot.lowers.map((lower) => lower.slice(0, -'/fs'.length));

  describe('a tree traced above a base', () => {
    test('names the diffs above by their data folders, and those of the base as they are', async () => {
      const { base, two } = await makeThree();
      await using active = await snapshotter.prepare(two, { traceAbove: 1 });
      const plain = await snapshotter.prepare(two);
      if (driver === 'copy') {
        expect(active.root.type).toBe(plain.root.type);
        return;
      }
      expect(active.root).toMatchObject({
        type: 'overlay',
        lowers: base.lowers,
        traced: homesOf(two).slice(0, 2),
      });
      await using all = await snapshotter.prepare(two, { traceAbove: 0 });
      expect(all.root).toMatchObject({ lowers: [], traced: homesOf(two) });
      expect(plain.root).not.toHaveProperty('traced');
    });

    test('is a plain one where nothing lies above', async () => {
      const { base } = await makeThree();
      for (const [parent, traceAbove] of [
        [base, 1],
        [base, 7],
        [undefined, 0],
      ] as const) {
        await using active = await snapshotter.prepare(parent, { traceAbove });
        expect(active.root).not.toHaveProperty('traced');
        if (active.root.type === 'overlay') expect(active.root.lowers).toHaveLength(1);
      }
    });

    test('has the attributes of the parent’s root folder, with the time of folders', async () => {
      const { two } = await makeThree();
      await using active = await snapshotter.prepare(two, { traceAbove: 1 });
      if (active.root.type !== 'overlay') return;
      const stat = lstatSync(active.root.writable?.upper ?? '', { bigint: true });
      expect(Number(stat.mode) & 0o7777).toBe(0o711);
      expect(stat.mtimeNs).toBe(BigInt(FOLDER_TIME.sec) * 1_000_000_000n);
      await using frozen = await active.freeze();
      expect(frozen.changes).toEqual([]);
      expect((await frozen.tree().lstat(imagePath('')))?.mtime.sec).toBe(978_307_200);
    });

    test('names a diff that comes twice once, in the part where it decides', async () => {
      const { two } = await makeThree();
      const twice = await snapshotter.stack(two, diffIdOf('one'));
      const thrice = await snapshotter.stack(twice, diffIdOf('base'));
      if (thrice === undefined) throw new Error('the diffs are in the store');
      const homes = homesOf(thrice);
      expect(homes).toHaveLength(3);
      await using active = await snapshotter.prepare(thrice, { traceAbove: 1 });
      if (active.root.type === 'overlay') expect(active.root).toMatchObject({ lowers: [], traced: homes });
      rig.run(active.root, 'test -e d/base; test "$(cat d/one)" = 1; echo n > d/new');
      await using frozen = await active.freeze();
      expect(frozen.changes.map(changePath)).toEqual(['d', 'd/new']);
      const observed = await snapshotter.observed(thrice, 1);
      expect(observed.list(imagePath('d')).map(({ name }) => name)).toEqual(['base', 'one', 'two']);
    });

    test('is written and frozen as any other', async () => {
      const { two } = await makeThree();
      const text = 'rm d/one; mkdir -p new/sub d/fresh; echo x > d/two; rm -r d/base || true; mkdir d/base';
      await using plain = await snapshotter.prepare(two);
      await using traced = await snapshotter.prepare(two, { traceAbove: 1 });
      rig.run(plain.root, text);
      rig.run(traced.root, text);
      const [one, other] = [await plain.freeze(), await traced.freeze()];
      expect(await treeListing(other.tree())).toEqual(await treeListing(one.tree()));
      const told = ({ changes }: FrozenSnapshot) =>
        changes.map((change) => `${change.kind} ${changePath(change)}`);
      // A diff below takes the name away. Where reading is really told of, the kernel marks the folder too, and copies do as it does.
      const marks = driver === 'copy' ? ['opaque d/base'] : [];
      expect(told(other).filter((change) => !marks.includes(change))).toEqual(told(one));
    });
  });

  describe('freezing', () => {
    const times = (changes: readonly Change[]) =>
      Object.fromEntries(
        changes.flatMap((change) => (change.kind === 'set' ? [[change.entry.path, change.entry.mtime]] : [])),
      );

    test.each([1, 200])('sets the time of folders that the parent has too, %i of them', async (count) => {
      const folders = Array.from({ length: count }, (_, i) => `d/n${i}`);
      const base = await make(
        undefined,
        'base',
        `mkdir -p gone same ${folders.join(' ')}; touch flat; setfattr -n user.x -v 1 same`,
      );
      const active = await snapshotter.prepare(base);
      rig.run(
        active.root,
        `for i in ${folders.join(' ')}; do echo x > $i/f; done; mkdir new; echo y > new/f; rm -r gone flat; echo z > gone; mkdir flat
        echo s > same/s; rm -r d/n0; mkdir -m 700 d/n0; touch -d '2002-01-01 00:00:00.25' new d/n0`,
      );
      const frozen = await active.freeze({ fixFolderTimes: true });
      const told = times(frozen.changes);
      const odd = { sec: 1_009_843_200, nsec: 250_000_000 };
      expect(told).toMatchObject({ d: FOLDER_TIME, 'd/n0': FOLDER_TIME, same: FOLDER_TIME, new: odd });
      for (const path of ['gone', 'flat']) expect(told[path]?.sec).toBeGreaterThan(1_500_000_000);
      expect(frozen.changes.filter(({ kind }) => kind === 'opaque').map(changePath)).toEqual([
        'd/n0',
        'flat',
      ]);
      const scanned = (await treeOps.scanDiff(frozen.folder, { userXattrs })).slice(1);
      expect(scanned).toEqual(frozen.changes);
      const again = await (await frozen.commit(diffIdOf('top'))).top();
      expect(again.changes).toEqual(frozen.changes);
    });

    test('sets the time of folders whose path is too long for one call', async () => {
      const deep = "n=$(printf 'n%.0s' {1..200}); for i in {1..21}; do mkdir -p $n; cd $n; done";
      const base = await make(undefined, 'base', deep);
      const active = await snapshotter.prepare(base);
      rig.run(active.root, `${deep}; echo x > f`);
      const frozen = await active.freeze({ fixFolderTimes: true });
      const told = Object.values(times(frozen.changes));
      expect(told).toHaveLength(22);
      expect(told.slice(0, -1).every((time) => time === FOLDER_TIME)).toBe(true);
      expect((await treeOps.scanDiff(frozen.folder, { userXattrs })).slice(1)).toEqual(frozen.changes);
    });

    test('sets the time of a root folder that changed, and of nothing where it is not asked to', async () => {
      const base = await make(undefined, 'base', 'mkdir d');
      const change = async (fixFolderTimes: boolean) => {
        const active = await snapshotter.prepare(base);
        rig.run(active.root, 'chmod 700 .; echo x > f; echo x > d/f');
        return active.freeze({ fixFolderTimes });
      };
      const fixed = await change(true);
      expect(times(fixed.changes)).toMatchObject({ '': FOLDER_TIME, d: FOLDER_TIME });
      expect((await fixed.tree().lstat(imagePath('')))?.mtime).toEqual(FOLDER_TIME);
      expect(lstatSync(fixed.folder).mtimeMs).toBe(FOLDER_TIME.sec * 1000);
      const left = times((await change(false)).changes);
      for (const path of ['', 'd']) expect(left[path]?.sec).toBeGreaterThan(1_500_000_000);
    });

    test('notes digests that are known, so that the files are not read for them', async () => {
      const active = await snapshotter.prepare(undefined);
      rig.run(active.root, 'mkdir d; echo a > d/a; ln d/a d/b; echo c > c; echo e > e');
      const known = digestOf('whatever is said');
      const digests = new Map(['d/b', 'c', 'd', 'absent'].map((path) => [imagePath(path), known] as const));
      const frozen = await active.freeze({ digests });
      for (const path of ['d/a', 'd/b', 'c']) expect(await frozen.tree().digest(imagePath(path))).toBe(known);
      expect(await frozen.tree().digest(imagePath('e'))).toBe(digestOf('e\n'));
      const notes = readFileSync(join(frozen.folder, '../digests'), 'utf8');
      expect(notes).toContain('"c"');
      expect(notes).not.toMatch(/"absent"|"d"/);
      const committed = await frozen.commit(diffIdOf('noted'));
      const elsewhere = await rig.open('two').find(committed.diffIds);
      expect(await elsewhere?.tree().digest(imagePath('d/b'))).toBe(known);
    });
  });

  describe('the number of changed paths', () => {
    test('counts names other than folders that differ above the base', async () => {
      const base = await make(undefined, 'base', 'mkdir d; echo b > d/base');
      const same = await make(base, 'same', "mkdir e; echo 1 > e/1; touch -d '2001-01-01' e/1");
      const old = await make(
        same,
        'old',
        "rm d/base; mkdir f; for i in keep change gone; do echo $i > f/$i; done; touch -d '2001-01-01' f/*",
      );
      const now = await make(
        same,
        'now',
        "mkdir f x; for i in keep change new; do echo $i > f/$i; done; touch -d '2001-01-01' f/*; echo y > f/change",
      );
      // d/base is gone in one only, f/change and f/gone and f/new differ; x is a folder.
      expect(await snapshotter.changedPaths(old.diffIds, now, 1)).toBe(4);
      expect(await snapshotter.changedPaths(now.diffIds, old, 1)).toBe(4);
      expect(await snapshotter.changedPaths(old.diffIds, old, 1)).toBe(0);
      expect(await snapshotter.changedPaths(base.diffIds, same, 1)).toBe(1);
      expect(await snapshotter.changedPaths([], same, 0)).toBe(2);
      expect(await snapshotter.changedPaths(same.diffIds, undefined, 0)).toBe(2);
    });

    test('is not known where a diff is gone', async () => {
      const base = await make(undefined, 'base', 'echo b > b');
      expect(await snapshotter.changedPaths([...base.diffIds, diffIdOf('absent')], base, 1)).toBeUndefined();
    });
  });
}
