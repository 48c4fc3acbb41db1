import type { OnbuildInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

/**
 * Keeps the trigger in the image's configuration, not in its history; it is carried out when another Dockerfile, or a later
 * stage, builds `FROM` this image.
 */
export function planOnbuild(instruction: OnbuildInstruction, stage: StageDraft): void {
  stage.config.OnBuild = [...(stage.config.OnBuild ?? []), instruction.trigger];
}
