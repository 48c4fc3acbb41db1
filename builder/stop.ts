import type { BuildFailure, SourceRange } from '../core/index.ts';

/**
 * Carries a {@link BuildFailure} from deep inside a build to the room's border, where `build` turns it into a `Result`;
 * it never leaves the room.
 */
export class BuildStop extends Error {
  override readonly name = 'BuildStop';
  readonly failure: BuildFailure;

  constructor(failure: BuildFailure) {
    super(failure.message);
    this.failure = failure;
  }
}

export interface StopDetails {
  readonly range?: SourceRange;
  readonly hint?: string;
  readonly exitCode?: number;
}

/** Ends the build with a message for the user. */
export function stop(code: string, message: string, details: StopDetails = {}): never {
  throw new BuildStop({ kind: 'build-failure', code, message, ...details });
}
