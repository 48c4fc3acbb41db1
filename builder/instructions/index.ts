import { unreachable } from '../../core/index.ts';
import type { Instruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { planArg } from './arg.ts';
import { planCommand } from './cmd.ts';
import { planCopy } from './copy.ts';
import { planEnv } from './env.ts';
import { planExpose } from './expose.ts';
import { planHealthcheck } from './healthcheck.ts';
import { planLabel } from './label.ts';
import { planMaintainer } from './maintainer.ts';
import { planOnbuild } from './onbuild.ts';
import { planRun } from './run.ts';
import { planShell } from './shell.ts';
import { planStopSignal } from './stopsignal.ts';
import { planUser } from './user.ts';
import { planVolume } from './volume.ts';
import { planWorkdir } from './workdir.ts';

/** Carries one instruction into the draft of its stage, after its checks. */
export function planInstruction(instruction: Instruction, stage: StageDraft): void {
  stage.checks.instruction(instruction, stage);
  switch (instruction.kind) {
    case 'ARG':
      planArg(instruction, stage);
      break;
    case 'CMD':
    case 'ENTRYPOINT':
      planCommand(instruction, stage);
      break;
    case 'COPY':
    case 'ADD':
      planCopy(instruction, stage);
      break;
    case 'ENV':
      planEnv(instruction, stage);
      break;
    case 'EXPOSE':
      planExpose(instruction, stage);
      break;
    case 'HEALTHCHECK':
      planHealthcheck(instruction, stage);
      break;
    case 'LABEL':
      planLabel(instruction, stage);
      break;
    case 'MAINTAINER':
      planMaintainer(instruction, stage);
      break;
    case 'ONBUILD':
      planOnbuild(instruction, stage);
      break;
    case 'RUN':
      planRun(instruction, stage);
      break;
    case 'SHELL':
      planShell(instruction, stage);
      break;
    case 'STOPSIGNAL':
      planStopSignal(instruction, stage);
      break;
    case 'USER':
      planUser(instruction, stage);
      break;
    case 'VOLUME':
      planVolume(instruction, stage);
      break;
    case 'WORKDIR':
      planWorkdir(instruction, stage);
      break;
    default:
      unreachable(instruction);
  }
}
