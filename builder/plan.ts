import {
  type BuildRequest,
  type ContainerConfig,
  DEFAULT_CACHING,
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
  type Flag,
  type Instruction,
  isKnownFrontend,
  parseInstruction,
} from '../parser/index.ts';
import { uselessRules } from './caching.ts';
import { checkDefaults, checkFroms } from './checks/from.ts';
import { checkBasePlatform, type LintContext } from './checks/stage-checks.ts';
import type { BuildGraph, ImageUse, StagePlan, TreeRef } from './graph.ts';
import { planInstruction } from './instructions/index.ts';
import { checkNoise } from './noise.ts';
import { type DraftBase, type PlanContext, StageDraft } from './stage-draft.ts';
import {
  baseNamed,
  findTarget,
  fromFlags,
  globalArgs,
  neededStages,
  refuseLater,
  type SketchedBase,
  type StageSketch,
  sketchStages,
  stageHasName,
  stageNamed,
} from './stages.ts';
import { stop } from './stop.ts';
import { DEFAULT_PATH, PROXY_ARGS, readEnvironment, SOURCE_DATE_EPOCH } from './variables.ts';

export interface PlanInput {
  readonly dockerfile: Dockerfile;
  readonly request: Pick<
    BuildRequest,
    | 'buildArgs'
    | 'labels'
    | 'target'
    | 'noCache'
    | 'noCacheFilter'
    | 'network'
    | 'caching'
    | 'namedContexts'
    | 'runLimits'
    | 'entitlements'
  >;
  /** This machine's platform, and the one to build for. */
  readonly buildPlatform: Platform;
  readonly targetPlatform: Platform;
  /** Is this one of several platforms? Then steps say for which they are. */
  readonly isOneOfSeveral?: boolean;
  /** Was the platform asked for? Then the image says that it is for that, whatever its base says. */
  readonly isPlatformGiven?: boolean;
  readonly slotPrefix: string;
  /** Takes what the checks find. */
  readonly lint: LintContext;
  /** Plan every stage, also those that the target does not need. */
  readonly allStages?: boolean;
}

/** An image that the plan found a need for, as its source says. */
export interface FoundImage {
  readonly use: ImageUse;
  readonly config: ImageConfig;
  /** It could not be looked up, and nothing is known of its configuration: for checks alone. */
  readonly unknown?: boolean;
}

/** An image by name, or one of an OCI layout that a named context gives. */
export type WantedImage = Extract<SketchedBase, { readonly kind: 'image' }>;

/** Finds an image in the local store or at its registry; ends the build where there is none. */
export type FindImage = (wanted: WantedImage, platform: Platform, range: SourceRange) => Promise<FoundImage>;

export interface Planned {
  readonly graph: BuildGraph;
  readonly warnings: readonly Diagnostic[];
  /** What the caller or an ARG before the first FROM says, as it stands there. */
  readonly sourceDateEpoch?: string;
}

/**
 * AST -> graph. Only stages that the target needs are gone through, and only their images are asked for.
 * Ends the build (BuildStop) at the first thing that cannot be.
 */
export async function planBuild(input: PlanInput, findImage: FindImage): Promise<Planned> {
  const { dockerfile, request } = input;
  const { drafts, target, consumedArgs, globals } = await draftStages(input, findImage);
  const stages = numberSteps(drafts, target, request.labels);
  const warnings = [
    ...unusedArgs(request.buildArgs, consumedArgs, dockerfile),
    ...unknownFrontend(request.buildArgs, dockerfile),
    ...uselessRules(dockerfile),
  ];
  const platform = input.isPlatformGiven
    ? input.targetPlatform
    : (drafts.get(target)?.basePlatform ?? input.targetPlatform);
  const sourceDateEpoch = request.buildArgs[SOURCE_DATE_EPOCH] ?? globals.get(SOURCE_DATE_EPOCH);
  return {
    graph: { stages, targets: [{ stage: target, platform }] },
    warnings,
    ...(sourceDateEpoch === undefined ? {} : { sourceDateEpoch }),
  };
}

/** Stages as they are before they are put together. */
export interface DraftedStages {
  readonly globals: ReadonlyMap<string, string>;
  readonly sketches: readonly StageSketch[];
  /** By the stage's index: those that were asked for. */
  readonly drafts: ReadonlyMap<number, StageDraft>;
  readonly target: number;
  readonly consumedArgs: ReadonlySet<string>;
}

/** Goes through the instructions of the stages, as {@link planBuild}. */
export async function draftStages(input: PlanInput, findImage: FindImage): Promise<DraftedStages> {
  const { request, lint } = input;
  checkNoise(request.caching?.noise ?? []);
  const consumedArgs = new Set<string>();
  checkDefaults(input, lint.linter);
  const globals = globalArgs(input, consumedArgs);
  checkFroms(input, globals, lint.linter);
  const sketches = sketchStages(input, globals);
  const target = findTarget(sketches, request.target);
  const needed = input.allStages === true ? new Set(sketches.keys()) : neededStages(sketches, target);
  const planner = new StagePlanner({ input, globals, consumedArgs, sketches, findImage });
  await planner.findImages(needed);
  for (const index of needed) await planner.plan(index);
  return { globals, sketches, drafts: planner.drafts, target, consumedArgs };
}

