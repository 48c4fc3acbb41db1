import type { WordInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

export function planUser(instruction: WordInstruction, stage: StageDraft): void {
  const user = stage.expand(instruction.word);
  if (user === '') stop('empty-user', 'USER requires a user name or number', { range: instruction.range });
  stage.config.User = user;
  stage.note(`USER ${user}`);
}
