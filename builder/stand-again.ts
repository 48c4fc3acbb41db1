import type { RepeatableStep, StepCache } from '../cache/index.ts';
import type { Snapshotter } from '../core/index.ts';
import { wayOfSnapshot } from './base-image.ts';
import { type Standing, standOnCommitted } from './standing.ts';

interface StandingParts {
  readonly cache: Pick<StepCache, 'hold'>;
  readonly snapshotter: Pick<Snapshotter, 'find'>;
}

/** Where a recorded step stood; undefined where a diff of that is gone. */
export async function standAgain(
  { standsOn: { diffs, base } }: RepeatableStep,
  { cache, snapshotter }: StandingParts,
): Promise<Standing | undefined> {
  cache.hold(diffs);
  const snapshot = diffs.length === 0 ? undefined : await snapshotter.find(diffs);
  if (diffs.length > 0 && snapshot === undefined) return undefined;
  const image = base === 0 ? undefined : await snapshotter.find(diffs.slice(0, base));
  return standOnCommitted(snapshot, {
    way: wayOfSnapshot(snapshot?.id),
    base: { id: image?.id, depth: base },
  });
}
