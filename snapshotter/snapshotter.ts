import {
  type ActiveSnapshot,
  type Change,
  type CommitOptions,
  type CommittedSnapshot,
  chainId,
  type DiffFiles,
  type DiffId,
  FOLDER_TIME,
  type FreezeOptions,
  type FrozenSnapshot,
  type HostPath,
  type ImagePath,
  joinHost,
  type MountableSnapshot,
  type ObservedTree,
  type PrepareOptions,
  type RootMount,
  type Snapshot,
  type SnapshotId,
  type Snapshotter,
} from '../core/index.ts';
import { countChangedPaths } from './changed-paths.ts';
import { createCopyDriver } from './copy-driver.ts';
import type { Diff } from './diff.ts';
import { DiffStore, type DiffStoreOptions } from './diff-store.ts';
import type { Driver, Stack, TracedStack, Writable } from './driver.ts';
import { setFolderTimes } from './folder-times.ts';
import { Holds } from './holds.ts';
import { findOriginal, makePatch, type PatchOrder } from './make-patch.ts';
import { MergedTree } from './merged-tree.ts';
import { rootOf } from './merged-view.ts';
import { observeLayers } from './observed-tree.ts';
import { createOverlayDriver } from './overlay-driver.ts';
import { emptyRoot, giveAttributes, rootChanged } from './root-folder.ts';
import { surelyDiffer } from './stack-changes.ts';
import { onStore } from './store-folders.ts';

export interface SnapshotterOptions extends DiffStoreOptions {
  /** See `chooseDriver`. */
  readonly driver: 'overlay' | 'copy';
}

/**
 * Snapshots in `root`, as docs/on-disk-format.md states. Folders are made at first use.
 *
 * `digestFile` digests a file of the store that never changes, at most once per file and diff; `clock` dates new diffs.
 * Methods throw MachineError (`disk-full`, `store-io`, `tree-io`, `mount-failed`, `too-many-layers`, `snapshot-corrupt`).
 */
export function createSnapshotter(options: SnapshotterOptions): Snapshotter {
  const store = new DiffStore(options);
  const { tree, userXattrs } = options;
  const driver =
    options.driver === 'overlay'
      ? createOverlayDriver({
          tree,
          userXattrs,
          empty: store.emptyFolder,
          removeLater: (folder) => store.removeLater(folder),
        })
      : createCopyDriver({ tree, userXattrs, digestFile: options.digestFile });
  const context: Context = { store, driver, holds: new Holds(store) };
  return {
    driver: options.driver,
    prepare: (parent, prepareOptions) =>
      onStore('prepare a snapshot', () => prepare(context, parent, prepareOptions)),
    find: (diffIds) => onStore('look up a snapshot', () => find(context, diffIds)),
    original: (diffId) => onStore('look up a diff', () => findOriginal(context, diffId)),
    patch: (parent, original, patch, signal) =>
      onStore('patch a diff', () => patchOn(context, parent, { original, patch, signal })),
    surelyDiffers: (snapshot, diffId, isNoise) =>
      onStore('compare two diffs', () => surelyDiffers(context, { snapshot, diffId, isNoise })),
    async stack(parent, diffId) {
      const diff = await onStore('look up a diff', () => store.find(diffId, parent?.id));
      return diff === undefined ? undefined : new Committed(asCommitted(parent), { diff, diffId });
    },
    observed: (snapshot, base) => onStore('observe a snapshot', () => observed(context, snapshot, base)),
    changedPaths: (before, snapshot, base) =>
      onStore('compare two snapshots', () => changedPaths(context, { before, snapshot, base })),
    mountable: (snapshot, options) =>
      onStore('make a snapshot readable', () => mountable(context, snapshot, options)),
    facts: () => onStore('look at the diffs in use', () => store.facts()),
    diffs: () => onStore('list the diffs', () => store.stored()),
    removeDamaged: (signal) => onStore('check the diffs', () => store.removeDamaged(signal)),
    remove: (diffIds) => onStore('remove diffs', () => store.remove(diffIds)),
    sweep: (isAlive) => onStore('sweep the store', () => store.sweep(isAlive)),
    close: () => store.close(),
  };
}

