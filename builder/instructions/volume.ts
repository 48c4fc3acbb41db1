import type { WordsInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

export function planVolume(instruction: WordsInstruction, stage: StageDraft): void {
  const volumes = instruction.words.map((word) => {
    const volume = stage.expand(word);
    if (volume === '')
      stop('empty-volume', 'VOLUME specified can not be an empty string', { range: word.range });
    return volume;
  });
  stage.config.Volumes = {
    ...stage.config.Volumes,
    ...Object.fromEntries(volumes.map((volume) => [volume, {}])),
  };
  stage.note(`VOLUME [${volumes.join(' ')}]`);
}
