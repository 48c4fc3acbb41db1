import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type CommittedSnapshot,
  comparePaths,
  type Entry,
  type HostPath,
  type ImagePath,
  imagePath,
  joinPath,
  type ObservedTree,
  type PathState,
  parentPath,
  ROOT_PATH,
  type RootMount,
  type Snapshotter,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import { LOOK } from './contract-steps.ts';
import { NAMES, randomOp, randomPath } from './random-ops.ts';
import { isRoot, layer, Rig, treeOps } from './test-rig.ts';

const link: fc.Arbitrary<TreeOp> = fc.record({
  op: fc.constant('hardlink'),
  path: randomPath,
  target: randomPath,
});

/** A new diff, or an earlier one of the stack laid on it once more. */
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.array(fc.oneof({ weight: 5, arbitrary: randomOp }, { weight: 1, arbitrary: link }), {
      minLength: 1,
      maxLength: 6,
    }),
  },
  { weight: 1, arbitrary: fc.nat(3) },
);

/** Every path of up to four of the names. */
const PATHS: readonly ImagePath[] = (() => {
  let level: readonly ImagePath[] = [ROOT_PATH];
  const all = [...level];
  for (let depth = 0; depth < 4; depth++) {
    level = level.flatMap((path) => NAMES.map((name) => joinPath(path, name)));
    all.push(...level);
  }
  return all;
})();

/** What an overlay of `upper` over `base` shows at a path, by the meaning of the states alone. */
async function unionAt(upper: ObservedTree, base: Tree, path: ImagePath): Promise<Entry | undefined> {
  let through = true;
  const parts = path === '' ? [] : path.split('/');
  for (let i = 1; i <= parts.length; i++) {
    const at = imagePath(parts.slice(0, i).join('/'));
    const state = upper.state(at);
    if (state.kind === 'absent') return through ? base.lstat(path) : undefined;
    if (state.kind === 'whiteout') return undefined;
    if (i === parts.length) return state.entry;
    if (state.entry.type !== 'dir') return undefined;
    through &&= !state.opaque;
  }
  return base.lstat(path);
}

/** Hard links come from one diff, so those of a base are told by the base alone. */
function withoutLink(entry: Entry | undefined): Omit<Entry, 'hardlinkTo'> | undefined {
  if (entry === undefined) return undefined;
  const { hardlinkTo: _, ...rest } = entry;
  return rest;
}

/** Writes an observed tree down as one folder in OverlayFS form. */
async function materialise(upper: ObservedTree, whole: Tree, folder: HostPath): Promise<void> {
  const ops: TreeOp[] = [];
  const add = async (path: ImagePath, state: PathState): Promise<void> => {
    if (state.kind === 'absent') throw new Error(`listed and absent: ${path}`);
    if (state.kind === 'whiteout') {
      const attributes = { mode: 0, uid: 0, gid: 0 };
      ops.push({ op: 'node', path, attributes, type: 'char', device: { major: 0, minor: 0 } });
      return;
    }
    const { type, mode, uid, gid, mtime, linkTarget = '' } = state.entry;
    const opaque = state.opaque ? { 'trusted.overlay.opaque': Buffer.from('y') } : {};
    const attributes = { mode, uid, gid, mtime, xattrs: { ...opaque } };
    if (type === 'symlink') ops.push({ op: 'symlink', path, attributes, target: linkTarget });
    else if (type === 'file') {
      const source = await whole.hostPath(path);
      ops.push({ op: 'file', path, attributes, content: { kind: 'host', path: source } });
    } else {
      ops.push({ op: 'dir', path, attributes });
      for (const { name } of upper.list(path)) {
        const child = joinPath(path, name);
        await add(child, upper.state(child));
      }
    }
  };
  await add(ROOT_PATH, upper.state(ROOT_PATH));
  await treeOps.apply({ type: 'directory', path: folder, readonly: false }, ops);
}

