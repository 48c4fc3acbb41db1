import { constants } from 'node:os';
import type { WordInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

/** STOPSIGNAL takes `SIGTERM`, `TERM` or a number, which need not be one that this machine knows. */
export function planStopSignal(instruction: WordInstruction, stage: StageDraft): void {
  const signal = stage.expand(instruction.word);
  const name = signal.toUpperCase().replace(/^SIG/, '');
  const isNumber = /^[+-]?\d+$/.test(signal);
  const known = isNumber ? Number(signal) !== 0 : name === 'CLD' || `SIG${name}` in constants.signals;
  // As far as they are counted from either end, which meet in the middle.
  const realTime = /^RTM(?:IN(?:\+(?:[1-9]|1[0-5]))?|AX(?:-(?:[1-9]|1[0-4]))?)$/.test(name);
  if (!known && !realTime) {
    stop('unknown-signal', `invalid signal: ${signal}`, {
      range: instruction.word.range,
      hint: 'Name a signal of signal(7), such as SIGTERM, or its number.',
    });
  }
  stage.config.StopSignal = signal;
  stage.note(`STOPSIGNAL ${signal}`);
}
