import { imagePath } from '../../core/index.ts';
import type { WordInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

/** `WORKDIR path`: relative to the one before; the folder is made where it is missing, owned by the stage's user. */
export function planWorkdir(instruction: WordInstruction, stage: StageDraft): void {
  const text = stage.expand(instruction.word);
  if (text === '') stop('empty-workdir', 'WORKDIR requires a path', { range: instruction.range });
  const path = imagePath(text, stage.workdir);
  stage.config.WorkingDir = `/${path}`;
  if (path === '') {
    stage.note('WORKDIR /');
    return;
  }
  stage.addStep(instruction, { kind: 'WORKDIR', path, user: stage.user }, `WORKDIR /${path}`);
}
