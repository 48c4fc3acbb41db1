import type { SourceRange } from '../../core/index.ts';
import type { Dockerfile } from '../../parser/index.ts';
import { describe } from './descriptions.ts';

/** A stage that `--target` can name. Words are as written: nothing is expanded. */
export interface Target {
  /** In lower case; absent where the stage has none. */
  readonly name?: string;
  readonly description?: string;
  /** Built where no target is named. */
  readonly isDefault: boolean;
  readonly base: string;
  readonly platform?: string;
  readonly range: SourceRange;
}

/** All stages, in order. */
export function listTargets({ stages }: Dockerfile): readonly Target[] {
  return stages.map(({ from, index }) => {
    const name = from.as?.text.toLowerCase();
    const description = name === undefined ? undefined : describe(name, from);
    const platform = from.options.platform?.text;
    return {
      ...(name === undefined ? {} : { name }),
      ...(description === undefined ? {} : { description }),
      isDefault: index === stages.length - 1,
      base: from.image.text,
      ...(platform === undefined ? {} : { platform }),
      range: from.range,
    };
  });
}
