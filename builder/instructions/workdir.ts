import { imagePath } from '../../core/index.ts';
import type { WordInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

/**
 * `WORKDIR path`: relative to the one before, which stays where the path expands to nothing; the folder is made where it is
 * missing, owned by the stage's user. The image keeps an absolute path as it is written, as BuildKit does.
 */
export function planWorkdir(instruction: WordInstruction, stage: StageDraft): void {
  const text = stage.expand(instruction.word);
  const written = text === '' ? (stage.config.WorkingDir ?? '') : text;
  const path = imagePath(written, stage.workdir);
  const shown = written.startsWith('/') ? written : `/${path}`;
  stage.config.WorkingDir = shown;
  if (path === '') stage.note(`WORKDIR ${shown}`);
  else stage.addStep(instruction, { kind: 'WORKDIR', path, user: stage.user }, `WORKDIR ${shown}`);
}
