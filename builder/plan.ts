import {
  type BuildRequest,
  type Diagnostic,
  type ImageConfig,
  type Platform,
  parseReference,
  type SourceRange,
  unreachable,
} from '../core/index.ts';
import { formatPlatform } from '../image/index.ts';
import {
  type Dockerfile,
  expandWord,
  type Flag,
  type Instruction,
  parseInstruction,
  type Stage,
  type Word,
} from '../parser/index.ts';
import type { BuildGraph, ImageUse, StagePlan, TreeRef } from './graph.ts';
import { planArg } from './instructions/arg.ts';
import { planCommand } from './instructions/cmd.ts';
import { planCopy } from './instructions/copy.ts';
import { planEnv } from './instructions/env.ts';
import { planExpose } from './instructions/expose.ts';
import { planHealthcheck } from './instructions/healthcheck.ts';
import { planLabel } from './instructions/label.ts';
import { planMaintainer } from './instructions/maintainer.ts';
import { planOnbuild } from './instructions/onbuild.ts';
import { planRun } from './instructions/run.ts';
import { planShell } from './instructions/shell.ts';
import { planStopSignal } from './instructions/stopsignal.ts';
import { planUser } from './instructions/user.ts';
import { planVolume } from './instructions/volume.ts';
import { planWorkdir } from './instructions/workdir.ts';
import { type DraftBase, type PlanContext, StageDraft } from './stage-draft.ts';
import { stop } from './stop.ts';
import { DEFAULT_PATH, PROXY_ARGS, parsePlatform, platformArgs, SOURCE_DATE_EPOCH } from './variables.ts';

export interface PlanInput {
  readonly dockerfile: Dockerfile;
  readonly request: Pick<
    BuildRequest,
    'buildArgs' | 'labels' | 'target' | 'noCache' | 'noCacheFilter' | 'network'
  >;
  /** This machine's platform, and the one to build for. */
  readonly buildPlatform: Platform;
  readonly targetPlatform: Platform;
  readonly slotPrefix: string;
}

/** An image that the plan found a need for, as its source says. */
export interface FoundImage {
  readonly use: ImageUse;
  readonly config: ImageConfig;
}

/** Finds an image in the local store or at its registry; ends the build where there is none. */
export type FindImage = (name: string, platform: Platform, range: SourceRange) => Promise<FoundImage>;

export interface Planned {
  readonly graph: BuildGraph;
  readonly warnings: readonly Diagnostic[];
}

/** A stage as far as it is known before its instructions are gone through. */
interface StageSketch {
  readonly stage: Stage;
  readonly name: string;
  readonly platform: Platform;
  readonly from:
    | { readonly kind: 'scratch' }
    | { readonly kind: 'stage'; readonly index: number }
    | { readonly kind: 'image'; readonly name: string };
}

/**
 * AST -> graph. Only stages that the target needs are gone through, and only their images are asked for.
 * Ends the build (BuildStop) at the first thing that cannot be.
 */
export async function planBuild(input: PlanInput, findImage: FindImage): Promise<Planned> {
  const { dockerfile, request } = input;
  if (dockerfile.stages.length === 0) {
    stop('no-stage', 'the Dockerfile has no FROM: there is nothing to build', {
      hint: 'Begin a stage with FROM image.',
    });
  }
  const consumedArgs = new Set<string>();
  const globals = globalArgs(input, consumedArgs);
  const sketches = sketchStages(input, globals);
  const target = findTarget(sketches, request.target);
  const images = new Map<string, FoundImage>();
  const drafts = new Map<number, StageDraft>();
  const needed = neededStages(sketches, target);

  for (const sketch of sketches) {
    if (!needed.has(sketch.stage.index)) continue;
    await findImagesOf(sketch, sketches, images, findImage);
    const context: PlanContext = {
      escape: dockerfile.directives.escape,
      buildArgs: request.buildArgs,
      consumedArgs,
      globals,
      network: request.network,
      slotPrefix: input.slotPrefix,
      treeNamed: (name, range) =>
        treeNamed(name, range, sketches, (image) => images.get(imageKey(image, sketch.platform))),
    };
    drafts.set(sketch.stage.index, planStage(sketch, context, { drafts, images, request }));
  }
  const stages = numberSteps(drafts, target, request.labels);
  return { graph: { stages, target }, warnings: unusedArgs(request.buildArgs, consumedArgs, dockerfile) };
}

