import {
  type CommittedSnapshot,
  type Descriptor,
  type HistoryEntry,
  type ImageConfig,
  MEDIA_TYPE,
} from '../core/index.ts';
import type { SolvedStep } from './attempt.ts';
import type { UsableImage } from './base-image.ts';
import type { BuildGraph, BuildTarget, StagePlan } from './graph.ts';

export interface AssembleInput {
  readonly graph: BuildGraph;
  readonly target: BuildTarget;
  readonly solved: ReadonlyMap<number, SolvedStep>;
  /** The target's files; undefined for an image without layers. */
  readonly snapshot: CommittedSnapshot | undefined;
  /** SOURCE_DATE_EPOCH, seconds: stands for every time of this build. */
  readonly sourceDateEpoch: number | undefined;
  readonly imageOf: (stage: StagePlan) => UsableImage | undefined;
}

export interface AssembledImage {
  readonly config: ImageConfig;
  /** One a layer, lowest first: the base's as they are, built ones as plain tars. */
  readonly layers: readonly Descriptor[];
}

interface Lineage {
  readonly history: readonly HistoryEntry[];
  readonly layers: readonly Descriptor[];
  readonly created: string | undefined;
}

/**
 * Puts the target's image together. Times in it are those of the records, so that a build which reuses everything gives the same
 * digest every time.
 */
export function assembleImage(input: AssembleInput): AssembledImage {
  const target = stageOf(input.graph, input.target.stage);
  const lineage = lineageOf(target, input);
  const { platform } = input.target;
  const diffIds = input.snapshot?.diffIds ?? [];
  const config: ImageConfig = {
    ...(lineage.created === undefined ? {} : { created: lineage.created }),
    ...(target.author === undefined ? {} : { author: target.author }),
    architecture: platform.architecture,
    os: platform.os,
    ...(platform.variant === undefined ? {} : { variant: platform.variant }),
    config: target.config,
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: lineage.history,
  };
  if (lineage.layers.length !== diffIds.length) {
    throw new Error(`the target has ${diffIds.length} layers and ${lineage.layers.length} descriptors`);
  }
  return { config, layers: lineage.layers };
}

function stageOf(graph: BuildGraph, index: number): StagePlan {
  const stage = graph.stages.find((candidate) => candidate.index === index);
  if (stage === undefined) throw new Error(`stage ${index} is not in the graph`);
  return stage;
}

function lineageOf(stage: StagePlan, input: AssembleInput): Lineage {
  const base = baseLineage(stage, input);
  const history = [...base.history];
  const layers = [...base.layers];
  let created = input.sourceDateEpoch === undefined ? base.created : isoTime(input.sourceDateEpoch * 1000);
  for (const item of stage.history) {
    const solved = item.step === undefined ? undefined : solvedStep(stage, item.step, input);
    if (solved !== undefined && input.sourceDateEpoch === undefined) created = isoTime(solved.createdAtMs);
    if (solved?.layer !== undefined) {
      layers.push({ mediaType: MEDIA_TYPE.ociLayer, digest: solved.layer.diffId, size: solved.layer.size });
    }
    history.push({
      ...(created === undefined ? {} : { created }),
      created_by: item.createdBy,
      comment: 'varve',
      ...(solved?.layer === undefined ? { empty_layer: true } : {}),
    });
  }
  return { history, layers, created };
}

/**
 * When the first step above the base image came about: the time of what stands above it in the history, as in BuildKit. The
 * base's own times are older than this build.
 */
function firstStepTime(stage: StagePlan, input: AssembleInput): string | undefined {
  const item = stage.history.find(({ step }) => step !== undefined);
  return item?.step === undefined ? undefined : isoTime(solvedStep(stage, item.step, input).createdAtMs);
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

function solvedStep(stage: StagePlan, nth: number, input: AssembleInput): SolvedStep {
  const step = stage.steps[nth];
  const solved = step === undefined ? undefined : input.solved.get(step.info.index);
  if (solved === undefined) throw new Error(`step ${nth} of stage ${stage.name} was not solved`);
  return solved;
}

function baseLineage(stage: StagePlan, input: AssembleInput): Lineage {
  const created = firstStepTime(stage, input);
  if (stage.base.kind === 'scratch') return { history: [], layers: [], created };
  if (stage.base.kind === 'stage') return lineageOf(stageOf(input.graph, stage.base.index), input);
  const image = input.imageOf(stage);
  if (image === undefined) throw new Error(`the base of stage ${stage.name} was not looked up`);
  const { config, manifest } = image;
  return { history: config.history ?? [], layers: manifest.layers, created: created ?? config.created };
}
