import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  baseName,
  type Entry,
  type HostPath,
  type ImagePath,
  imagePath,
  joinPath,
  type ObservedTree,
  ROOT_PATH,
  type RootMount,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import { MergedTree } from './merged-tree.ts';
import { observeLayers } from './observed-tree.ts';
import { type DrawnDiff, entryOp, PATHS, randomDiff, whiteoutOp } from './random-diffs.ts';
import { emptyRoot } from './root-folder.ts';
import { isRoot, layer, Rig, treeOps, walk } from './test-rig.ts';

/** A stack, topmost first, in which a diff may come again, and how many of its lowest are a base. */
const randomStack = fc
  .tuple(
    fc.array(randomDiff, { minLength: 1, maxLength: 4 }),
    fc.array(fc.nat(3), { minLength: 1, maxLength: 5 }),
    fc.nat(4),
  )
  .map(([pool, picks, base]) => ({
    diffs: picks.flatMap((pick): DrawnDiff[] => {
      const diff = pool[pick % pool.length];
      return diff === undefined ? [] : [diff];
    }),
    base: base % (picks.length + 1),
  }));

interface Stack {
  readonly diffs: readonly DrawnDiff[];
  readonly base: number;
}

function merged(diffs: readonly DrawnDiff[]): MergedTree {
  return new MergedTree(diffs, emptyRoot());
}

function split({ diffs, base }: Stack) {
  return { above: diffs.slice(0, diffs.length - base), below: diffs.slice(diffs.length - base) };
}

function observe(layers: readonly DrawnDiff[], hasBase: boolean): Promise<ObservedTree> {
  return observeLayers({ layers, root: emptyRoot(), hasBase });
}

/** What an overlay of `upper` over `base` shows at a path, by the meaning of the states alone. */
async function unionAt(upper: ObservedTree, base: Tree, path: ImagePath): Promise<Entry | undefined> {
  const parts = path.split('/');
  let through = true;
  for (let i = 1; i <= parts.length; i++) {
    const state = upper.state(imagePath(parts.slice(0, i).join('/')));
    if (state.kind === 'absent') return through ? base.lstat(path) : undefined;
    if (state.kind === 'whiteout') return undefined;
    if (i === parts.length) return state.entry;
    if (state.entry.type !== 'dir') return undefined;
    through &&= !state.opaque;
  }
  return undefined;
}

/** Which names of a file of the base are left depends on what hides the others. */
function alone(entry: Entry | undefined): Omit<Entry, 'hardlinkTo'> | undefined {
  if (entry === undefined) return undefined;
  const { hardlinkTo: _, ...rest } = entry;
  return rest;
}

/** Writes an observed tree down as one diff in OverlayFS form. */
function writtenDown(upper: ObservedTree, folder: ImagePath = ROOT_PATH): TreeOp[] {
  return upper.list(folder).flatMap(({ name, type }) => {
    const path = joinPath(folder, name);
    const state = upper.state(path);
    if (state.kind === 'absent') throw new Error(`listed and absent: ${path}`);
    if (state.kind === 'whiteout') return [whiteoutOp(path)];
    expect(state.entry.type).toBe(type);
    // A hard link keeps the content of its first name, which another diff may hide.
    const { hardlinkTo: _, ...entry } = state.entry;
    const op = entryOp(entry, state.opaque);
    return [op, ...(type === 'dir' ? writtenDown(upper, path) : [])];
  });
}

const LIST = `set -o pipefail
  find . -mindepth 1 \\( -type d -printf '%P d %m\\0' -o -printf '%P %y %m %s %l\\0' \\) | sort -z | tr '\\0' '\\n'`;

async function listingOf(tree: Tree): Promise<string> {
  const entries = (await walk(tree)).filter(({ path }) => path !== ROOT_PATH);
  const lines = entries.map(({ path, type, mode, size, linkTarget = '' }) => {
    if (type === 'dir') return `${path} d ${mode.toString(8)}\n`;
    const length = type === 'file' ? size : linkTarget.length;
    return `${path} ${type === 'file' ? 'f' : 'l'} ${mode.toString(8)} ${length} ${linkTarget}\n`;
  });
  return lines.sort().join('');
}

