import type { StandsOn, StepQuery, StepRecord, StepResult } from '../cache/index.ts';
import type { CommittedSnapshot, DiffId, StepKey, StepOutcome } from '../core/index.ts';
import type { Step } from './graph.ts';
import type { Standing } from './standing.ts';
import type { PreparedStep } from './steps/prepared-step.ts';

/** What a step came to. */
export interface SolvedStep {
  readonly step: Step;
  readonly outcome: StepOutcome;
  readonly reason: string;
  readonly ms: number;
  readonly key?: StepKey;
  /** The layer that the step adds; absent where it changed nothing. */
  readonly layer?: { readonly diffId: DiffId; readonly size: number };
  /** When the layer came about, ms since 1970: the same as long as the record is used. */
  readonly createdAtMs: number;
}

/** One step on its way from look-up to result. */
export interface Attempt {
  readonly step: Step;
  readonly on: Standing;
  readonly prepared: PreparedStep;
  readonly way: StepKey;
  readonly started: number;
}

/** What another record of the same result says. */
export function resultOf(record: StepRecord, step: Step): StepResult {
  const { durationMs, createdAtMs, ranAtMs } = record;
  return { durationMs, createdAtMs, ranAtMs, title: step.info.name, ...layerOf(record) };
}

/** What a step came to by way of `record`. */
export function solvedBy(
  record: StepRecord,
  step: Step,
  told: Pick<SolvedStep, 'outcome' | 'reason' | 'ms'>,
): SolvedStep {
  return { step, ...told, key: record.key, ...layerOf(record), createdAtMs: record.createdAtMs };
}

/** The layer of a record. */
function layerOf({ diffId, layerBytes }: StepRecord): Pick<SolvedStep, 'layer'> {
  return diffId === undefined || layerBytes === undefined ? {} : { layer: { diffId, size: layerBytes } };
}

/** What the exact answer compares. */
export function queryOf(attempt: Attempt, parent: CommittedSnapshot | undefined): StepQuery {
  const { prepared, step } = attempt;
  const { action, inputs } = prepared;
  return { action, inputs, parent: prepared.standsApart === true ? undefined : parent?.id, slot: step.slot };
}

/** What a step stands on, as its record keeps it. */
export function standsOn(
  { on, prepared }: Attempt,
  parent: CommittedSnapshot | undefined,
): { readonly standsOn: StandsOn } {
  if (prepared.standsApart === true) return { standsOn: { diffs: [], base: 0 } };
  return { standsOn: { diffs: parent?.diffIds ?? [], base: on.base.depth } };
}
