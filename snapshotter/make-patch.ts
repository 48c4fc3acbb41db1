import { existsSync, mkdirSync, rmSync } from 'node:fs';
import {
  type Change,
  changePath,
  type DiffFiles,
  type DiffId,
  type Digest,
  type Entry,
  type HostPath,
  type ImagePath,
  joinHost,
  type Original,
  type Patch,
  ROOT_PATH,
} from '../core/index.ts';
import type { Diff } from './diff.ts';
import type { DiffIndex } from './diff-index.ts';
import type { DiffStore } from './diff-store.ts';
import type { Driver, Stack } from './driver.ts';
import { fitsOriginal, fitsParent, patched } from './patch.ts';
import { giveAttributes } from './root-folder.ts';

/** Folders of a stack below which patches are made: each counts twice there, and the kernel stacks a limited number. */
const MOST_FOLDERS_BELOW = 100;

class Shared implements Original {
  readonly diff: Diff;
  readonly index: DiffIndex;

  /** @param diff whose digests are in memory. */
  constructor(diff: Diff, index: DiffIndex) {
    this.diff = diff;
    this.index = index;
  }

  get count(): number {
    return this.index.changes.length;
  }

  entry(path: ImagePath): Entry | undefined {
    const verdict = this.index.verdict(path);
    return verdict?.kind === 'entry' ? verdict.entry : undefined;
  }

  digest(path: ImagePath): Digest | undefined {
    const file = this.entry(path);
    return file?.type === 'file' ? this.diff.knownDigest(file) : undefined;
  }
}

/** See `Snapshotter.original`. */
export async function findOriginal(
  { store, driver }: { readonly store: DiffStore; readonly driver: Driver },
  diffId: DiffId,
): Promise<Original | undefined> {
  if (driver.name !== 'overlay') return undefined;
  const found = await store.findUnbound(diffId);
  // A patch of a patch is one of its original: no diff has more than two folders.
  const diff = found?.original ?? found;
  if (diff === undefined) return undefined;
  const index = await diff.index();
  if (!index.isPlain || index.verdict(ROOT_PATH) !== undefined || index.linkedNames().length > 0)
    return undefined;
  await diff.loadDigests();
  return new Shared(diff, index);
}

export interface PatchOrder {
  readonly original: Original;
  readonly patch: Patch;
  readonly signal: AbortSignal | undefined;
}

export interface PatchParent {
  /** Topmost first. */
  readonly diffs: readonly Diff[];
  readonly stack: Stack;
}

/** See `Snapshotter.patch`. The diff is not committed yet. */
export async function makePatch(
  store: DiffStore,
  { diffs, stack }: PatchParent,
  order: PatchOrder,
): Promise<{ readonly diff: Diff; readonly files: DiffFiles } | undefined> {
  const { original } = order;
  if (!(original instanceof Shared)) throw new Error('an original of another snapshotter');
  if (stack.lowers.length > MOST_FOLDERS_BELOW) return undefined;
  const { root } = stack;
  const home = await store.makeActive();
  try {
    const made = await carryOut(store, home, { ...order, root });
    const changes = patched(original.index.changes, made);
    if (fitsOriginal(made, original.index) && (await fitsParent(changes, diffs))) {
      const own: ReadonlySet<ImagePath> = new Set(made.map(changePath));
      const digests = new Map([...order.patch.digests].filter(([path]) => own.has(path)));
      const diff = await store.adopt(home, { root, changes, own, digests, original: original.diff });
      // Whoever has removed a damaged original meanwhile did not see that a patch stands on it.
      if (existsSync(original.diff.folder)) {
        rmSync(home, { recursive: true });
        return {
          diff,
          files: { changes, folder: diff.folder, original: { folder: original.diff.folder, own } },
        };
      }
      await store.discard([diff.home]);
    }
    await store.discard([home]);
    return undefined;
  } catch (error) {
    await store.discard([home]);
    throw error;
  }
}

/** Makes the patch's own files in `home`/fs. Returns them, without the root folder. */
async function carryOut(
  store: DiffStore,
  home: HostPath,
  { patch, root, signal }: PatchOrder & { readonly root: Entry },
): Promise<readonly Change[]> {
  const { tree, userXattrs } = store.options;
  const folder = joinHost(home, 'fs');
  mkdirSync(folder, { mode: 0o755 });
  await tree.apply({ type: 'directory', path: folder, readonly: false }, patch.ops, signal);
  await giveAttributes(tree, folder, root);
  const [, ...made] = await tree.scanDiff(folder, { userXattrs }, signal);
  return made;
}