describe('the observed tree of any stack', () => {
  test('is the merged tree where nothing lies below', async () => {
    const property = async ({ diffs }: Stack) => {
      const [upper, whole] = [await observe(diffs, false), merged(diffs)];
      for (const path of PATHS) {
        const [state, entry] = [upper.state(path), await whole.lstat(path)];
        if (entry === undefined) expect([path, state]).toEqual([path, { kind: 'absent' }]);
        else expect([path, state]).toMatchObject([path, { kind: 'present', entry, opaque: false }]);
        const listed = (await whole.list(path)).map((one) => ({ name: baseName(one.path), type: one.type }));
        expect([path, upper.list(path)]).toEqual([path, listed]);
        if (entry?.type === 'file') expect(await upper.digest(path)).toBe(await whole.digest(path));
      }
    };
    await fc.assert(fc.asyncProperty(randomStack, property), { numRuns: 300 });
  }, 60_000);

  test('over its base shows what all diffs show, and lists what it says anything of', async () => {
    const property = async (stack: Stack) => {
      const { above, below } = split(stack);
      const [upper, base, whole] = [await observe(above, true), merged(below), merged(stack.diffs)];
      for (const path of PATHS) {
        const shown = alone(await unionAt(upper, base, path));
        expect([path, shown]).toEqual([path, alone(await whole.lstat(path))]);
        const folder = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
        const listed = upper.list(folder as ImagePath).find(({ name }) => name === baseName(path));
        const state = upper.state(path);
        const told = state.kind === 'present' ? state.entry.type : state.kind;
        expect([path, listed?.type ?? 'absent']).toEqual([path, told]);
      }
    };
    await fc.assert(fc.asyncProperty(randomStack, property), { numRuns: 500 });
  }, 60_000);

  test('counts the names of a file and tells the first', async () => {
    const property = async ({ diffs }: Stack) => {
      const upper = await observe(diffs, true);
      const groups = new Map<ImagePath, ImagePath[]>();
      const present = PATHS.flatMap((path) => {
        const state = upper.state(path);
        return state.kind === 'present' ? [state] : [];
      });
      for (const { entry } of present) {
        const first = entry.hardlinkTo ?? entry.path;
        groups.set(first, [...(groups.get(first) ?? []), entry.path]);
      }
      for (const { entry, links } of present) {
        const group = groups.get(entry.hardlinkTo ?? entry.path) ?? [];
        expect([entry.path, group[0], links]).toEqual([
          entry.path,
          entry.hardlinkTo ?? entry.path,
          group.length,
        ]);
      }
    };
    await fc.assert(fc.asyncProperty(randomStack, property), { numRuns: 300 });
  }, 60_000);
});

describe.skipIf(!isRoot)('the observed tree of any stack, written down', () => {
  test('is to the kernel what its diffs are', async () => {
    const property = async (stack: Stack) => {
      const rig = new Rig('overlay');
      try {
        const write = async (ops: readonly TreeOp[]): Promise<HostPath> => {
          const path = mkdtempSync(join(rig.temp, 'd')) as HostPath;
          await treeOps.apply({ type: 'directory', path, readonly: false }, ops);
          return path;
        };
        const folders = new Map<DrawnDiff, HostPath>();
        for (const diff of new Set(stack.diffs)) folders.set(diff, await write(diff.ops()));
        const empty = [join(rig.temp, 'e1'), join(rig.temp, 'e2')] as HostPath[];
        for (const path of empty) mkdirSync(path);
        const mount = (lowers: readonly HostPath[]): RootMount => {
          return { type: 'overlay', lowers: [...new Set([...lowers, ...empty])], userXattrs: false };
        };
        const foldersOf = (diffs: readonly DrawnDiff[]) =>
          diffs.map((diff) => folders.get(diff) ?? rig.oracle);
        const show = (lowers: readonly HostPath[]) => rig.run(mount(lowers), LIST);
        const expected = show(foldersOf(stack.diffs));
        expect(expected).toBe(await listingOf(merged(stack.diffs)));
        const { above, below } = split(stack);
        const view = await write(writtenDown(await observe(above, true)));
        expect(show([view, ...foldersOf(below)])).toBe(expected);
      } finally {
        await rig.dispose();
      }
    };
    await fc.assert(fc.asyncProperty(randomStack, property), { numRuns: 25 });
  }, 180_000);
});

