import type { BuildFailure } from '../../core/index.ts';
import { BuildStop } from '../stop.ts';

/** The failure that `work` ends the build with. @throws Error where it does not. */
export async function stopped(work: () => unknown): Promise<BuildFailure> {
  try {
    await work();
  } catch (error) {
    if (error instanceof BuildStop) return error.failure;
    throw error;
  }
  throw new Error('the build was not ended');
}
