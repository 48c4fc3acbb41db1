import {
  type BuildFailure,
  type Diagnostic,
  digestOf,
  parseReference,
  type SourceRange,
} from '../../core/index.ts';
import type { Dockerfile } from '../../parser/index.ts';
import { type LoadedDockerfile, readDockerfile } from '../dockerfile.ts';
import { draftStages, type FindImage, type PlanInput } from '../plan.ts';
import { BuildStop } from '../stop.ts';
import { createLinter, type Linter } from './linter.ts';
import { type Outline, outlineOf } from './outline.ts';
import { ruleNamed } from './rules.ts';
import { listTargets, type Target } from './targets.ts';
import { withChecks } from './with-checks.ts';

/** What can be asked of a Dockerfile instead of building it: `--call`. */
export type CallKind = 'check' | 'outline' | 'targets';

/** The answer to a call, as plain data. */
export type CallAnswer = {
  /** The text that all ranges point into. */
  readonly dockerfile: LoadedDockerfile;
  /** Images whose configuration could not be looked up: what depends on it was left out. */
  readonly unknownImages: readonly UnknownImage[];
} & (
  | {
      readonly kind: 'check';
      /** What the rules found, in order of place. */
      readonly warnings: readonly Diagnostic[];
      /** Other things to know, which a build warns of too. */
      readonly notes: readonly Diagnostic[];
      /** Why a build would fail before its first step. */
      readonly failure?: BuildFailure;
    }
  | { readonly kind: 'outline'; readonly outline: Outline }
  | { readonly kind: 'targets'; readonly targets: readonly Target[] }
);

export interface UnknownImage {
  readonly name: string;
  readonly reason: string;
  readonly range: SourceRange;
}

export interface CallInput {
  readonly loaded: LoadedDockerfile;
  readonly buildArgs: Readonly<Record<string, string>>;
  /** What the stages are planned from, for each platform: one at least. May end the build (BuildStop). */
  readonly plans: (dockerfile: Dockerfile, linter: Linter) => readonly PlanInput[];
  readonly findImage: FindImage;
}

/** Answers a call. Ends the build (BuildStop) where there is no answer; a check has always one. */
export async function answerCall(kind: CallKind, input: CallInput): Promise<CallAnswer> {
  const unknownImages: UnknownImage[] = [];
  const findImage = tolerant(input.findImage, (image) => {
    if (unknownImages.every(({ name }) => name !== image.name)) unknownImages.push(image);
  });
  const about = { dockerfile: input.loaded, unknownImages };
  if (kind === 'check') {
    const { warnings, failure } = await withChecks(
      input.loaded,
      input.buildArgs,
      async (dockerfile, linter) => {
        for (const plan of input.plans(dockerfile, linter)) await draftStages(plan, findImage);
      },
    );
    const rules = warnings.filter(({ code }) => ruleNamed(code) !== undefined);
    const notes = warnings.filter(({ code }) => ruleNamed(code) === undefined);
    return { ...about, kind, warnings: rules, notes, ...(failure === undefined ? {} : { failure }) };
  }
  const { dockerfile, failure } = readDockerfile(input.loaded);
  if (dockerfile === undefined) throw new BuildStop(failure);
  if (kind === 'targets') return { ...about, kind, targets: listTargets(dockerfile) };
  const [plan] = input.plans(dockerfile, createLinter(dockerfile.directives.check, input.buildArgs));
  if (plan === undefined) throw new Error('there is no platform to plan for');
  return { ...about, kind, outline: outlineOf(plan, await draftStages(plan, findImage)) };
}

/** That there is no such image is a fault of the Dockerfile; that its registry does not answer is none. */
const FAULTS = new Set(['image-unknown', 'no-platform', 'invalid-reference']);

/** Stands in for images that cannot be looked up now. */
function tolerant(findImage: FindImage, onUnknown: (image: UnknownImage) => unknown): FindImage {
  return async (wanted, platform, range) => {
    try {
      return await findImage(wanted, platform, range);
    } catch (error) {
      const { name } = wanted;
      const reference = parseReference(name);
      if (!(error instanceof BuildStop) || FAULTS.has(error.failure.code) || !reference.ok) throw error;
      onUnknown({ name, reason: error.failure.message, range });
      return {
        use: { reference: reference.value, manifestDigest: digestOf(`unknown ${name}`), range },
        config: { ...platform, rootfs: { type: 'layers', diff_ids: [] } },
        unknown: true,
      };
    }
  };
}
