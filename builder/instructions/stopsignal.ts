import { constants } from 'node:os';
import type { WordInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

/** STOPSIGNAL takes `SIGTERM`, `TERM` or a number. */
export function planStopSignal(instruction: WordInstruction, stage: StageDraft): void {
  const signal = stage.expand(instruction.word);
  const name = signal.toUpperCase().replace(/^SIG/, '');
  const known = /^\d+$/.test(signal)
    ? Number(signal) >= 1 && Number(signal) <= 64
    : `SIG${name}` in constants.signals;
  const realTime = /^RTM(IN(\+\d+)?|AX(-\d+)?)$/.test(name);
  if (!known && !realTime) {
    stop('unknown-signal', `invalid signal: ${signal}`, {
      range: instruction.word.range,
      hint: 'Name a signal of signal(7), such as SIGTERM, or its number.',
    });
  }
  stage.config.StopSignal = signal;
  stage.note(`STOPSIGNAL ${signal}`);
}
