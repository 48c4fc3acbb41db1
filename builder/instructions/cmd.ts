import type { Command, CommandInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

/** CMD and ENTRYPOINT: the argument list that the image starts with. ENTRYPOINT drops a CMD that the base brought. */
export function planCommand(instruction: CommandInstruction, stage: StageDraft): void {
  const args = argumentList(instruction.command, stage);
  if (instruction.kind === 'CMD') {
    stage.config.Cmd = args;
    stage.config.ArgsEscaped = true;
    stage.hasCmd = true;
  } else {
    stage.config.Entrypoint = args;
    if (!stage.hasCmd) delete stage.config.Cmd;
  }
  stage.note(`${instruction.kind} [${args.map((arg) => JSON.stringify(arg)).join(' ')}]`);
}

function argumentList(command: Command, stage: StageDraft): readonly string[] {
  return command.form === 'exec' ? command.args : stage.withShell(command.text);
}
