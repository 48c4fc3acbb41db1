import type { BuildGraph, BuildTarget, StagePlan } from './graph.ts';

/**
 * One graph for several platforms. A stage that comes out the same for two of them, to the last word (as
 * `FROM --platform=$BUILDPLATFORM` does until it names the target), is in it once. Stages are numbered anew, each after
 * those that it needs; steps are numbered through.
 */
export function mergeGraphs(graphs: readonly BuildGraph[]): BuildGraph {
  const [only, ...others] = graphs;
  if (only !== undefined && others.length === 0) return only;
  const merged: StagePlan[] = [];
  const known = new Map<string, number>();
  const targets: BuildTarget[] = [];
  let steps = 0;
  for (const graph of graphs) {
    const numbers = new Map<number, number>();
    for (const stage of graph.stages) {
      const moved = withNumbers(stage, numbers);
      const content = JSON.stringify(moved);
      const same = known.get(content);
      const number = same ?? merged.length;
      numbers.set(stage.index, number);
      if (same !== undefined) continue;
      known.set(content, number);
      merged.push(numbered(moved, number, steps));
      steps += moved.steps.length;
    }
    for (const { stage, platform } of graph.targets)
      targets.push({ stage: numberOf(numbers, stage), platform });
  }
  return { stages: merged, targets };
}

/** The stage with every reference to another one by its new number, and none to its own. */
function withNumbers(stage: StagePlan, numbers: ReadonlyMap<number, number>): StagePlan {
  const moved: StagePlan = JSON.parse(
    JSON.stringify(stage, (_key, value: unknown) =>
      isStageRef(value) ? { ...value, index: numberOf(numbers, value.index) } : value,
    ),
  );
  return numbered(moved, 0, 0);
}

/** References to stages are all of one form: `base` of a stage, `from` of a COPY or a mount. */
function isStageRef(value: unknown): value is { readonly kind: 'stage'; readonly index: number } {
  if (typeof value !== 'object' || value === null || !('kind' in value) || value.kind !== 'stage')
    return false;
  return 'index' in value && typeof value.index === 'number';
}

function numbered(stage: StagePlan, index: number, firstStep: number): StagePlan {
  const steps = stage.steps.map((step, nth) => ({
    ...step,
    stage: index,
    info: { ...step.info, index: firstStep + nth },
  }));
  return { ...stage, index, steps };
}

function numberOf(numbers: ReadonlyMap<number, number>, stage: number): number {
  const number = numbers.get(stage);
  if (number === undefined) throw new Error(`stage ${stage} stands after one that needs it`);
  return number;
}
