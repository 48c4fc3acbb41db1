import type { CommittedSnapshot, Snapshot, SnapshotId, StepKey, Tree } from '../core/index.ts';
import { EMPTY_TREE } from './empty-tree.ts';

/**
 * Where a build stands between two steps: on a snapshot that can be built on at once, even while its layer is still being
 * hashed, and on the promise of the same snapshot committed.
 */
export interface Standing {
  /** Undefined: nothing yet (`FROM scratch`). */
  readonly snapshot: Snapshot | undefined;
  /** Settles when the snapshot's layer has its digest and is in the store. */
  readonly committed: Promise<CommittedSnapshot | undefined>;
  /**
   * Names the way that led here by keys alone, without knowing any layer's digest: two processes on the same way have the same
   * name for it, so that they can agree on who takes the next step.
   */
  readonly way: StepKey;
  /** The image that all below stands on: it is known by its identity alone, only what lies above it is traced. */
  readonly base: Base;
}

export interface Base {
  /** Undefined: nothing (`FROM scratch`). */
  readonly id: SnapshotId | undefined;
  /** How many of the snapshot's lowest diffs it has. */
  readonly depth: number;
}

/** A standing on a snapshot that needs no commit any more. */
export function standOnCommitted(
  snapshot: CommittedSnapshot | undefined,
  { way, base }: Pick<Standing, 'way' | 'base'>,
): Standing {
  return { snapshot, committed: Promise.resolve(snapshot), way, base };
}

export const NO_BASE: Base = { id: undefined, depth: 0 };

export function treeOf(standing: Standing): Tree {
  return standing.snapshot?.tree() ?? EMPTY_TREE;
}