/** Values of the ARGs before the first FROM, on top of the platform arguments. */
function globalArgs(input: PlanInput, consumed: Set<string>): ReadonlyMap<string, string> {
  const values = new Map(platformArgs(input.buildPlatform, input.targetPlatform));
  for (const instruction of input.dockerfile.globalArgs) {
    for (const arg of instruction.args) {
      const given = input.request.buildArgs[arg.name.text];
      if (given !== undefined) consumed.add(arg.name.text);
      const value =
        given ?? (arg.defaultValue === undefined ? undefined : expandGlobal(arg.defaultValue, values, input));
      if (value !== undefined) values.set(arg.name.text, value);
    }
  }
  return values;
}

function expandGlobal(word: Word, values: ReadonlyMap<string, string>, input: PlanInput): string {
  const result = expandWord(word.text, {
    escape: input.dockerfile.directives.escape,
    lookup: (name) => values.get(name),
  });
  if (!result.ok)
    stop('bad-substitution', `failed to process ${JSON.stringify(word.text)}: ${result.error.message}`, {
      range: word.range,
    });
  return result.value.text;
}

function sketchStages(input: PlanInput, globals: ReadonlyMap<string, string>): readonly StageSketch[] {
  const sketches: StageSketch[] = [];
  for (const stage of input.dockerfile.stages) {
    const image = expandGlobal(stage.from.image, globals, input);
    if (image === '') {
      stop('empty-base', `base name (${stage.from.image.text}) should not be blank`, {
        range: stage.from.image.range,
        hint: 'Give the ARG that the name is made of a default, or pass it with --build-arg.',
      });
    }
    const platform = stagePlatform(stage.from.flags, input, globals);
    const earlier = sketches.findLast((sketch) => stageHasName(sketch, image));
    const from =
      earlier !== undefined
        ? ({ kind: 'stage', index: earlier.stage.index } as const)
        : image === 'scratch'
          ? ({ kind: 'scratch' } as const)
          : ({ kind: 'image', name: image } as const);
    sketches.push({ stage, name: stage.from.as?.text ?? String(stage.index), platform, from });
  }
  return sketches;
}

function stageHasName(sketch: StageSketch, name: string): boolean {
  return sketch.stage.from.as?.text.toLowerCase() === name.toLowerCase();
}

function stagePlatform(
  flags: readonly Flag[],
  input: PlanInput,
  globals: ReadonlyMap<string, string>,
): Platform {
  const flag = flags.find((candidate) => candidate.name === 'platform');
  if (flag === undefined) return input.targetPlatform;
  const text = expandGlobal({ text: flag.value ?? '', range: flag.range }, globals, input);
  const platform = parsePlatform(text);
  if (platform === undefined) {
    stop('invalid-platform', `failed to parse platform ${JSON.stringify(text)}`, {
      range: flag.range,
      hint: 'Write os/architecture, such as linux/amd64.',
    });
  }
  return platform;
}

function findTarget(sketches: readonly StageSketch[], target: string | undefined): number {
  if (target === undefined || target === '') return sketches.length - 1;
  const byName = sketches.findLast((sketch) => stageHasName(sketch, target));
  if (byName !== undefined) return byName.stage.index;
  if (/^\d+$/.test(target) && Number(target) < sketches.length) return Number(target);
  const names = sketches.map((sketch) => sketch.name).join(', ');
  stop('unknown-target', `target stage ${JSON.stringify(target)} could not be found`, {
    hint: `The stages are: ${names}.`,
  });
}

/** What `--from=name` can mean before images are looked at: a stage by name or number, or else an image. */
function stageNamed(
  name: string,
  range: SourceRange,
  sketches: readonly StageSketch[],
): StageSketch | undefined {
  const byName = sketches.findLast((sketch) => stageHasName(sketch, name));
  if (byName !== undefined || !/^\d+$/.test(name)) return byName;
  const byNumber = sketches[Number(name)];
  if (byNumber === undefined) {
    stop(
      'unknown-stage',
      `invalid from flag value ${name}: there are only ${sketches.length} stages, numbered from 0`,
      { range },
    );
  }
  return byNumber;
}

