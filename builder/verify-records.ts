import type { RepeatableStep } from '../cache/index.ts';
import { NO_SESSION, type StepKey } from '../core/index.ts';
import type { BuilderParts } from './contract.ts';
import { Emulation } from './emulation.ts';
import type { RunStep } from './graph.ts';
import { checkNoise } from './noise.ts';
import { contentOf } from './same-result.ts';
import { standAgain } from './stand-again.ts';
import { prepareRun } from './steps/run.ts';
import { isSelfContained, readRunDefinition } from './steps/run-definition.ts';
import { type ReusedStep, verifyStep } from './verify.ts';
import type { VerifiedStep } from './verify-reused.ts';

export interface VerifyRecordsOptions {
  /** Names the call in the sandboxes' ids. */
  readonly id: string;
  readonly noise: readonly string[];
  /** Called before each step with how many are done. */
  readonly onStep: (done: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Runs the RUN steps of these records again, each on the parent that it was recorded on, and compares. Records of other kinds, those of
 * steps with mounts from outside or with rights or limits of their own,
 * records whose parent is not in the store any more, and records of older versions that do not say what it was, are passed over.
 */
export async function verifyRecords(
  keys: readonly StepKey[],
  parts: BuilderParts,
  options: VerifyRecordsOptions,
): Promise<readonly VerifiedStep[]> {
  checkNoise(options.noise);
  const verified: VerifiedStep[] = [];
  // Runs last: what was reused elsewhere is judged by running it where it was recorded, for which that record must still be there.
  const isRun = (key: StepKey) => (parts.cache.repeatable(key)?.record.origin === 'ran' ? 1 : 0);
  for (const key of keys.toSorted((a, b) => isRun(a) - isRun(b))) {
    options.onStep(verified.length);
    const step = await reusedStep(key, parts, options);
    if (step === undefined) continue;
    verified.push({ name: step.name, verdict: await verifyStep(step, parts, options.signal) });
  }
  options.onStep(verified.length);
  return verified;
}

async function reusedStep(
  key: StepKey,
  parts: BuilderParts,
  options: VerifyRecordsOptions,
): Promise<ReusedStep | undefined> {
  const repeatable = parts.cache.repeatable(key);
  if (repeatable?.action.kind !== 'RUN' || !isSelfContained(repeatable.action.definition)) return undefined;
  const on = await standAgain(repeatable, parts);
  if (on === undefined) return undefined;
  const isTraced = parts.cache.reads(key) !== undefined;
  const step = runStepOf(repeatable, { isTraced, noise: options.noise });
  const onOutput = (): void => {};
  const sourceFor = (): never => {
    throw new Error('a self-contained step mounts no source');
  };
  const emulation = new Emulation(parts);
  const prepared = await prepareRun(
    step,
    { ...parts, emulation, buildId: options.id, onOutput, sourceFor, session: NO_SESSION },
    options.signal,
  );
  const reused = await contentOf(repeatable.record, parts);
  if (reused === undefined && repeatable.record.diffId !== undefined) return undefined;
  return {
    name: repeatable.title,
    key,
    prepared,
    on,
    reused,
    diffId: repeatable.record.diffId,
    noise: options.noise,
  };
}

/** The step as the plan had it, from the action's definition (`prepareRun`); proxies, which no record keeps, are left out. */
function runStepOf(
  { action, title }: RepeatableStep,
  how: { readonly isTraced: boolean; readonly noise: readonly string[] },
): RunStep {
  const start = { line: 1, column: 1, offset: 0 };
  return {
    kind: 'RUN',
    info: { index: 0, kind: 'RUN', name: title, stage: 'verify', range: { start, end: start } },
    stage: 0,
    noCache: true,
    caching: { mode: how.isTraced ? 'observed' : 'exact', noise: how.noise },
    slot: '',
    ...readRunDefinition(action.definition),
    hiddenEnvironment: {},
  };
}
