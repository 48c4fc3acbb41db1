import type { ShellInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

/** SHELL: the argument list in front of shell-form commands. */
export function planShell(instruction: ShellInstruction, stage: StageDraft): void {
  stage.config.Shell = instruction.args;
  stage.note(`SHELL [${instruction.args.join(' ')}]`);
}
