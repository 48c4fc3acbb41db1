import type { StepKey } from '../core/index.ts';
import { type DiffContent, type DiffDifference, firstDifference } from '../snapshotter/index.ts';
import type { BuilderParts } from './contract.ts';
import { noiseFilter } from './noise.ts';
import type { Standing } from './standing.ts';
import type { Executed, PreparedStep } from './steps/prepared-step.ts';

/** A reuse to be checked by carrying the step out again. */
export interface ReusedStep {
  /** The instruction, for people. */
  readonly name: string;
  readonly key: StepKey;
  readonly prepared: PreparedStep;
  readonly on: Standing;
  /** What the record says that the step leaves; undefined: nothing. */
  readonly reused: DiffContent | undefined;
  readonly noise: readonly string[];
}

/** What carrying a reused step out again showed. */
export type Verdict =
  | { readonly kind: 'same' }
  /** Two fresh runs differ from each other too: the step does not come to the same twice, whatever was reused. */
  | { readonly kind: 'unsteady'; readonly difference: DiffDifference }
  /** A wrong hit: fresh runs agree with each other and not with what was reused. The record is dropped. */
  | { readonly kind: 'wrong'; readonly difference: DiffDifference; readonly report: string }
  /** It could not be carried out. */
  | { readonly kind: 'failed'; readonly message: string };

export type VerifyParts = Pick<BuilderParts, 'cache' | 'now' | 'writeReport'>;

/**
 * Runs a reused step again on the same parent and compares what it leaves with what was reused. Times set during a run and noise
 * are no difference.
 */
export async function verifyStep(
  step: ReusedStep,
  parts: VerifyParts,
  signal: AbortSignal,
): Promise<Verdict> {
  const rules = { isNoise: noiseFilter(step.noise), signal };
  const runs: Fresh[] = [];
  await using cleanup = new AsyncDisposableStack();
  const again = async (): Promise<DiffContent> => {
    const fresh = await runAgain(step, parts, signal);
    if (fresh.executed.frozen !== undefined) cleanup.use(fresh.executed.frozen);
    runs.push(fresh);
    return fresh.content;
  };
  let first: DiffContent;
  try {
    first = await again();
  } catch (error) {
    signal.throwIfAborted();
    return { kind: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
  const difference = await firstDifference(step.reused ?? NOTHING, first, rules);
  if (difference === undefined) return { kind: 'same' };
  const unsteady = await firstDifference(first, await again(), rules);
  if (unsteady !== undefined) return { kind: 'unsteady', difference: unsteady };
  const observations = parts.cache.reads(step.key) ?? [];
  parts.cache.forget(step.key);
  const report = await parts.writeReport({
    step: step.name,
    key: step.key,
    action: step.prepared.action,
    inputs: step.prepared.inputs.map(({ name, digest }) => ({ name, digest })),
    parent: (await step.on.committed)?.diffIds ?? [],
    base: step.on.base,
    difference,
    observedThen: observations,
    observedNow: runs.flatMap(({ executed: { seen } }) =>
      seen.kind === 'observed' ? [seen.observations] : [],
    ),
  });
  return { kind: 'wrong', difference, report };
}

const NOTHING: DiffContent = {
  changes: [],
  folder: '/' as DiffContent['folder'],
  ran: { fromMs: 0, toMs: 0 },
};

interface Fresh {
  readonly executed: Executed;
  readonly content: DiffContent;
}

async function runAgain(step: ReusedStep, parts: VerifyParts, signal: AbortSignal): Promise<Fresh> {
  const fromMs = parts.now();
  const executed = await step.prepared.execute(step.on, signal);
  const { frozen } = executed;
  if (frozen === undefined) return { executed, content: NOTHING };
  const { changes, folder } = frozen;
  return { executed, content: { changes, folder, ran: { fromMs, toMs: parts.now() } } };
}