interface Context {
  readonly store: DiffStore;
  readonly driver: Driver;
  readonly holds: Holds;
}

/** Snapshots of this room, whose diffs can be told. */
type OwnSnapshot = Frozen | Committed;

function own(snapshot: Snapshot): OwnSnapshot;
function own(snapshot: Snapshot | undefined): OwnSnapshot | undefined;
function own(snapshot: Snapshot | undefined): OwnSnapshot | undefined {
  if (snapshot === undefined || snapshot instanceof Frozen || snapshot instanceof Committed) return snapshot;
  throw new Error('a snapshot of another snapshotter');
}

function asCommitted(snapshot: CommittedSnapshot | undefined): Committed | undefined {
  if (snapshot === undefined || snapshot instanceof Committed) return snapshot;
  throw new Error('a snapshot of another snapshotter');
}

/** Topmost first. */
function diffsOf(snapshot: OwnSnapshot | undefined): Diff[] {
  const diffs: Diff[] = [];
  for (let at = snapshot; at !== undefined; at = at.parent) diffs.push(at.diff);
  return diffs;
}

/**
 * The folders to mount, topmost first. The kernel takes no folder twice; of a diff that comes again the topmost one decides alone,
 * since whatever the lower one sets or hides, it sets or hides too.
 */
function foldersOf(diffs: readonly Diff[]): readonly HostPath[] {
  return [...new Set(diffs.flatMap((diff) => diff.lowers))];
}

/** The diffs above the lowest `base` ones, topmost first, and those below; each diff once, in the part where it decides. */
function splitDiffs(
  diffs: readonly Diff[],
  base: number,
): { above: readonly Diff[]; below: readonly Diff[] } {
  const cut = Math.max(0, diffs.length - base);
  const above = new Set(diffs.slice(0, cut));
  const below = new Set(diffs.slice(cut).filter((diff) => !above.has(diff)));
  return { above: [...above], below: [...below] };
}

function tracedOf(diffs: readonly Diff[], base: number | undefined): TracedStack | undefined {
  if (base === undefined) return undefined;
  const { above, below } = splitDiffs(diffs, base);
  if (above.length === 0) return undefined;
  const sets = async (path: ImagePath): Promise<boolean> => {
    for (const diff of above) if ((await diff.index()).verdict(path)?.kind === 'entry') return true;
    return false;
  };
  return { traced: above.map((diff) => diff.home), lowers: foldersOf(below), sets };
}

async function observed(
  { store }: Context,
  snapshot: Snapshot | undefined,
  base: number,
): Promise<ObservedTree> {
  const diffs = diffsOf(own(snapshot));
  const { above } = splitDiffs(diffs, base);
  const root = await rootOf(diffs, emptyRoot());
  const names = above.map(({ uid }) => uid);
  const foldersOf = (uid: string) => store.folders.get(uid);
  const hasBase = Math.min(base, diffs.length) > 0;
  return observeLayers({ layers: above, root, hasBase, named: { names, foldersOf } });
}

interface ChangedPaths {
  readonly before: readonly DiffId[];
  readonly snapshot: Snapshot | undefined;
  readonly base: number;
}

async function changedPaths(context: Context, asked: ChangedPaths): Promise<number | undefined> {
  const { before, base } = asked;
  const old = before.length === 0 ? undefined : await find(context, before);
  if (old === undefined && before.length > 0) return undefined;
  const { above: was } = splitDiffs(diffsOf(old), base);
  const { above: is } = splitDiffs(diffsOf(own(asked.snapshot)), base);
  return countChangedPaths(was, is, base > 0);
}

async function stackOf(snapshot: OwnSnapshot | undefined): Promise<Stack> {
  const diffs = diffsOf(snapshot);
  const root = await rootOf(diffs, emptyRoot());
  return { lowers: foldersOf(diffs), tree: new MergedTree(diffs, emptyRoot()), root };
}

