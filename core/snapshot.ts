import type { DiffId, Digest, SnapshotId } from './digest.ts';
import type { Change, Entry } from './entry.ts';
import type { StoreFact } from './fact.ts';
import type { RootMount } from './mount.ts';
import type { TreeOp } from './native.ts';
import type { ObservedTree } from './observation.ts';
import { type HostPath, type ImagePath, joinHost } from './path.ts';
import type { Tree } from './tree.ts';

/**
 * A snapshot is a stack of diffs, lowest first, seen as one tree of files.
 *
 * Its life: `prepare(parent)` gives an **active** snapshot, a writable tree on top of the parent. `freeze()` ends the
 * writing and lists what changed: a **frozen** snapshot, on which others can already stand while its layer is being
 * hashed. `commit(diffId)` puts the diff under its digest: a **committed** snapshot, which other processes can find.
 * Whatever is not committed is gone when its process ends.
 *
 * Diffs are stored once, apart from their parents, in OverlayFS form; a diff may be laid on any parent with `stack`.
 *
 * @example
 *   await using active = await snapshotter.prepare(base);
 *   await runner.start({ root: active.root, ... });
 *   await using frozen = await active.freeze();
 *   const committed = await frozen.commit((await pack(frozen)).diffId);
 */
export interface Snapshotter {
  readonly driver: 'overlay' | 'copy';
  /** A writable tree on top of `parent` (undefined: an empty root folder, 0755, 0:0). */
  prepare(parent: Snapshot | undefined, options?: PrepareOptions): Promise<ActiveSnapshot>;
  /**
   * The committed diff `diffId` as one that a patch can be made of; undefined where it is not in the store or bound to a parent, holds more
   * than names (marks, the root folder, files with several names), or the driver makes no patches. Callers hold it.
   */
  original(diffId: DiffId): Promise<Original | undefined>;
  /**
   * On `parent` a snapshot whose diff says all that `original` says, but for what `ops` make: frozen, as if all had been written on
   * an active snapshot, in the time that the operations take.
   *
   * @param patch its operations make files and folders, each name once, after the folders that it lies in, up from the root.
   * @returns undefined where this is not to be had on this parent: it must be written as a whole then.
   */
  patch(
    parent: Snapshot | undefined,
    original: Original,
    patch: Patch,
    signal?: AbortSignal,
  ): Promise<FrozenSnapshot | undefined>;
  /**
   * Whether `snapshot` surely changes something else than the committed diff `diffId`, in more than times and noise; false where that
   * would take a look at all of both. Takes the time that it takes to read what is written down of their folders.
   */
  surelyDiffers(
    snapshot: FrozenSnapshot,
    diffId: DiffId,
    isNoise: (path: ImagePath) => boolean,
  ): Promise<boolean>;
  /** The committed snapshot of these diffs, lowest first; undefined where a diff is not in the store. At least one. */
  find(diffIds: readonly DiffId[]): Promise<CommittedSnapshot | undefined>;
  /** `diffId` laid on `parent`; undefined where the diff is not in the store. */
  stack(parent: CommittedSnapshot | undefined, diffId: DiffId): Promise<CommittedSnapshot | undefined>;
  /** What the diffs of `snapshot` above its lowest `base` ones say of paths: what observations are compared with. */
  observed(snapshot: Snapshot | undefined, base: number): Promise<ObservedTree>;
  /**
   * How many names other than folders differ between the stack of the diffs `before` and `snapshot`, above their lowest `base`
   * diffs; about, for people. Undefined where a diff of `before` is gone.
   */
  changedPaths(
    before: readonly DiffId[],
    snapshot: Snapshot | undefined,
    base: number,
  ): Promise<number | undefined>;
  /**
   * The tree of a snapshot, to be mounted and read. Disposing of it ends the right to mount it. `traced`: all of its diffs are given as
   * such, where the driver can.
   */
  mountable(snapshot: Snapshot, options?: { readonly traced?: boolean }): Promise<MountableSnapshot>;
  /** What the store has of the committed diffs that this process has found; undefined where one of them is gone by now. */
  facts(): Promise<readonly StoreFact[] | undefined>;
  /** Every committed diff, in no order. */
  diffs(): Promise<readonly StoredDiff[]>;
  /**
   * Compares the files of every committed diff with what is known of them, and their content with the layer's digest where the layer was
   * made here. Forgets those that differ, and tells them.
   */
  removeDamaged(signal: AbortSignal): Promise<readonly DiffId[]>;
  /** Forgets committed diffs, then removes their files. Callers make sure that nothing stands on them. */
  remove(diffIds: readonly DiffId[]): Promise<void>;
  /** Removes what dead processes left behind (`isAlive` tells of a session name). Returns bytes freed. */
  sweep(isAlive: (session: string) => boolean): Promise<number>;
  /** Removes what this session left unfinished; nothing of it may be in use. The last call. */
  close(): Promise<void>;
}