async function makeStack(
  snapshotter: Snapshotter,
  steps: readonly (readonly TreeOp[] | number)[],
): Promise<CommittedSnapshot | undefined> {
  let top: CommittedSnapshot | undefined;
  for (const [i, one] of steps.entries()) {
    if (typeof one === 'number') {
      const again = top?.diffIds[one % top.diffIds.length];
      top = again === undefined ? top : await snapshotter.stack(top, again);
      continue;
    }
    const write = async (root: RootMount) => {
      // One that is refused leaves nothing half-done.
      for (const op of one) await treeOps.apply(root, [op]).catch(() => undefined);
    };
    top = (await layer(snapshotter, top, { name: `${i}`, write })).committed;
  }
  return top;
}

async function checkAgainstWhole(upper: ObservedTree, whole: Tree): Promise<void> {
  for (const path of PATHS) {
    const state = upper.state(path);
    const entry = await whole.lstat(path);
    if (entry === undefined) expect([path, state]).toEqual([path, { kind: 'absent' }]);
    else expect([path, state]).toMatchObject([path, { kind: 'present', entry, opaque: false }]);
    const names = (await whole.list(path)).map(({ path: child, type }) => ({
      name: child.slice(child.lastIndexOf('/') + 1),
      type,
    }));
    expect(upper.list(path)).toEqual(names);
    if (entry?.type === 'file') expect(await upper.digest(path)).toBe(await whole.digest(path));
  }
}

function checkLinks(upper: ObservedTree): void {
  const groups = new Map<ImagePath, number>();
  const present = PATHS.flatMap((path) => {
    const state = upper.state(path);
    return state.kind === 'present' && state.entry.type !== 'dir' ? [state] : [];
  });
  for (const { entry } of present) {
    const first = entry.hardlinkTo ?? entry.path;
    groups.set(first, (groups.get(first) ?? 0) + 1);
    expect(comparePaths(first, entry.path)).toBeLessThanOrEqual(0);
  }
  for (const { entry, links } of present) expect(links).toBe(groups.get(entry.hardlinkTo ?? entry.path));
}

describe.skipIf(!isRoot)('the observed tree of random stacks', () => {
  test('is the merged tree without a base, and over a base shows what all diffs show', async () => {
    const property = async (steps: readonly (readonly TreeOp[] | number)[]) => {
      const rig = new Rig('overlay');
      try {
        const snapshotter = rig.open();
        const top = await makeStack(snapshotter, steps);
        if (top === undefined) return;
        await checkAgainstWhole(await snapshotter.observed(top, 0), top.tree());
        await using all = await snapshotter.mountable(top);
        const expected = rig.run(all.root, LOOK);
        for (let base = 1; base <= top.diffIds.length; base++) {
          const upper = await snapshotter.observed(top, base);
          checkLinks(upper);
          const below = await snapshotter.find(top.diffIds.slice(0, base));
          if (below === undefined) throw new Error('the diffs are in the store');
          for (const path of PATHS) {
            const union = await unionAt(upper, below.tree(), path);
            const whole = await top.tree().lstat(path);
            if (path === ROOT_PATH) continue;
            expect([path, withoutLink(union)]).toEqual([path, withoutLink(whole)]);
            const state = upper.state(path);
            const listed = upper
              .list(parentPath(path))
              .some(({ name }) => path.endsWith(`/${name}`) || path === name);
            if (state.kind !== 'absent') expect([path, listed]).toEqual([path, true]);
          }
          const folder = join(mkdtempSync(join(rig.temp, 'm-')), 'fs') as HostPath;
          mkdirSync(folder);
          await materialise(upper, top.tree(), folder);
          const root: RootMount = { type: 'overlay', lowers: [folder, ...below.lowers], userXattrs: false };
          expect(rig.run(root, LOOK)).toBe(expected);
        }
      } finally {
        await rig.dispose();
      }
    };
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 5 }), property), {
      numRuns: 15,
    });
  }, 180_000);
});

describe.skipIf(!isRoot)('an observed tree', () => {
  const attributes = { mode: 0o644, uid: 0, gid: 0 };

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

  test('of a snapshot that is frozen only tells of it, and of a base alone nothing', async () => {
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
      await expect(tree.digest(imagePath('d'))).rejects.toThrow('no regular file');
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