async function prepare(
  context: Context,
  parent: Snapshot | undefined,
  options: PrepareOptions = {},
): Promise<ActiveSnapshot> {
  const below = own(parent);
  const diffs = diffsOf(below);
  context.holds.hold(diffs);
  try {
    const stack = await stackOf(below);
    const home = await context.store.makeActive();
    try {
      const traced = tracedOf(diffs, options.traceAbove);
      const writable = await context.driver.prepare(home, stack, traced);
      return new Active(context, below, { home, stack, writable, diffs });
    } catch (error) {
      await context.store.discard([home]);
      throw error;
    }
  } catch (error) {
    await context.holds.release(diffs);
    throw error;
  }
}

async function find(context: Context, diffIds: readonly DiffId[]): Promise<Committed | undefined> {
  if (diffIds.length === 0) throw new Error('a snapshot has at least one diff');
  let snapshot: Committed | undefined;
  for (const diffId of diffIds) {
    const diff = await context.store.find(diffId, snapshot?.id);
    if (diff === undefined) return undefined;
    snapshot = new Committed(snapshot, { diff, diffId });
  }
  return snapshot;
}

async function mountable(
  context: Context,
  snapshot: Snapshot,
  options: { readonly traced?: boolean } = {},
): Promise<MountableSnapshot> {
  const diffs = diffsOf(own(snapshot));
  const home = await context.store.makeActive();
  context.holds.hold(diffs);
  let disposed = false;
  const dispose = async () => {
    if (disposed) return;
    disposed = true;
    await context.store.discard([home]);
    await context.holds.release(diffs);
  };
  try {
    const traced = options.traced === true ? tracedOf(diffs, 0)?.traced : undefined;
    const root = await context.driver.mountable(home, await stackOf(own(snapshot)), traced);
    return { root, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

interface DiffComparison {
  readonly snapshot: FrozenSnapshot;
  readonly diffId: DiffId;
  readonly isNoise: (path: ImagePath) => boolean;
}

async function surelyDiffers({ store }: Context, asked: DiffComparison): Promise<boolean> {
  const is = own(asked.snapshot).diff.folders();
  const was = is === undefined ? undefined : (await store.findUnbound(asked.diffId))?.folders();
  return is !== undefined && was !== undefined && surelyDiffer(was, is, asked.isNoise);
}

async function patchOn(
  context: Context,
  parent: Snapshot | undefined,
  order: PatchOrder,
): Promise<FrozenSnapshot | undefined> {
  const below = own(parent);
  const made = await makePatch(context.store, { diffs: diffsOf(below), stack: await stackOf(below) }, order);
  return made === undefined ? undefined : new Frozen(context, below, made);
}

interface ActiveParts {
  readonly home: HostPath;
  readonly stack: Stack;
  readonly writable: Writable;
  /** The diffs that it stands on, held until it ends. */
  readonly diffs: readonly Diff[];
}

class Active implements ActiveSnapshot {
  readonly parent: OwnSnapshot | undefined;
  readonly root: RootMount;
  readonly #context: Context;
  readonly #parts: ActiveParts;
  #ended = false;

  constructor(context: Context, parent: OwnSnapshot | undefined, parts: ActiveParts) {
    this.parent = parent;
    this.root = parts.writable.root;
    this.#context = context;
    this.#parts = parts;
  }

  freeze(options: FreezeOptions = {}): Promise<FrozenSnapshot> {
    return onStore('freeze a snapshot', () => this.#freeze(options));
  }

  async #freeze({
    fixFolderTimes = false,
    digests,
    changes: scanned,
  }: FreezeOptions): Promise<FrozenSnapshot> {
    if (this.#ended) throw new Error('the snapshot is active no longer');
    const { stack, writable, home } = this.#parts;
    const { tree, userXattrs } = this.#context.store.options;
    const folder = joinHost(home, 'fs');
    const [first, ...rest] = await writable.capture(scanned);
    if (first?.kind !== 'set' || first.entry.path !== '') throw new Error('a diff without its root folder');
    const changed = rootChanged(stack.root, first.entry);
    const listed: readonly Change[] = changed ? [first, ...rest] : rest;
    const fix = { tree, userXattrs, folder, parent: stack.tree };
    const changes = fixFolderTimes ? await setFolderTimes(fix, listed) : listed;
    const fixedRoot = { ...first.entry, ...(fixFolderTimes ? { mtime: FOLDER_TIME } : {}) };
    const root = changed ? fixedRoot : stack.root;
    if (!changed) await giveAttributes(tree, folder, root);
    const diff = await this.#context.store.adopt(home, { root, changes, digests });
    this.#ended = true;
    await writable.cleanUp();
    await this.#context.holds.release(this.#parts.diffs);
    return new Frozen(this.#context, this.parent, { diff, files: { changes, folder: diff.folder } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#context.store.discard([this.#parts.home]);
    await this.#context.holds.release(this.#parts.diffs);
  }
}

/** What frozen and committed snapshots share. */
abstract class Layered implements Snapshot {
  abstract readonly parent: OwnSnapshot | undefined;
  /** The topmost diff. */
  abstract readonly diff: Diff;

  get lowers(): readonly HostPath[] {
    return foldersOf(diffsOf(this.self()));
  }

  tree(): MergedTree {
    return new MergedTree(diffsOf(this.self()), emptyRoot());
  }

  protected abstract self(): OwnSnapshot;
}

class Frozen extends Layered implements FrozenSnapshot {
  readonly parent: OwnSnapshot | undefined;
  readonly changes: readonly Change[];
  readonly folder: HostPath;
  readonly original?: NonNullable<DiffFiles['original']>;
  readonly #context: Context;
  readonly #made: Diff;
  #committed: Committed | undefined;
  #disposed = false;

  constructor(
    context: Context,
    parent: OwnSnapshot | undefined,
    parts: { readonly diff: Diff; readonly files: DiffFiles },
  ) {
    super();
    this.#context = context;
    this.parent = parent;
    this.#made = parts.diff;
    const { changes, folder, original: shared } = parts.files;
    this.changes = changes;
    this.folder = folder;
    if (shared !== undefined) this.original = shared;
  }

  /** After the commit the stored one, which another process may have made. */
  get diff(): Diff {
    return this.#committed?.diff ?? this.#made;
  }

  /** The same snapshot once it is committed. */
  get committed(): Committed | undefined {
    return this.#committed;
  }

  async commit(diffId: DiffId, options: CommitOptions = {}): Promise<CommittedSnapshot> {
    if (this.#committed !== undefined) return this.#committed;
    if (this.#disposed) throw new Error('the snapshot was thrown away');
    const parent = this.parent instanceof Frozen ? this.parent.committed : this.parent;
    if (this.parent !== undefined && parent === undefined) throw new Error('the parent is not committed');
    const bound = options.parentBound === true ? { parent: parent?.id } : undefined;
    const { store } = this.#context;
    const diff = await onStore('commit a snapshot', () => store.commit(this.#made, diffId, bound));
    this.#committed = new Committed(parent, { diff, diffId });
    return this.#committed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Where the store had the diff already, trees that were read from this one's folder may still be in use until now.
    if (this.#disposed || this.#committed?.diff === this.#made) return;
    this.#disposed = true;
    await this.#context.holds.doom(this.#made);
  }

  protected override self(): Frozen {
    return this;
  }
}

class Committed extends Layered implements CommittedSnapshot {
  readonly parent: Committed | undefined;
  readonly diff: Diff;
  readonly id: SnapshotId;
  readonly diffIds: readonly DiffId[];

  constructor(parent: Committed | undefined, top: { readonly diff: Diff; readonly diffId: DiffId }) {
    super();
    this.parent = parent;
    this.diff = top.diff;
    this.id = chainId(parent?.id, top.diffId);
    this.diffIds = [...(parent?.diffIds ?? []), top.diffId];
  }

  top(): Promise<DiffFiles> {
    return this.diff.files();
  }

  protected override self(): Committed {
    return this;
  }
}