function fromFlags(stage: Stage): readonly Flag[] {
  return stage.instructions.flatMap((instruction) =>
    instruction.kind === 'COPY' ? instruction.flags.filter((flag) => flag.name === 'from') : [],
  );
}

/** The target, and all stages that it is made from or copies from. Ends the build where stages need each other in a circle. */
function neededStages(sketches: readonly StageSketch[], target: number): ReadonlySet<number> {
  const done = new Set<number>();
  const path: number[] = [];
  const visit = (index: number, range: SourceRange | undefined): void => {
    const sketch = sketches[index];
    if (sketch === undefined || done.has(index)) return;
    if (path.includes(index)) {
      const circle = [...path.slice(path.indexOf(index)), index].map(
        (at) => sketches[at]?.name ?? String(at),
      );
      stop('stage-cycle', `circular dependency detected on stage: ${sketch.name}`, {
        ...(range === undefined ? {} : { range }),
        hint: `The stages need each other: ${circle.join(' -> ')}.`,
      });
    }
    path.push(index);
    if (sketch.from.kind === 'stage') visit(sketch.from.index, sketch.stage.from.range);
    for (const flag of fromFlags(sketch.stage)) {
      const other = stageNamed(flag.value ?? '', flag.range, sketches);
      if (other !== undefined) visit(other.stage.index, flag.range);
    }
    path.pop();
    done.add(index);
  };
  visit(target, undefined);
  return done;
}

function imageKey(name: string, platform: Platform): string {
  return `${formatPlatform(platform)} ${name}`;
}

/** Looks up the images that a stage stands on or copies from, all at once. */
async function findImagesOf(
  sketch: StageSketch,
  sketches: readonly StageSketch[],
  images: Map<string, FoundImage>,
  findImage: FindImage,
): Promise<void> {
  const wanted = new Map<string, SourceRange>();
  if (sketch.from.kind === 'image') wanted.set(sketch.from.name, sketch.stage.from.image.range);
  for (const flag of fromFlags(sketch.stage)) {
    const name = flag.value ?? '';
    if (name !== '' && stageNamed(name, flag.range, sketches) === undefined) wanted.set(name, flag.range);
  }
  await Promise.all(
    [...wanted].map(async ([name, range]) => {
      const key = imageKey(name, sketch.platform);
      if (images.has(key)) return;
      const parsed = parseReference(name);
      if (!parsed.ok) {
        stop('invalid-reference', `failed to parse ${JSON.stringify(name)}: ${parsed.error}`, {
          range,
          hint: 'Name a stage that stands above, or an image: name[:tag][@digest].',
        });
      }
      images.set(key, await findImage(name, sketch.platform, range));
    }),
  );
}

function treeNamed(
  name: string,
  range: SourceRange,
  sketches: readonly StageSketch[],
  imageOf: (name: string) => FoundImage | undefined,
): TreeRef {
  const stage = stageNamed(name, range, sketches);
  if (stage !== undefined) return { kind: 'stage', index: stage.stage.index, name: stage.name };
  const image = imageOf(name);
  if (image === undefined) {
    stop('unsupported-from', `--from=${name} names its source through a variable, which is not supported`, {
      range,
    });
  }
  return { kind: 'image', image: image.use };
}

interface PlannedSoFar {
  readonly drafts: ReadonlyMap<number, StageDraft>;
  readonly images: ReadonlyMap<string, FoundImage>;
  readonly request: PlanInput['request'];
}

function planStage(sketch: StageSketch, context: PlanContext, soFar: PlannedSoFar): StageDraft {
  const { request } = soFar;
  const base = baseOf(sketch, soFar);
  const noCache =
    request.noCache ||
    request.noCacheFilter.some((name) => stageHasName(sketch, name) || sketch.name === name);
  const stage = { index: sketch.stage.index, name: sketch.name, noCache, platform: sketch.platform };
  const { OnBuild: triggers = [], ...config } = base.config;
  const draft = new StageDraft(context, stage, { ...base, config });
  for (const trigger of triggers) planInstruction(readTrigger(trigger, sketch), draft);
  for (const instruction of sketch.stage.instructions) planInstruction(instruction, draft);
  return draft;
}

