import type { Action, TreeInput } from '../../cache/index.ts';
import type { FrozenSnapshot } from '../../core/index.ts';
import type { Standing } from '../standing.ts';

/**
 * A step ready to be looked up and, on a miss, carried out: the key's parts are known and cost no execution
 * (BuildKit's split between describing a key and executing).
 */
export interface PreparedStep {
  readonly action: Action;
  readonly inputs: readonly TreeInput[];
  /** Carries the step out on `on`. @returns the frozen result; undefined where nothing had to change. */
  execute(on: Standing, signal: AbortSignal): Promise<FrozenSnapshot | undefined>;
}
