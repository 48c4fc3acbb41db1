import type { WordInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

export function planMaintainer(instruction: WordInstruction, stage: StageDraft): void {
  stage.author = instruction.word.text;
  stage.note(`MAINTAINER ${instruction.word.text}`);
}