describe.skipIf(!isRoot)('the observed tree of a snapshot', () => {
  const attributes = { mode: 0o755, uid: 0, gid: 0 };

  test('answers ten thousand look-ups in milliseconds', async () => {
    const rig = new Rig('overlay');
    try {
      const paths = Array.from({ length: 10_000 }, (_, i) => imagePath(`app/dir${i % 100}/sub/file${i}`));
      const content = { kind: 'bytes', bytes: Buffer.alloc(0) } as const;
      const write = (root: RootMount) =>
        treeOps.apply(
          root,
          paths.map((path) => ({ op: 'file', path, attributes, content })),
        );
      const snapshotter = rig.open();
      const { committed } = await layer(snapshotter, undefined, { name: 'many', write });
      const tree = await snapshotter.observed(committed, 0);
      const start = performance.now();
      for (const path of paths) tree.state(path);
      expect(performance.now() - start).toBeLessThan(250);
      expect(tree.state(paths[0] ?? ROOT_PATH).kind).toBe('present');
      expect(tree.list(imagePath('app/dir7/sub'))).toHaveLength(100);
    } finally {
      await rig.dispose();
    }
  });

  test.each([
    ['names alone', 'mkdir -p a/b; echo x > a/b/c; ln -s c a/b/l', true],
    ['a name taken away', 'rm f', false],
    ['an opaque folder', 'rm -r d; mkdir d', false],
    ['an extended attribute', 'setfattr -n user.note -v x d', false],
  ])('is plain or not with %s', async (_what, script, isPlain) => {
    const rig = new Rig('overlay');
    try {
      const snapshotter = rig.open();
      const content = { kind: 'bytes', bytes: Buffer.from('x') } as const;
      const write = (root: RootMount) =>
        treeOps.apply(root, [
          { op: 'dir', path: imagePath('d'), attributes },
          { op: 'file', path: imagePath('d/in'), attributes, content },
          { op: 'file', path: imagePath('f'), attributes, content },
        ]);
      const { committed } = await layer(snapshotter, undefined, { name: 'base', write });
      await using active = await snapshotter.prepare(committed);
      rig.run(active.root, script);
      await using frozen = await active.freeze();
      expect((await snapshotter.observed(frozen, 1)).isPlain).toBe(isPlain);
      expect((await snapshotter.observed(frozen, 2)).isPlain).toBe(true);
    } finally {
      await rig.dispose();
    }
  });

  test('that is frozen only tells of it, and of a base alone nothing', async () => {
    const rig = new Rig('overlay');
    try {
      const snapshotter = rig.open();
      const write = (root: RootMount) =>
        treeOps.apply(root, [{ op: 'dir', path: imagePath('d/e'), attributes }]);
      const { committed } = await layer(snapshotter, undefined, { name: 'base', write });
      const active = await snapshotter.prepare(committed);
      rig.run(active.root, 'rm -r d; mkdir d; echo x > f');
      await using frozen = await active.freeze();
      const tree = await snapshotter.observed(frozen, 1);
      expect(tree.state(imagePath('d'))).toMatchObject({ kind: 'present', opaque: true, links: 1 });
      expect(tree.state(imagePath('d/e'))).toEqual({ kind: 'absent' });
      expect(tree.list(ROOT_PATH)).toEqual([
        { name: 'd', type: 'dir' },
        { name: 'f', type: 'file' },
      ]);
      expect(await tree.digest(imagePath('f'))).toBe(await frozen.tree().digest(imagePath('f')));
      await expect(async () => tree.digest(imagePath('d'))).rejects.toThrow('no regular file');
      const none = await snapshotter.observed(frozen, 2);
      expect(none.state(imagePath('f'))).toEqual({ kind: 'absent' });
      expect(none.list(ROOT_PATH)).toEqual([]);
      const empty = await snapshotter.observed(undefined, 0);
      expect(empty.state(ROOT_PATH)).toMatchObject({ kind: 'present', entry: { mode: 0o755 } });
    } finally {
      await rig.dispose();
    }
  });
});
