import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Change,
  type CommittedSnapshot,
  type Digest,
  digestOf,
  type Entry,
  type ImagePath,
  imagePath,
  type Snapshotter,
  type TreeOp,
} from '../core/index.ts';
import { DiffIndex } from './diff-index.ts';
import { decodeFolders, encodeFolders } from './folder-facts.ts';
import { diffIdOf, Rig, treeOps } from './test-rig.ts';

const attributes = { mode: 0o755, uid: 0, gid: 0, mtime: { sec: 5, nsec: 0 } };

function entry(path: string, more: Partial<Entry> = {}): Change {
  return { kind: 'set', entry: { path: imagePath(path), type: 'file', size: 1, ...attributes, ...more } };
}

function encoded(changes: readonly Change[], known: readonly string[]): Buffer | undefined {
  return encodeFolders(
    new DiffIndex(changes),
    new Map(known.map((path) => [imagePath(path), digestOf(path)])),
  );
}

describe('encodeFolders', () => {
  const dir = entry('d', { type: 'dir', size: 0 });
  const whole = [
    dir,
    entry('d/a'),
    entry('d/empty', { size: 0 }),
    { kind: 'whiteout', path: imagePath('g') },
  ] as const;

  test('writes down a diff of which all is known, and no other', () => {
    expect(encoded(whole, ['d/a'])).toBeDefined();
    expect(encoded([], [])).toBeDefined();
    expect(encoded(whole, [])).toBeUndefined();
    expect(encoded([...whole, entry('h', { hardlinkTo: imagePath('d/a') })], ['d/a', 'h'])).toBeUndefined();
    expect(encoded([entry('d/a')], ['d/a'])).toBeUndefined();
  });

  test('writes what is read again', () => {
    const facts = decodeFolders(encoded(whole, ['d/a']) ?? Buffer.alloc(0));
    const names = facts?.names() ?? [];
    expect(names.map(({ name }) => name.toString())).toEqual(['d', 'g']);
    const inside = names[0]?.inside?.names() ?? [];
    expect(inside.map(({ name }) => name.toString())).toEqual(['a', 'empty']);
    expect(inside[0]?.facts.includes(Buffer.from(digestOf('d/a').slice(7), 'hex'))).toBe(true);
  });

  test('a torn file is none, wherever it is cut or changed', () => {
    const file = encoded(whole, ['d/a']) ?? Buffer.alloc(0);
    for (let at = 0; at < file.length; at += 1) {
      expect(decodeFolders(file.subarray(0, at))).toBeUndefined();
      const changed = Buffer.from(file);
      changed.writeUInt8(changed.readUInt8(at) ^ 0x04, at);
      expect(decodeFolders(changed)).toBeUndefined();
    }
    expect(decodeFolders(Buffer.concat([file, Buffer.alloc(1)]))).toBeUndefined();
    expect(decodeFolders(Buffer.alloc(file.length))).toBeUndefined();
  });
});

describe('the stack of an observed snapshot', () => {
  let rig: Rig;
  let snapshotter: Snapshotter;
  beforeEach(() => {
    rig = new Rig('copy');
    snapshotter = rig.open();
  });
  afterEach(() => rig.dispose());

  /** Lays files on `parent`, with their digests known or not. */
  const copy = async (
    parent: CommittedSnapshot | undefined,
    files: Readonly<Record<string, string>>,
    isKnown = true,
  ): Promise<CommittedSnapshot> => {
    await using active = await snapshotter.prepare(parent);
    const digests = new Map<ImagePath, Digest>();
    const ops = Object.entries(files).map(([name, text]): TreeOp => {
      const path = imagePath(name);
      digests.set(path, digestOf(text));
      return { op: 'file', path, attributes, content: { kind: 'bytes', bytes: Buffer.from(text) } };
    });
    await treeOps.apply(active.root, ops);
    await using frozen = await active.freeze(isKnown ? { digests } : {});
    return await frozen.commit(diffIdOf(JSON.stringify([parent?.id, files, isKnown])));
  };
  const changed = async (from: CommittedSnapshot, to: CommittedSnapshot, store = snapshotter, base = 0) => {
    const name = (await store.observed(from, base)).stack?.name ?? '';
    return (await store.observed(to, base)).stack?.changesSince(name);
  };
  const one = { 'd/a': 'one', 'd/b': 'b', 'e/c': 'c' };
  const two = { ...one, 'd/a': 'two' };

  test('tells what differs, in another process too, with a base and without', async () => {
    const base = await copy(undefined, { f: 'f' }, false);
    const [was, is] = [await copy(base, one), await copy(base, two)];
    const changes = [{ path: 'd/a', reach: 'path' }];
    expect(await changed(was, is)).toMatchObject(changes);
    expect(await changed(was, is, rig.open('two'), 1)).toMatchObject(changes);
    expect(await changed(was, await copy(base, { 'd/a': 'one', 'e/c': 'c' }))).toMatchObject([
      { path: 'd/b', reach: 'below' },
    ]);
    expect(await changed(was, was)).toEqual([]);
  });

  test('tells the same of a diff on changed ones, and of their root folder', async () => {
    const top = { g: 'g' };
    const was = await copy(await copy(undefined, one), top, false);
    const is = await snapshotter.stack(
      await copy(undefined, two),
      diffIdOf(JSON.stringify([was.parent?.id, top, false])),
    );
    if (is === undefined) throw new Error('no such diff');
    expect(await changed(was, is)).toMatchObject([{ path: 'd/a', reach: 'path' }]);
    await using active = await snapshotter.prepare(undefined);
    await treeOps.apply(active.root, [
      { op: 'dir', path: imagePath(''), attributes: { ...attributes, mode: 0o700 } },
    ]);
    await using frozen = await active.freeze();
    const root = await frozen.commit(diffIdOf('root'));
    await using plain = await snapshotter.prepare(undefined);
    await using empty = await plain.freeze();
    expect(await changed(await empty.commit(diffIdOf('empty')), root)).toEqual([{ path: '', reach: 'path' }]);
  });

  test('does not compare diffs of which one is not known wholly, gone, or torn on disk', async () => {
    const [was, is] = [await copy(undefined, one), await copy(undefined, two)];
    expect(await changed(was, await copy(undefined, one, false))).toBeUndefined();
    const data = join(rig.root, 'diffs/data');
    const files = readdirSync(data).map((uid) => join(data, uid, 'folders'));
    const kept = files.flatMap((file) => {
      try {
        return [{ file, bytes: readFileSync(file) }];
      } catch {
        return [];
      }
    });
    expect(kept.length).toBe(2);
    const fresh = () => changed(was, is, rig.open('fresh'));
    for (const { file, bytes } of kept) {
      for (const torn of [bytes.subarray(0, -9), Buffer.alloc(bytes.length), Buffer.alloc(0)]) {
        writeFileSync(file, torn);
        expect(await fresh()).toBeUndefined();
      }
      rmSync(file);
      expect(await fresh()).toBeUndefined();
      writeFileSync(file, bytes);
      expect(await fresh()).toHaveLength(1);
    }
    const name = (await snapshotter.observed(was, 0)).stack?.name ?? '';
    await snapshotter.remove(was.diffIds);
    expect(await (await rig.open('later').observed(is, 0)).stack?.changesSince(name)).toBeUndefined();
    expect(
      await (await snapshotter.observed(is, 0)).stack?.changesSince(name.replace(/"[^"]*"\]$/, '"../x"]')),
    ).toBeUndefined();
  });
});
