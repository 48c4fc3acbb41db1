import type { Action, ObservedQuery, TreeInput } from '../../cache/index.ts';
import type { FrozenSnapshot, Observation, Snapshotter } from '../../core/index.ts';
import type { Step } from '../graph.ts';
import type { RecordingTree } from '../recording-tree.ts';
import type { Standing } from '../standing.ts';

/**
 * A step ready to be looked up and, on a miss, carried out: the key's parts are known and cost no execution
 * (BuildKit's split between describing a key and executing).
 */
export interface PreparedStep {
  readonly action: Action;
  readonly inputs: readonly TreeInput[];
  /** What observed answers compare on `on`, in the order in which they are tried; absent where the exact answer alone counts. */
  readonly observed?: (on: Standing) => Promise<readonly ObservedQuery[]>;
  /**
   * The step sees nothing of what it stands on: its parent is no part of its key, and its diff is made on nothing and laid on any
   * parent.
   */
  readonly standsApart?: true;
  /** Carries the step out on `on`. */
  execute(on: Standing, signal: AbortSignal): Promise<Executed>;
}

/** What carrying a step out came to. */
export interface Executed {
  /** Absent where nothing had to change. */
  readonly frozen?: FrozenSnapshot;
  /** What it looked at, or why that is not known: then only the exact answer finds its result again. */
  readonly seen:
    | {
        readonly kind: 'observed';
        readonly observations: readonly Observation[];
        /** Which question they belong to; absent: the first. */
        readonly question?: number;
      }
    | { readonly kind: 'unknown'; readonly reason?: string };
  /** What still goes on and changes nothing of this any more; to be awaited before the build ends. */
  readonly rest?: Promise<void>;
}

/**
 * How varve's own steps are observed: what they look at in their parent is compared wherever it comes from, so that they
 * outlive any other change below them, another base image included. That needs diffs that hold all that was written: a diff by
 * comparison leaves out what the parent had already, and would leave another parent as it is.
 */
export function observingWholeTree(
  step: Step,
  query: Pick<PreparedStep, 'action' | 'inputs'>,
  snapshotter: Snapshotter,
): Pick<PreparedStep, 'observed'> {
  if (step.caching.mode === 'exact' || snapshotter.driver === 'copy') return {};
  const { action, inputs } = query;
  return { observed: async (on) => [{ action, inputs, tree: await snapshotter.observed(on.snapshot, 0) }] };
}

/** What such a step saw when it was carried out. */
export function seenOfWholeTree(tree: RecordingTree, snapshotter: Snapshotter): Executed['seen'] {
  return snapshotter.driver === 'copy'
    ? { kind: 'unknown', reason: 'the diff of a plain copy holds only what differs from its parent' }
    : { kind: 'observed', observations: tree.observations() };
}
