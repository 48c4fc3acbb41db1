import type { BuildRequest } from '../core/index.ts';
import type { SolvedStep } from './attempt.ts';
import type { BuildGraph, Step } from './graph.ts';

/**
 * Was there nothing to do in a build, and will there be nothing as long as what it looked at stays as it is? Then each step was an exact
 * hit, nothing was asked of another machine, and no result grows too old.
 */
export function nothingToDo(
  request: BuildRequest,
  graph: BuildGraph,
  solved: ReadonlyMap<number, SolvedStep>,
): boolean {
  const steps = graph.stages.flatMap((stage) => stage.steps);
  return (
    isPlain(request) &&
    graph.targets.length === 1 &&
    solved.size === steps.length &&
    steps.every((step) => solved.get(step.info.index)?.outcome === 'exact' && staysAsItIs(step))
  );
}

/** A folder's files go in, and an image of the local store comes out. */
function isPlain(request: BuildRequest): boolean {
  const { context, dockerfile, namedContexts = {}, outputs, platforms = [] } = request;
  const [output, ...others] = outputs;
  return (
    context.kind === 'directory' &&
    dockerfile.kind === 'file' &&
    Object.values(namedContexts).every(({ kind }) => kind === 'directory') &&
    platforms.length === 0 &&
    !request.pull &&
    !request.noCache &&
    request.noCacheFilter.length === 0 &&
    request.verifyCache !== true &&
    !('BUILDKIT_MULTI_PLATFORM' in request.buildArgs) &&
    output?.type === 'image' &&
    !output.push &&
    output.form === undefined &&
    others.length === 0
  );
}

/** Time alone makes no miss of it, and neither does what this machine has beside files: devices, agents, secrets. */
function staysAsItIs(step: Step): boolean {
  if (step.noCache || step.caching.ttlMs !== undefined) return false;
  switch (step.kind) {
    case 'RUN':
      return (
        step.devices.length === 0 && step.mounts.every(({ type }) => type !== 'secret' && type !== 'ssh')
      );
    case 'COPY':
    case 'ADD':
      return step.sources.every(({ kind }) => kind === 'path' || kind === 'inline');
    case 'WORKDIR':
      return true;
  }
}