export interface PrepareOptions {
  /**
   * How many of the parent's lowest diffs are a base that need not be traced: the diffs above them are given as
   * `root.traced`, where the driver can. The folders of a traced tree show {@link FOLDER_TIME}, the root's own among them.
   * Absent: nothing is traced.
   */
  readonly traceAbove?: number;
}

export interface FreezeOptions {
  /**
   * Folders that the parent has too get {@link FOLDER_TIME} in the diff, so that it does not depend on when they were last
   * changed.
   */
  readonly fixFolderTimes?: boolean;
  /** Digests of files of the diff that are known already, by path: they need not be read for that again. */
  readonly digests?: ReadonlyMap<ImagePath, Digest>;
  /** What `TreeOps.scanDiff` would tell of the upper folder now, where somebody has asked already. */
  readonly changes?: readonly Change[] | undefined;
}

/** A diff on which others can stand that say the same of most names (a patch holds only what differs). */
export interface Original {
  /** How many names it sets. */
  readonly count: number;
  /** What it sets at `path`. */
  entry(path: ImagePath): Entry | undefined;
  /** Digest of its regular file at `path`, where that is known. */
  digest(path: ImagePath): Digest | undefined;
}

export interface Patch {
  readonly ops: readonly TreeOp[];
  /** Digests of files that they make, where they are known; others are of no account. */
  readonly digests: ReadonlyMap<ImagePath, Digest>;
}

/** Where the content of a diff's files lies. */
export interface DiffFolders {
  readonly folder: HostPath;
  /** Of a patch: the folder of its original, where all files lie but those that are the patch's own. */
  readonly original?: { readonly folder: HostPath; readonly own: ReadonlySet<ImagePath> };
}

/** Where the content of the file at `path` of a diff lies. */
export function placeIn({ folder, original }: DiffFolders, path: ImagePath): HostPath {
  return joinHost(original === undefined || original.own.has(path) ? folder : original.folder, path);
}

/** The content of a diff as it lies on disk. */
export interface DiffFiles extends DiffFolders {
  /** In path order. */
  readonly changes: readonly Change[];
}

export interface Snapshot {
  readonly parent: Snapshot | undefined;
  /** Diff folders, topmost first. */
  readonly lowers: readonly HostPath[];
  /** The merged tree, read from the diffs' manifests: nothing is mounted. */
  tree(): Tree;
}

/** Disposing of an active snapshot that was not frozen throws its changes away. */
export interface ActiveSnapshot extends AsyncDisposable {
  readonly parent: Snapshot | undefined;
  /** The writable tree. */
  readonly root: RootMount;
  /** Ends the writing: nobody looks at the mounted tree any more, and all mounts of it are on their way out. */
  freeze(options?: FreezeOptions): Promise<FrozenSnapshot>;
}

/**
 * Disposing of a frozen snapshot throws away what was not committed, and what was found to be in the store already; trees that
 * were taken from it can be read until then.
 */
export interface FrozenSnapshot extends Snapshot, DiffFiles, AsyncDisposable {
  /**
   * Puts the diff under `diffId`. The parent must be committed. Where the store has that diff already, the stored one
   * is taken and this one thrown away.
   */
  commit(diffId: DiffId, options?: CommitOptions): Promise<CommittedSnapshot>;
}

export interface CommitOptions {
  /**
   * The diff says less than the layer that `diffId` names, and only on this parent do both come to the same: a layer
   * that was unpacked here (its whiteouts of absent names have left nothing, folders that it does not list have this
   * parent's attributes). `find` and `stack` then give the diff for this parent alone.
   */
  readonly parentBound?: boolean;
}

export interface CommittedSnapshot extends Snapshot {
  readonly parent: CommittedSnapshot | undefined;
  readonly id: SnapshotId;
  /** Lowest first. */
  readonly diffIds: readonly DiffId[];
  /** What the topmost diff changes, and where its files lie: for packing its layer again. */
  top(): Promise<DiffFiles>;
}

export interface MountableSnapshot extends AsyncDisposable {
  readonly root: RootMount;
}

export interface StoredDiff {
  readonly diffId: DiffId;
  /** Bytes of its files; of a patch, of those that are its own. */
  readonly bytes: number;
  readonly createdAtMs: number;
}
