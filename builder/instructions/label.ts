import type { KeyValueInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

export function planLabel(instruction: KeyValueInstruction, stage: StageDraft): void {
  const pairs = instruction.pairs.map((pair) => [stage.expand(pair.key), stage.expand(pair.value)] as const);
  stage.config.Labels = { ...stage.config.Labels, ...Object.fromEntries(pairs) };
  stage.note(`LABEL ${pairs.map(([name, value]) => `${name}=${value}`).join(' ')}`);
}
