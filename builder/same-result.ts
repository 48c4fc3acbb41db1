import type { StepRecord } from '../cache/index.ts';
import { changePath, type FrozenSnapshot, type ImagePath } from '../core/index.ts';
import { type DiffContent, firstDifference } from '../snapshotter/index.ts';
import type { BuilderParts } from './contract.ts';
import { noiseFilter } from './noise.ts';
import { ifSound } from './sound.ts';

/** A result that a step has just left, and the earlier ones that it may be equal to. */
export interface FreshResult {
  readonly candidates: readonly StepRecord[];
  /** Undefined: nothing was changed. */
  readonly frozen: FrozenSnapshot | undefined;
  /** When the step ran, ms since 1970: times of files within are no difference. */
  readonly ran: { readonly fromMs: number; readonly toMs: number };
  readonly noise: readonly string[];
  readonly parts: Pick<BuilderParts, 'cache' | 'snapshotter'>;
  readonly signal: AbortSignal;
}

export interface SameResult {
  readonly record: StepRecord;
  /** What the fresh result holds of files that were left out of the comparison. */
  readonly noise: readonly ImagePath[];
}

/** The newest of the candidates that left the same; their diffs are held before they are read. */
export async function findSameResult(fresh: FreshResult): Promise<SameResult | undefined> {
  const { frozen, parts, signal } = fresh;
  const isNoise = noiseFilter(fresh.noise);
  for (const record of fresh.candidates) {
    if (record.diffId === undefined || frozen === undefined) {
      if (record.diffId === undefined && frozen === undefined) return { record, noise: [] };
      continue;
    }
    parts.cache.hold([record.diffId]);
    if (await parts.snapshotter.surelyDiffers(frozen, record.diffId, isNoise)) continue;
    const earlier = await contentOf(record, parts);
    if (earlier === undefined) continue;
    const { changes, folder, original } = frozen;
    const now = { changes, folder, ...(original === undefined ? {} : { original }), ran: fresh.ran };
    const difference = await firstDifference(earlier, now, { isNoise, signal });
    if (difference === undefined) return { record, noise: frozen.changes.map(changePath).filter(isNoise) };
  }
  return undefined;
}

/** What a record's step left, held from now on; undefined where it changed nothing, or its diff is gone. */
export async function contentOf(
  record: StepRecord,
  parts: Pick<BuilderParts, 'cache' | 'snapshotter'>,
): Promise<DiffContent | undefined> {
  const { diffId, createdAtMs, durationMs } = record;
  if (diffId === undefined) return undefined;
  parts.cache.hold([diffId]);
  const stacked = await parts.snapshotter.stack(undefined, diffId);
  if (stacked === undefined) return undefined;
  const top = await ifSound(() => stacked.top());
  return top === undefined
    ? undefined
    : { ...top, ran: { fromMs: createdAtMs - durationMs, toMs: createdAtMs } };
}
