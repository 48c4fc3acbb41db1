import type { KeyValueInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

/** `ENV name=value …`: all values are expanded with the variables as they were before the instruction. */
export function planEnv(instruction: KeyValueInstruction, stage: StageDraft): void {
  const pairs = instruction.pairs.map((pair) => [stage.expand(pair.key), stage.expand(pair.value)] as const);
  for (const [name, value] of pairs) {
    stage.setEnvironment(name, value);
    stage.variables.set(name, value);
  }
  stage.note(`ENV ${pairs.map(([name, value]) => `${name}=${value}`).join(' ')}`);
}
