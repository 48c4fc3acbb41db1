import type { StepCache } from '../cache/index.ts';
import type { DiffId, Observation, Snapshotter, StepKey } from '../core/index.ts';
import type { LayerTable } from '../image/index.ts';
import { type DiffContent, type DiffDifference, firstDifference } from '../snapshotter/index.ts';
import type { BuilderParts } from './contract.ts';
import { noiseFilter } from './noise.ts';
import { standAgain } from './stand-again.ts';
import type { Standing } from './standing.ts';
import type { PreparedStep } from './steps/prepared-step.ts';
import type { HitReport } from './verify-report.ts';

/** A reuse to be checked by carrying the step out again. */
export interface ReusedStep {
  /** The instruction, for people. */
  readonly name: string;
  readonly key: StepKey;
  readonly prepared: PreparedStep;
  readonly on: Standing;
  /** What the record says that the step leaves, under which digest; undefined: nothing. */
  readonly reused: DiffContent | undefined;
  readonly diffId: DiffId | undefined;
  readonly noise: readonly string[];
}

/** What carrying a reused step out again showed. */
export type Verdict =
  | { readonly kind: 'same' }
  /** Two fresh runs differ from each other too: the step does not come to the same twice, whatever was reused. */
  | { readonly kind: 'unsteady'; readonly difference: DiffDifference }
  /** It comes to the same now wherever it runs, but no longer to what was recorded: time, network or machine changed. Dropped. */
  | { readonly kind: 'drifted'; readonly difference: DiffDifference }
  /** The stored files are not those that were recorded. Record and files are dropped. */
  | { readonly kind: 'damaged'; readonly difference: DiffDifference }
  /** No step, but a layer or blob of the store that is not what its name says. It is dropped. */
  | { readonly kind: 'damaged-store' }
  /** A wrong hit: what was reused is not what the step leaves here, though it does where it was recorded. Dropped. */
  | { readonly kind: 'wrong'; readonly difference: DiffDifference; readonly report: string }
  /** It could not be carried out. */
  | { readonly kind: 'failed'; readonly message: string };

export interface VerifyParts extends Pick<BuilderParts, 'packLayer' | 'now' | 'writeReport'> {
  readonly cache: Pick<StepCache, 'repeatable' | 'earlier' | 'reads' | 'hold' | 'forget'>;
  readonly snapshotter: Pick<Snapshotter, 'find' | 'remove'>;
  readonly layerTable: Pick<LayerTable, 'get'>;
}

/**
 * Runs a reused step again on the same parent and compares what it leaves with what was reused. Times set during a run and noise
 * are no difference.
 */
export async function verifyStep(
  step: ReusedStep,
  parts: VerifyParts,
  signal: AbortSignal,
): Promise<Verdict> {
  const { sourceDateEpoch } = step.diffId === undefined ? {} : await parts.layerTable.get(step.diffId);
  const epoch = sourceDateEpoch === undefined ? {} : { sourceDateEpoch };
  // The stored diff may be that of another run with the same layer, where the layer does not tell the times of a run.
  const rules = { isNoise: noiseFilter(step.noise), signal, ...epoch };
  await using runs = new Runs(step, parts, signal);
  let first: DiffContent;
  try {
    first = await runs.on(step.on);
  } catch (error) {
    signal.throwIfAborted();
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
  const difference = await firstDifference(step.reused ?? NOTHING, first, rules);
  if (difference === undefined) return { kind: 'same' };
  const unsteady = await firstDifference(first, await runs.on(step.on), rules);
  if (unsteady !== undefined) return { kind: 'unsteady', difference: unsteady };
  if (await isDamaged(step, parts, signal)) {
    parts.cache.forget(step.key);
    if (step.diffId !== undefined) await parts.snapshotter.remove([step.diffId]);
    return { kind: 'damaged', difference };
  }
  const origin = await originOf(step, parts);
  const there = origin === undefined ? undefined : await runs.on(origin);
  const apart = there === undefined ? difference : await firstDifference(first, there, rules);
  if (there !== undefined && apart !== undefined) {
    // The day may have turned before the run there. What then does not come back here tells nothing of the cache either.
    const moved = origin === step.on ? apart : await firstDifference(first, await runs.on(step.on), rules);
    if (moved !== undefined) return { kind: 'unsteady', difference: moved };
  }
  const isDrift = apart === undefined;
  const report = isDrift ? '' : await parts.writeReport(await reportOf(step, difference, { parts, runs }));
  parts.cache.forget(step.key);
  return isDrift ? { kind: 'drifted', difference } : { kind: 'wrong', difference, report };
}

/** Where the result was recorded by a run, if it was one that depends on more than files: COPY and its like depend on nothing else. */
async function originOf(step: ReusedStep, parts: VerifyParts): Promise<Standing | undefined> {
  const { action } = step.prepared;
  if (action.kind !== 'RUN') return undefined;
  const own = parts.cache.repeatable(step.key)?.record;
  if (own === undefined || own.origin === 'ran') return step.on;
  const ran = parts.cache
    .earlier(action, MOST_RECORDS)
    .find((record) => record.origin === 'ran' && record.diffId === own.diffId);
  const repeatable = ran === undefined ? undefined : parts.cache.repeatable(ran.key);
  return repeatable === undefined ? undefined : await standAgain(repeatable, parts);
}

/** Whether the stored files still make the layer that names them. */
async function isDamaged(step: ReusedStep, parts: VerifyParts, signal: AbortSignal): Promise<boolean> {
  if (step.reused === undefined || step.diffId === undefined) return false;
  const { sourceDateEpoch } = await parts.layerTable.get(step.diffId);
  const packed = await parts.packLayer(step.reused, {
    signal,
    ...(sourceDateEpoch === undefined ? {} : { sourceDateEpoch }),
  });
  return packed.diffId !== step.diffId;
}

async function reportOf(
  step: ReusedStep,
  difference: DiffDifference,
  { parts, runs }: { readonly parts: VerifyParts; readonly runs: Runs },
): Promise<HitReport> {
  const { action, inputs } = step.prepared;
  return {
    step: step.name,
    key: step.key,
    action,
    inputs: inputs.map(({ name, digest }) => ({ name, digest })),
    parent: (await step.on.committed)?.diffIds ?? [],
    base: step.on.base,
    difference,
    observedThen: parts.cache.reads(step.key) ?? [],
    observedNow: runs.seen,
  };
}

/** Records among which that of the run is looked for. */
const MOST_RECORDS = 64;

const NOTHING: DiffContent = {
  changes: [],
  folder: '/' as DiffContent['folder'],
  ran: { fromMs: 0, toMs: 0 },
};

/** Fresh runs of one step; what they left is thrown away at the end. */
class Runs implements AsyncDisposable {
  readonly seen: (readonly Observation[])[] = [];
  readonly #step: ReusedStep;
  readonly #parts: VerifyParts;
  readonly #signal: AbortSignal;
  readonly #cleanup = new AsyncDisposableStack();

  constructor(step: ReusedStep, parts: VerifyParts, signal: AbortSignal) {
    this.#step = step;
    this.#parts = parts;
    this.#signal = signal;
  }

  async on(standing: Standing): Promise<DiffContent> {
    const fromMs = this.#parts.now();
    const { frozen, seen, rest } = await this.#step.prepared.execute(standing, this.#signal);
    await rest;
    if (seen.kind === 'observed') this.seen.push(seen.observations);
    if (frozen === undefined) return NOTHING;
    this.#cleanup.use(frozen);
    const { changes, folder } = frozen;
    return { changes, folder, ran: { fromMs, toMs: this.#parts.now() } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanup.disposeAsync();
  }
}
