import { type Platform, parseReference } from '../../core/index.ts';
import { parsePlatform } from '../../image/index.ts';
import { expandWord, type Stage } from '../../parser/index.ts';
import { globalArgs, type StagesInput } from '../stages.ts';
import { BuildStop } from '../stop.ts';
import type { Linter } from './linter.ts';
import { RULES } from './rules.ts';
import { didYouMean } from './suggest.ts';

/** The checks of the FROMs of all stages, with the values that global ARGs have in this build. */
export function checkFroms(input: StagesInput, globals: ReadonlyMap<string, string>, linter: Linter): void {
  const { directives } = input.dockerfile;
  const declared = input.dockerfile.globalArgs.flatMap(({ args }) => args.map(({ name }) => name.text));
  const known = new Set([...globals.keys(), ...declared]);
  const options = {
    escape: directives.escape,
    lookup: (name: string): string | undefined => globals.get(name),
  };
  for (const stage of input.dockerfile.stages) {
    const { from } = stage;
    const image = expandWord(from.image.text, options);
    if (image.ok) reportUndeclared(stage, image.value.used, { known, linter });
    const written = from.options.platform?.text ?? '';
    if (written === '') continue;
    const platform = expandWord(written, options);
    if (!platform.ok) continue;
    const { text, used } = platform.value;
    reportUndeclared(stage, used, { known, linter });
    const [only] = used;
    if (used.size === 1 && only === 'TARGETPLATFORM' && text === globals.get(only)) {
      linter.report(RULES.redundantTargetPlatform, from, {
        message: `Setting platform to predefined ${written} in FROM is redundant as this is the default behavior`,
        hint: `remove --platform=${written}`,
      });
    }
    if (used.size === 0) checkConstant(stage, text, { linter, local: input.buildPlatform });
  }
}

function reportUndeclared(
  { from }: Stage,
  used: ReadonlySet<string>,
  { known, linter }: { readonly known: ReadonlySet<string>; readonly linter: Linter },
): void {
  for (const name of used) {
    if (known.has(name)) continue;
    const near = didYouMean(name, known);
    const suggestion = near === undefined ? '' : ` (did you mean ${near}?)`;
    linter.report(RULES.undefinedArgInFrom, from, {
      message: `FROM argument '${name}' is not declared${suggestion}`,
      ...(near === undefined ? { hint: `write ARG ${name}=<default> above the first FROM` } : {}),
    });
  }
}

/** A stage whose name tells the platform is meant for it. */
function checkConstant(
  { from }: Stage,
  text: string,
  { linter, local }: { readonly linter: Linter; readonly local: Platform },
): void {
  const platform = parsePlatform(text, local);
  if (platform === undefined) return;
  const name = from.as?.text.toLowerCase() ?? '';
  if (name.includes(platform.os) || name.includes(platform.architecture)) return;
  linter.report(RULES.fromPlatformFlagConstDisallowed, from, {
    message: `FROM --platform flag should not use constant value ${JSON.stringify(text)}`,
  });
}

/** Would each FROM name an image with nothing given on the command line? */
export function checkDefaults(input: StagesInput, linter: Linter): void {
  const globals = defaultArgs(input);
  if (globals === undefined) return;
  const { directives, stages } = input.dockerfile;
  for (const { from } of stages) {
    const name = expandWord(from.image.text, {
      escape: directives.escape,
      lookup: (arg) => globals.get(arg),
    });
    if (!name.ok) return;
    if (parseReference(name.value.text).ok) continue;
    linter.report(RULES.invalidDefaultArgInFrom, from, {
      message: `Default value for ARG ${from.image.text} results in empty or invalid base image name`,
    });
  }
}

/** Undefined where an ARG's default cannot be expanded: the build itself will tell. */
function defaultArgs(input: StagesInput): ReadonlyMap<string, string> | undefined {
  try {
    return globalArgs({ ...input, request: { ...input.request, buildArgs: {} } }, new Set());
  } catch (error) {
    if (error instanceof BuildStop) return undefined;
    throw error;
  }
}
