import type { WordInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

/** `USER name|uid[:group|gid]`; a word that expands to nothing means root. */
export function planUser(instruction: WordInstruction, stage: StageDraft): void {
  const user = stage.expand(instruction.word);
  if (user === '') delete stage.config.User;
  else stage.config.User = user;
  stage.note(`USER ${user}`);
}
