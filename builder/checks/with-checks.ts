import type { BuildFailure, Diagnostic } from '../../core/index.ts';
import type { Dockerfile } from '../../parser/index.ts';
import { type LoadedDockerfile, readDockerfile } from '../dockerfile.ts';
import { BuildStop } from '../stop.ts';
import { createLinter, type Linter } from './linter.ts';
import { checkStages, checkSyntax } from './syntax.ts';

/** What came of a Dockerfile, and what is to be said of it either way. */
export type Checked<T> = { readonly warnings: readonly Diagnostic[] } & (
  | { readonly value: T; readonly failure?: undefined }
  | { readonly failure: BuildFailure }
);

/**
 * Reads a Dockerfile, carries out the checks that need only its text, and does `work` with it, which carries out the others.
 * What ends the build (BuildStop), in `work` too, becomes the failure; so do warnings where they are asked to.
 */
export async function withChecks<T>(
  loaded: LoadedDockerfile,
  buildArgs: Readonly<Record<string, string>>,
  work: (dockerfile: Dockerfile, linter: Linter) => Promise<T>,
): Promise<Checked<T>> {
  const { dockerfile, partial, failure, warnings } = readDockerfile(loaded);
  let linter: Linter | undefined;
  const told = (): readonly Diagnostic[] => [...warnings, ...(linter?.warnings ?? [])];
  try {
    linter = createLinter((dockerfile ?? partial)?.directives.check, buildArgs);
    if (dockerfile === undefined) {
      if (partial !== undefined) checkSyntax(partial, linter);
      return { warnings: told(), failure };
    }
    checkSyntax(dockerfile, linter);
    checkStages(dockerfile, linter);
    const value = await work(dockerfile, linter);
    const violation = linter.failure;
    return violation === undefined ? { warnings: told(), value } : { warnings: told(), failure: violation };
  } catch (error) {
    if (!(error instanceof BuildStop)) throw error;
    return { warnings: told(), failure: error.failure };
  }
}
