import {
  type BuildRequest,
  contextName,
  type NamedContext,
  type OciLayoutContext,
  type Platform,
  type SourceRange,
  unreachable,
} from '../core/index.ts';
import { parsePlatform } from '../image/index.ts';
import {
  type Dockerfile,
  expandWord,
  type Flag,
  type Instruction,
  type Stage,
  type Word,
} from '../parser/index.ts';
import { mountSource } from './instructions/run-mount.ts';
import { stop } from './stop.ts';
import { platformArgs } from './variables.ts';

/** What the stages' names, platforms and bases follow from. */
export interface StagesInput {
  readonly dockerfile: Dockerfile;
  readonly request: Pick<BuildRequest, 'buildArgs' | 'target' | 'namedContexts'>;
  /** This machine's platform, and the one to build for. */
  readonly buildPlatform: Platform;
  readonly targetPlatform: Platform;
}

/** A stage as far as it is known before its instructions are gone through. */
export interface StageSketch {
  readonly stage: Stage;
  readonly name: string;
  readonly platform: Platform;
  readonly from: { readonly kind: 'stage'; readonly index: number } | SketchedBase;
  /** Those of the stage; none where a named context has taken its place. */
  readonly instructions: readonly Instruction[];
}

/** What a stage stands on, or a `--from` means, beside another stage. */
export type SketchedBase =
  | { readonly kind: 'scratch' }
  | { readonly kind: 'image'; readonly name: string; readonly layout?: OciLayoutContext }
  /** The files of a named context. */
  | { readonly kind: 'context'; readonly name: string };

/** What the name of an image means: the named context of this name, else the image itself. */
export function baseNamed(name: string, contexts: BuildRequest['namedContexts']): SketchedBase {
  if (name === 'scratch') return { kind: 'scratch' };
  return contextBase(name, contexts) ?? { kind: 'image', name };
}

/** The named context that overrides `name`, as BuildKit compares names: short, and without `:latest`. */
function contextBase(name: string, contexts: BuildRequest['namedContexts']): SketchedBase | undefined {
  const key = contexts === undefined ? undefined : contextName(name);
  if (contexts === undefined || key === undefined || !Object.hasOwn(contexts, key)) return undefined;
  const context = contexts[key];
  return context === undefined ? undefined : baseOf(key, context);
}

function baseOf(name: string, context: NamedContext): SketchedBase {
  switch (context.kind) {
    case 'image':
      return context.name === 'scratch' ? { kind: 'scratch' } : { kind: 'image', name: context.name };
    case 'oci-layout':
      return { kind: 'image', name, layout: context };
    case 'directory':
    case 'git':
    case 'http':
      return { kind: 'context', name };
    default:
      return unreachable(context);
  }
}

/** Values of the ARGs before the first FROM, on top of the platform arguments, which the command line may override. */
export function globalArgs(input: StagesInput, consumed: Set<string>): ReadonlyMap<string, string> {
  const { dockerfile, request, buildPlatform, targetPlatform } = input;
  const given = new Map(Object.entries(request.buildArgs));
  const target = request.target ?? dockerfile.stages.at(-1)?.from.as?.text ?? '';
  const values = new Map(platformArgs(buildPlatform, targetPlatform));
  values.set('TARGETSTAGE', target === '' ? 'default' : target);
  for (const name of values.keys()) {
    const value = given.get(name);
    if (value === undefined) continue;
    values.set(name, value);
    consumed.add(name);
  }
  for (const instruction of dockerfile.globalArgs) {
    for (const arg of instruction.args) {
      const fromCaller = given.get(arg.name.text);
      if (fromCaller !== undefined) consumed.add(arg.name.text);
      const value =
        fromCaller ??
        (arg.defaultValue === undefined ? undefined : expandGlobal(arg.defaultValue, values, input));
      if (value !== undefined) values.set(arg.name.text, value);
    }
  }
  return values;
}

