import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Change,
  type CommittedSnapshot,
  type Digest,
  digestOf,
  FOLDER_TIME,
  type FrozenSnapshot,
  type ImagePath,
  imagePath,
  parentPath,
  ROOT_PATH,
  type Snapshotter,
  type TreeOp,
} from '../core/index.ts';
import { diffIdOf, isRoot, Rig, treeListing, treeOps } from './test-rig.ts';

const attributes = { mode: 0o644, uid: 0, gid: 0, mtime: { sec: 5, nsec: 7 } };

type Files = Readonly<Record<string, string>>;

/** Folders and files by path order; `folderTime` is that of folders. */
function ops(files: Files, folderTime = attributes.mtime): readonly TreeOp[] {
  const made: TreeOp[] = [];
  const folders = new Set<ImagePath>();
  for (const [name, text] of Object.entries(files)) {
    const path = imagePath(name);
    const missing: ImagePath[] = [];
    for (let at = parentPath(path); at !== ROOT_PATH && !folders.has(at); at = parentPath(at))
      missing.unshift(at);
    for (const folder of missing) {
      folders.add(folder);
      made.push({ op: 'dir', path: folder, attributes: { ...attributes, mode: 0o755, mtime: folderTime } });
    }
    made.push({ op: 'file', path, attributes, content: { kind: 'bytes', bytes: Buffer.from(text) } });
  }
  return made;
}

function digestsOf(files: Files): ReadonlyMap<ImagePath, Digest> {
  return new Map(Object.entries(files).map(([name, text]) => [imagePath(name), digestOf(text)]));
}

const ONE = { 'd/a': 'one', 'd/b': 'b', 'e/f/g': 'g' };
const EDIT = { 'd/a': 'two!' };
const TWO = { ...ONE, ...EDIT };