interface PlannerOptions {
  readonly input: PlanInput;
  readonly globals: ReadonlyMap<string, string>;
  readonly consumedArgs: Set<string>;
  readonly sketches: readonly StageSketch[];
  readonly findImage: FindImage;
}

/** Goes through stages, each after those that it needs: ONBUILD triggers of a base image may name further ones. */
class StagePlanner {
  readonly drafts = new Map<number, StageDraft>();
  readonly #options: PlannerOptions;
  readonly #images = new Map<string, Promise<FoundImage>>();

  constructor(options: PlannerOptions) {
    this.#options = options;
  }

  /** Looks up, all at once, the images that these stages are known to need. */
  async findImages(stages: Iterable<number>): Promise<void> {
    const lookUps: Promise<FoundImage>[] = [];
    for (const index of stages) {
      const { from, stage, platform, instructions } = this.#sketch(index);
      if (from.kind === 'image') lookUps.push(this.#image(from, platform, stage.from.image.range));
      for (const flag of fromFlags(instructions)) {
        if (stageNamed(flag, this.#options.sketches) !== undefined) continue;
        const base = baseNamed(flag.value ?? '', this.#options.input.request.namedContexts);
        if (base.kind === 'image') lookUps.push(this.#imageOf(base, flag));
      }
    }
    await Promise.all(lookUps);
  }

  /** Plans a stage, and before it those that it stands on or copies from. */
  async plan(index: number): Promise<void> {
    if (this.drafts.has(index)) return;
    const { input, consumedArgs, globals } = this.#options;
    const { request, dockerfile } = input;
    const sketch = this.#sketch(index);
    const base = await this.#base(sketch);
    const { OnBuild, ...config } = base.config;
    const triggers = (OnBuild ?? []).map((trigger) => readTrigger(trigger, sketch));
    const instructions = [...triggers, ...sketch.instructions];
    const trees = new Map<string, TreeRef>();
    for (const flag of fromFlags(instructions)) trees.set(flag.value ?? '', await this.#tree(flag, sketch));
    const context: PlanContext = {
      escape: dockerfile.directives.escape,
      buildArgs: new Map(Object.entries(request.buildArgs)),
      consumedArgs,
      globals,
      network: request.network,
      limits: request.runLimits ?? {},
      entitlements: new Set(request.entitlements),
      caching: request.caching ?? DEFAULT_CACHING,
      slotPrefix: this.#slotPrefix(sketch.platform),
      namesPlatforms: input.isOneOfSeveral === true,
      treeNamed: (name) => {
        const tree = trees.get(name);
        if (tree === undefined) throw new Error(`--from=${name} was not looked up`);
        return tree;
      },
      lint: input.lint,
    };
    const { name, platform } = sketch;
    const noCache =
      request.noCache || request.noCacheFilter.some((one) => stageHasName(sketch, one) || name === one);
    const draft = new StageDraft(context, { index, name, noCache, platform }, { ...base, config });
    if (sketch.from.kind === 'context') draft.addContext(sketch.stage.from, sketch.from.name);
    for (const instruction of instructions) planInstruction(instruction, draft);
    this.drafts.set(index, draft);
  }

  /** Steps for another machine's platform are other steps than those for this one's. */
  #slotPrefix(platform: Platform): string {
    const { slotPrefix, buildPlatform } = this.#options.input;
    const [own, wanted] = [buildPlatform, platform].map(formatPlatform);
    return own === wanted ? slotPrefix : `${slotPrefix}\n${wanted}`;
  }

  #sketch(index: number): StageSketch {
    const sketch = this.#options.sketches[index];
    if (sketch === undefined) throw new Error(`there is no stage ${index}`);
    return sketch;
  }

  async #base(sketch: StageSketch): Promise<DraftBase> {
    const { from, platform, stage } = sketch;
    switch (from.kind) {
      case 'scratch':
      case 'context':
        return { from: { kind: 'scratch' }, config: { Env: [`PATH=${DEFAULT_PATH}`], WorkingDir: '/' } };
      case 'stage': {
        await this.plan(from.index);
        const draft = this.drafts.get(from.index);
        if (draft === undefined) throw new Error(`stage ${from.index} was not planned`);
        return { from, config: draft.config, parent: draft };
      }
      case 'image': {
        const found = await this.#image(from, platform, stage.from.image.range);
        const { author } = found.config;
        if (found.unknown !== true) {
          const image = { name: from.name, wanted: platform, found: found.config };
          checkBasePlatform(stage.from, image, this.#options.input.lint.linter);
        }
        return {
          from: { kind: 'image', image: { ...found.use, range: stage.from.image.range } },
          config: withPath(found.config.config ?? {}),
          ...(author === undefined ? {} : { author }),
          platform: platformOf(found.config),
          ...(found.unknown === true ? { unknown: true } : {}),
        };
      }
      default:
        return unreachable(from);
    }
  }

  /** What a `--from` means: an earlier stage by name or number, else a named context, else an image. */
  async #tree(flag: Flag, sketch: StageSketch): Promise<TreeRef> {
    const stage = stageNamed(flag, this.#options.sketches);
    if (stage === undefined) {
      const base = baseNamed(flag.value ?? '', this.#options.input.request.namedContexts);
      if (base.kind === 'context') return { kind: 'named', name: base.name };
      if (base.kind === 'scratch') return base;
      const { use } = await this.#imageOf(base, flag);
      return { kind: 'image', image: { ...use, range: flag.range } };
    }
    refuseLater(sketch, stage, flag.range);
    await this.plan(stage.stage.index);
    return { kind: 'stage', index: stage.stage.index, name: stage.name };
  }

  #imageOf(wanted: WantedImage, flag: Flag): Promise<FoundImage> {
    return this.#image(wanted, this.#options.input.targetPlatform, flag.range);
  }

  #image(wanted: WantedImage, platform: Platform, range: SourceRange): Promise<FoundImage> {
    const { name } = wanted;
    const key = `${formatPlatform(platform)} ${wanted.layout === undefined ? 'name' : 'context'} ${name}`;
    const known = this.#images.get(key);
    if (known !== undefined) return known;
    const parsed = parseReference(name);
    if (!parsed.ok) {
      stop('invalid-reference', `failed to parse ${JSON.stringify(name)}: ${parsed.error}`, {
        range,
        hint: 'Name a stage that stands above, or an image: name[:tag][@digest].',
      });
    }
    const found = this.#options.findImage(wanted, platform, range);
    this.#images.set(key, found);
    return found;
  }
}

/** As the configuration says it: an image that nobody asked for by platform keeps the words of its base. */
function platformOf({ os, architecture, variant }: ImageConfig): Platform {
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** A base image without PATH gets the usual one, in its configuration too. */
function withPath(config: ContainerConfig): ContainerConfig {
  const environment = config.Env ?? [];
  if (readEnvironment(environment).has('PATH')) return config;
  return { ...config, Env: [...environment, `PATH=${DEFAULT_PATH}`] };
}

/** Reads an ONBUILD trigger of the base; all its places become that of the FROM that brought it. */
function readTrigger(trigger: string, sketch: StageSketch): Instruction {
  const { instruction, diagnostics } = parseInstruction(trigger);
  const { range } = sketch.stage.from;
  if (instruction === undefined) {
    const message = diagnostics[0]?.message ?? 'it cannot be read';
    stop(
      'bad-onbuild',
      `the base image's trigger ${JSON.stringify(`ONBUILD ${trigger}`)} is no instruction: ${message}`,
      { range },
    );
  }
  const isRange = (key: string): boolean => key === 'range' || key === 'bodyRange';
  const moved: Instruction = JSON.parse(
    JSON.stringify(instruction, (key, value) => (isRange(key) ? range : value)),
  );
  return moved;
}

/** Numbers the steps through the whole build and puts the command line's labels on the target. */
function numberSteps(
  drafts: ReadonlyMap<number, StageDraft>,
  target: number,
  labels: Readonly<Record<string, string>>,
): readonly StagePlan[] {
  const stages: StagePlan[] = [];
  let firstStep = 0;
  for (const [index, draft] of [...drafts].sort(([a], [b]) => a - b)) {
    if (index === target && Object.keys(labels).length > 0) {
      draft.config.Labels = { ...draft.config.Labels, ...labels };
    }
    const finished = draft.finish(firstStep);
    stages.push(finished);
    firstStep += finished.steps.length;
  }
  return stages;
}

/** BUILDKIT_SYNTAX says what a syntax directive says. */
function unknownFrontend(
  buildArgs: Readonly<Record<string, string>>,
  dockerfile: Dockerfile,
): readonly Diagnostic[] {
  const frontend = buildArgs['BUILDKIT_SYNTAX'] ?? '';
  const first = dockerfile.stages[0];
  if (frontend === '' || isKnownFrontend(frontend) || first === undefined) return [];
  return [
    {
      severity: 'warning',
      code: 'unknown-frontend',
      message: `BUILDKIT_SYNTAX names ${frontend}, which is not pulled: varve reads the language of docker/dockerfile:1`,
      range: first.from.range,
      hint: 'other languages do not work; leave the argument away if the file needs none',
    },
  ];
}

function unusedArgs(
  buildArgs: Readonly<Record<string, string>>,
  consumed: ReadonlySet<string>,
  dockerfile: Dockerfile,
): readonly Diagnostic[] {
  const isPredefined = (name: string): boolean =>
    PROXY_ARGS.includes(name.toLowerCase()) || name === SOURCE_DATE_EPOCH || name.startsWith('BUILDKIT_');
  const unused = Object.keys(buildArgs)
    .filter((name) => !consumed.has(name) && !isPredefined(name))
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