function expandGlobal(word: Word, values: ReadonlyMap<string, string>, input: StagesInput): string {
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

export function sketchStages(
  input: StagesInput,
  globals: ReadonlyMap<string, string>,
): readonly StageSketch[] {
  const sketches: StageSketch[] = [];
  for (const stage of input.dockerfile.stages) {
    const image = expandGlobal(stage.from.image, globals, input);
    if (image === '') {
      stop('empty-base', `base name (${stage.from.image.text}) should not be blank`, {
        range: stage.from.image.range,
        hint: 'Give the ARG that the name is made of a default, or pass it with --build-arg.',
      });
    }
    const { namedContexts } = input.request;
    const as = stage.from.as?.text;
    // A context with the stage's own name takes the place of the whole stage.
    const instead = as === undefined ? undefined : contextBase(as.toLowerCase(), namedContexts);
    const earlier =
      instead === undefined ? sketches.findLast((sketch) => stageHasName(sketch, image)) : undefined;
    const wanted = stagePlatform(stage.from.flags, input, globals);
    // As in BuildKit, nothing at all is for the target, whatever the flag says.
    const platform = earlier?.platform ?? (image === 'scratch' ? input.targetPlatform : wanted);
    const from =
      earlier === undefined
        ? (instead ?? baseNamed(image, namedContexts))
        : ({ kind: 'stage', index: earlier.stage.index } as const);
    const instructions = instead === undefined ? stage.instructions : [];
    sketches.push({ stage, name: as ?? String(stage.index), platform, from, instructions });
  }
  return sketches;
}

export function stageHasName(sketch: StageSketch, name: string): boolean {
  return sketch.stage.from.as?.text.toLowerCase() === name.toLowerCase();
}

function stagePlatform(
  flags: readonly Flag[],
  input: StagesInput,
  globals: ReadonlyMap<string, string>,
): Platform {
  const flag = flags.find((candidate) => candidate.name === 'platform');
  // `--platform=` says nothing; a variable that comes to nothing is a slip.
  if (flag?.value === undefined || flag.value === '') return input.targetPlatform;
  const text = expandGlobal({ text: flag.value, range: flag.range }, globals, input);
  if (text === '') {
    stop('empty-platform', `empty platform value from expression ${flag.value}`, {
      range: flag.range,
      hint: 'Give the ARG that the platform is made of a default, or pass it with --build-arg.',
    });
  }
  const platform = parsePlatform(text, input.buildPlatform);
  if (platform === undefined) {
    stop('invalid-platform', `failed to parse platform ${JSON.stringify(text)}`, {
      range: flag.range,
      hint: 'Write os/architecture, such as linux/amd64.',
    });
  }
  return platform;
}

export function findTarget(sketches: readonly StageSketch[], target: string | undefined): number {
  if (target === undefined || target === '') return sketches.length - 1;
  const byName = sketches.findLast((sketch) => stageHasName(sketch, target));
  if (byName !== undefined) return byName.stage.index;
  if (/^\d+$/.test(target) && Number(target) < sketches.length) return Number(target);
  const names = sketches.map((sketch) => sketch.name).join(', ');
  stop('unknown-target', `target stage ${JSON.stringify(target)} could not be found`, {
    hint: `The stages are: ${names}.`,
  });
}

/** The stage that a `--from` flag names, by name or number; undefined: it names an image. */
export function stageNamed(flag: Flag, sketches: readonly StageSketch[]): StageSketch | undefined {
  const name = flag.value ?? '';
  const { range } = flag;
  if (name.includes('$')) {
    stop('unsupported-from', `variable expansion is not supported for --from: ${name}`, {
      range,
      hint: 'Define a stage with FROM, whose name may hold global ARGs, and copy from that.',
    });
  }
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

/** The `--from` flags of COPY instructions, and the like of `RUN --mount`. An empty one is none. */
export function fromFlags(instructions: readonly Instruction[]): readonly Flag[] {
  return instructions.flatMap((instruction) =>
    instruction.kind === 'COPY'
      ? instruction.flags.filter((flag) => flag.name === 'from' && flag.value !== '')
      : instruction.kind === 'RUN'
        ? instruction.options.mounts.flatMap((mount) => mountSource(mount) ?? [])
        : [],
  );
}

/** Ends the build where `stage` copies from itself or from a stage that stands further down. */
export function refuseLater(stage: StageSketch, from: StageSketch, range: SourceRange): void {
  if (from.stage.index < stage.stage.index) return;
  if (from === stage) {
    stop('stage-cycle', `circular dependency detected on stage: ${stage.name}`, {
      range,
      hint: 'A stage cannot copy from itself: the files are there already.',
    });
  }
  stop(
    'stage-not-yet-defined',
    `cannot copy from stage ${JSON.stringify(from.name)}, it needs to be defined before current stage ${JSON.stringify(stage.name)}`,
    { range, hint: 'Move the stage that is copied from further up.' },
  );
}

/**
 * The target, and all stages that it is made from or copies from, each after those that it needs. Ends the build where stages
 * need each other in a circle, or need one that stands further down.
 */
export function neededStages(sketches: readonly StageSketch[], target: number): ReadonlySet<number> {
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
    for (const flag of fromFlags(sketch.instructions)) {
      const other = stageNamed(flag, sketches);
      if (other === undefined) continue;
      visit(other.stage.index, flag.range);
      refuseLater(sketch, other, flag.range);
    }
    path.pop();
    done.add(index);
  };
  visit(target, undefined);
  return done;
}