describe.skipIf(!isRoot).each(['trusted', 'user'] as const)('a patch (%s attributes)', (kind) => {
  let rig: Rig;
  let snapshotter: Snapshotter;
  beforeEach(() => {
    rig = new Rig('overlay', kind === 'user');
    snapshotter = rig.open();
  });
  afterEach(() => rig.dispose());

  const write = async (parent: CommittedSnapshot | undefined, files: Files): Promise<FrozenSnapshot> => {
    await using active = await snapshotter.prepare(parent);
    await treeOps.apply(active.root, ops(files));
    return await active.freeze({ fixFolderTimes: true, digests: digestsOf(files) });
  };
  const whole = async (name: string, files: Files, parent?: CommittedSnapshot) => {
    await using frozen = await write(parent, files);
    return await frozen.commit(diffIdOf(name));
  };
  const patchOf = async (name: string, files: Files, parent?: CommittedSnapshot) => {
    const original = await snapshotter.original(diffIdOf(name));
    if (original === undefined) throw new Error('no original');
    const folderTime = parent === undefined ? attributes.mtime : FOLDER_TIME;
    const patch = { ops: ops(files, folderTime), digests: digestsOf(files) };
    return await snapshotter.patch(parent, original, patch);
  };
  const patched = async (name: string, files: Files, as: string, parent?: CommittedSnapshot) => {
    await using frozen = await patchOf(name, files, parent);
    if (frozen === undefined) throw new Error('no patch');
    return await frozen.commit(diffIdOf(as));
  };
  const data = () => readdirSync(join(rig.root, 'diffs/data')).sort();
  const homeOf = (snapshot: CommittedSnapshot) => dirname(snapshot.lowers[0] ?? '');
  const look = async (snapshot: CommittedSnapshot): Promise<string> => {
    await using active = await snapshotter.prepare(snapshot);
    // How many links a folder has is the kernel's matter: it tells one of each that lies in two layers.
    const script =
      "find . -mindepth 1 ! -type d -printf '%p %n %m %U %G %s %T+\\n' -o -mindepth 1 -printf '%p %m %T+\\n' | sort; cat d/a";
    return rig.run(active.root, script);
  };

  test('is the diff that writing all of it makes, and holds what differs', async () => {
    await whole('one', ONE);
    const two = await whole('two', TWO);
    const patch = await patched('one', EDIT, 'patch');
    expect((await patch.top()).changes).toEqual((await two.top()).changes);
    expect(await treeListing(patch.tree())).toEqual(await treeListing(two.tree()));
    expect(await look(patch)).toBe(await look(two));
    expect(readdirSync(join(homeOf(patch), 'fs'), { recursive: true })).toEqual(['d', 'd/a']);
    const digests = await Promise.all(['d/a', 'd/b'].map((path) => patch.tree().digest(imagePath(path))));
    expect(digests).toEqual([digestOf('two!'), digestOf('b')]);
    const bytes = (await snapshotter.diffs()).map((diff) => [diff.diffId, diff.bytes] as const);
    expect(new Map(bytes)).toEqual(
      new Map([
        [diffIdOf('one'), 5],
        [diffIdOf('two'), 6],
        [diffIdOf('patch'), 4],
      ]),
    );
  });

  test('is known to another process, with the folders that a whole diff writes down', async () => {
    await whole('one', ONE);
    const two = await whole('two', { ...TWO, 'd/new/x': 'x' });
    const patch = await patched('one', { ...EDIT, 'd/new/x': 'x' }, 'patch');
    const other = rig.open('two');
    const found = await other.find([diffIdOf('patch')]);
    expect(found?.lowers).toEqual(patch.lowers);
    expect(await treeListing(found?.tree() ?? two.tree())).toEqual(await treeListing(two.tree()));
    const names = await Promise.all(
      [patch, two].map(async (one) => (await other.observed(one, 0)).stack?.name),
    );
    const is = await other.observed(found, 0);
    expect(is.stack?.changesSince(names[1] ?? '')).toEqual([]);
    expect(is.stack?.changesSince(names[0] ?? '')).toEqual([]);
    const one = await other.find([diffIdOf('one')]);
    const before = (await other.observed(one, 0)).stack?.name ?? '';
    expect(is.stack?.changesSince(before)?.map(({ path }) => path)).toEqual(['d/a', 'd/new']);
  });

  test('of a patch stands on the same original', async () => {
    const one = await whole('one', ONE);
    await patched('one', EDIT, 'patch');
    const third = await patched('patch', { 'd/b': 'three' }, 'third');
    expect(third.lowers.slice(1)).toEqual(one.lowers);
    expect(await readFile(await third.tree().hostPath(imagePath('d/a')), 'utf8')).toBe('one');
    expect(await readFile(await third.tree().hostPath(imagePath('d/b')), 'utf8')).toBe('three');
  });

  test('can be laid on other diffs, and twice, with its original and other patches of it', async () => {
    const one = await whole('one', ONE);
    await patched('one', EDIT, 'patch');
    await patched('one', { 'd/b': 'third' }, 'third');
    const below = await whole('below', { 'd/a': 'below', 'd/z': 'z', 'e/f/h': 'h' });
    const stacks = [
      ['patch'],
      ['third', 'patch'],
      ['one', 'patch'],
      ['patch', 'one'],
      ['third', 'one', 'patch', 'third'],
    ];
    for (const names of stacks) {
      let at: CommittedSnapshot | undefined = below;
      for (const name of names) at = await snapshotter.stack(at, diffIdOf(name));
      if (at === undefined) throw new Error('no such diff');
      const top = names.at(-1);
      expect(await readFile(await at.tree().hostPath(imagePath('d/a')), 'utf8')).toBe(
        top === 'patch' ? 'two!' : 'one',
      );
      await using active = await snapshotter.prepare(at);
      const shown = rig.run(active.root, 'cat d/a d/b d/z e/f/g e/f/h');
      expect(shown).toBe(top === 'patch' ? 'two!bzgh' : top === 'one' ? 'onebzgh' : 'onethirdzgh');
      const inManifests = await Promise.all(
        ['d/a', 'd/b', 'd/z'].map(async (path) =>
          readFile(await at.tree().hostPath(imagePath(path)), 'utf8'),
        ),
      );
      expect(shown.startsWith(inManifests.join(''))).toBe(true);
    }
    expect(one.lowers.length).toBe(1);
  });

  test.each<[string, Files, Files]>([
    ['has a folder of another time', { 'd/x': 'x' }, EDIT],
    ['has a file where a folder comes', { d: 'file' }, EDIT],
    ['had what a new folder would hide', {}, EDIT],
  ])('is not made where the parent %s', async (_, files, edit) => {
    await whole('one', ONE);
    let parent = await whole('parent', files);
    if (Object.keys(files).length === 0) {
      await whole('with', { 'd/x': 'x' });
      const made = await snapshotter.stack(parent, diffIdOf('with'));
      await using active = await snapshotter.prepare(made);
      await treeOps.apply(active.root, [{ op: 'remove', path: imagePath('d') }]);
      await using frozen = await active.freeze();
      parent = await frozen.commit(diffIdOf('without'));
    }
    const before = data();
    const original = await snapshotter.original(diffIdOf('one'));
    if (original === undefined) throw new Error('no original');
    const patch = { ops: ops(edit), digests: digestsOf(edit) };
    expect(await snapshotter.patch(parent, original, patch)).toBeUndefined();
    expect(data()).toEqual(before);
  });

  test('is made where the parent has the folders, when the original was made on such a parent', async () => {
    const parent = await whole('parent', { 'd/x': 'x', 'e/f/x': 'x' });
    await whole('one', ONE, parent);
    const two = await whole('two', TWO, parent);
    const patch = await patched('one', EDIT, 'patch', parent);
    expect((await patch.top()).changes).toEqual((await two.top()).changes);
    expect(await look(patch)).toBe(await look(two));
  });

  test.each<[string, Change['kind'] | 'link' | 'root' | 'xattr']>([
    ['marks', 'whiteout'],
    ['a file with two names', 'link'],
    ['the root folder', 'root'],
    ['extended attributes', 'xattr'],
  ])('is not made of a diff that holds %s', async (_, what) => {
    const parent = await whole('parent', { 'd/x': 'x' });
    await using active = await snapshotter.prepare(parent);
    const odd: Record<string, TreeOp> = {
      whiteout: { op: 'remove', path: imagePath('d/x') },
      link: { op: 'hardlink', path: imagePath('l'), target: imagePath('d/a') },
      root: { op: 'dir', path: ROOT_PATH, attributes: { ...attributes, mode: 0o700 } },
      xattr: {
        op: 'dir',
        path: imagePath('d'),
        attributes: { ...attributes, mode: 0o755, xattrs: { 'user.note': Buffer.from('n') } },
      },
    };
    const one = odd[what];
    await treeOps.apply(active.root, [...ops(ONE), ...(one === undefined ? [] : [one])]);
    await using frozen = await active.freeze();
    await frozen.commit(diffIdOf('odd'));
    expect(await snapshotter.original(diffIdOf('odd'))).toBeUndefined();
  });

  test('keeps its original, whose name may go; both go with the last patch', async () => {
    await whole('one', ONE);
    await patched('one', EDIT, 'patch');
    const third = await patched('one', { 'd/b': 'third' }, 'third');
    await snapshotter.remove([diffIdOf('one')]);
    expect(await snapshotter.find([diffIdOf('one')])).toBeUndefined();
    expect(data().length).toBe(3);
    const bytes = (await snapshotter.diffs()).reduce((sum, diff) => sum + diff.bytes, 0);
    expect(bytes).toBe(5 + 4 + 5);
    await snapshotter.remove([diffIdOf('patch')]);
    expect(data().length).toBe(2);
    expect(await look(third)).toContain('one');
    // A patch of a patch needs no name of the original.
    expect(await patchOf('third', EDIT)).toBeDefined();
    await snapshotter.remove([diffIdOf('third')]);
    expect(data().length).toBe(2);
    await rig.open('two').sweep(() => false);
    expect(data()).toEqual([]);
  });

  test('that was not committed goes with its session, its original stays as long as another stands on it', async () => {
    await whole('one', ONE);
    await patchOf('one', EDIT);
    expect(data().length).toBe(2);
    const other = rig.open('two');
    await other.sweep((session) => session === 'one');
    expect(data().length).toBe(2);
    await other.sweep(() => false);
    expect(data().length).toBe(1);
    snapshotter = rig.open('three');
    await patched('one', EDIT, 'patch');
    await snapshotter.remove([diffIdOf('one')]);
    await other.sweep(() => false);
    expect(data().length).toBe(2);
    await snapshotter.remove([diffIdOf('patch')]);
    expect(data()).toEqual([]);
  });

  test('is found damaged where its original is, and forgotten with it', async () => {
    const one = await whole('one', ONE);
    await patched('one', EDIT, 'patch');
    await patched('one', { 'd/b': 'third' }, 'third');
    const signal = new AbortController().signal;
    expect(await snapshotter.removeDamaged(signal)).toEqual([]);
    writeFileSync(join(one.lowers[0] ?? '', 'd/b'), 'other bytes');
    // What the third one holds itself it does not take from there; its size there is of no account.
    expect((await rig.open('two').removeDamaged(signal)).toSorted()).toEqual(
      [diffIdOf('one'), diffIdOf('patch')].toSorted(),
    );
    expect(data().length).toBe(2);
  });

  test('is not found without its original, nor with a part of itself gone', async () => {
    const one = await whole('one', ONE);
    const patch = await patched('one', EDIT, 'patch');
    const third = await patched('one', { 'd/b': 'third' }, 'third');
    rmSync(join(homeOf(third), 'fs/d/b'));
    expect(await rig.open('two').removeDamaged(new AbortController().signal)).toEqual([diffIdOf('third')]);
    rmSync(homeOf(one), { recursive: true });
    const other = rig.open('three');
    expect(await other.find([diffIdOf('patch')])).toBeUndefined();
    expect(await other.find([diffIdOf('one')])).toBeUndefined();
    expect(existsSync(homeOf(patch))).toBe(false);
  });
});

test('the copy driver makes no patches, and shows those of others', async () => {
  const rig = new Rig('copy');
  try {
    const snapshotter = rig.open();
    await using active = await snapshotter.prepare(undefined);
    await treeOps.apply(active.root, ops(ONE));
    await using frozen = await active.freeze({ digests: digestsOf(ONE) });
    const one = await frozen.commit(diffIdOf('one'));
    expect(await snapshotter.original(diffIdOf('one'))).toBeUndefined();
    const store = rig.open('two', { driver: 'overlay' });
    const original = await store.original(diffIdOf('one'));
    if (original === undefined) throw new Error('no original');
    await using patch = await store.patch(undefined, original, { ops: ops(EDIT), digests: digestsOf(EDIT) });
    await patch?.commit(diffIdOf('patch'));
    const found = await snapshotter.stack(one, diffIdOf('patch'));
    if (found === undefined) throw new Error('no patch');
    await using shown = await snapshotter.prepare(found);
    expect(rig.run(shown.root, 'cat d/a d/b e/f/g')).toBe('two!bg');
  } finally {
    await rig.dispose();
  }
});