function baseOf(sketch: StageSketch, soFar: PlannedSoFar): DraftBase {
  switch (sketch.from.kind) {
    case 'scratch':
      return { from: { kind: 'scratch' }, config: { Env: [`PATH=${DEFAULT_PATH}`], WorkingDir: '/' } };
    case 'stage': {
      const draft = soFar.drafts.get(sketch.from.index);
      if (draft === undefined)
        throw new Error(`stage ${sketch.from.index} is planned before the stages built on it`);
      return { from: sketch.from, config: draft.config, parent: draft };
    }
    case 'image': {
      const found = soFar.images.get(imageKey(sketch.from.name, sketch.platform));
      if (found === undefined)
        throw new Error(`image ${sketch.from.name} is looked up before its stage is planned`);
      const config = found.config.config ?? {};
      const { author } = found.config;
      return {
        from: { kind: 'image', image: found.use },
        config,
        ...(author === undefined ? {} : { author }),
      };
    }
    default:
      return unreachable(sketch.from);
  }
}

/** Reads an ONBUILD trigger of a base image; its words have the place of the FROM that brought it. */
function readTrigger(trigger: string, sketch: StageSketch): Instruction {
  const { instruction, diagnostics } = parseInstruction(trigger);
  if (instruction === undefined) {
    const message = diagnostics[0]?.message ?? 'it cannot be read';
    stop(
      'bad-onbuild',
      `the base image's trigger ${JSON.stringify(`ONBUILD ${trigger}`)} is no instruction: ${message}`,
      {
        range: sketch.stage.from.range,
      },
    );
  }
  return { ...instruction, range: sketch.stage.from.range };
}

function planInstruction(instruction: Instruction, stage: StageDraft): void {
  switch (instruction.kind) {
    case 'ARG':
      planArg(instruction, stage);
      break;
    case 'CMD':
    case 'ENTRYPOINT':
      planCommand(instruction, stage);
      break;
    case 'COPY':
    case 'ADD':
      planCopy(instruction, stage);
      break;
    case 'ENV':
      planEnv(instruction, stage);
      break;
    case 'EXPOSE':
      planExpose(instruction, stage);
      break;
    case 'HEALTHCHECK':
      planHealthcheck(instruction, stage);
      break;
    case 'LABEL':
      planLabel(instruction, stage);
      break;
    case 'MAINTAINER':
      planMaintainer(instruction, stage);
      break;
    case 'ONBUILD':
      planOnbuild(instruction, stage);
      break;
    case 'RUN':
      planRun(instruction, stage);
      break;
    case 'SHELL':
      planShell(instruction, stage);
      break;
    case 'STOPSIGNAL':
      planStopSignal(instruction, stage);
      break;
    case 'USER':
      planUser(instruction, stage);
      break;
    case 'VOLUME':
      planVolume(instruction, stage);
      break;
    case 'WORKDIR':
      planWorkdir(instruction, stage);
      break;
    default:
      unreachable(instruction);
  }
}

/** Numbers the steps through the whole build and puts the command line's labels on the target. */
function numberSteps(
  drafts: ReadonlyMap<number, StageDraft>,
  target: number,
  labels: Readonly<Record<string, string>>,
): readonly StagePlan[] {
  const stages: StagePlan[] = [];
  let firstStep = 0;
  for (const [index, draft] of drafts) {
    if (index === target && Object.keys(labels).length > 0) {
      draft.config.Labels = { ...draft.config.Labels, ...labels };
    }
    const finished = draft.finish(firstStep);
    stages.push(finished);
    firstStep += finished.steps.length;
  }
  return stages;
}

function unusedArgs(
  buildArgs: Readonly<Record<string, string>>,
  consumed: ReadonlySet<string>,
  dockerfile: Dockerfile,
): readonly Diagnostic[] {
  const predefined = new Set([...PROXY_ARGS, SOURCE_DATE_EPOCH]);
  const unused = Object.keys(buildArgs)
    .filter((name) => !consumed.has(name) && !predefined.has(name))
    .sort();
  const first = dockerfile.stages[0];
  if (unused.length === 0 || first === undefined) return [];
  return [
    {
      severity: 'warning',
      code: 'unused-build-arg',
      message: `One or more build-args [${unused.join(' ')}] were not consumed`,
      range: first.from.range,
      hint: 'Declare them with ARG in the stage that uses them.',
    },
  ];
}
