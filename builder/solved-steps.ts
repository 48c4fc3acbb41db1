import type { BuildReport } from '../cache/index.ts';
import type { StepSummary } from '../core/index.ts';
import type { SolvedStep } from './attempt.ts';

/** The steps that a solver has come to an end with, in Dockerfile order; none before there is one. */
export function inOrder(
  solver: { readonly solved: ReadonlyMap<unknown, SolvedStep> } | undefined,
): readonly SolvedStep[] {
  return [...(solver?.solved.values() ?? [])].sort((a, b) => a.step.info.index - b.step.info.index);
}

/** What is told of a build's steps in its result. */
export function summariesOf(steps: readonly SolvedStep[]): readonly StepSummary[] {
  return steps.map(({ step, outcome, reason, ms }) => ({
    name: step.info.name,
    stage: step.info.stage,
    ...(step.info.platform === undefined ? {} : { platform: step.info.platform }),
    outcome,
    reason,
    ms,
  }));
}

/** What is kept of a build's steps for `why`. */
export function reportedSteps(steps: readonly SolvedStep[]): BuildReport['steps'] {
  return steps.map(({ step, outcome, reason, ms, key }) => ({
    info: step.info,
    outcome,
    reason,
    ms,
    ...(key === undefined ? {} : { key }),
  }));
}
