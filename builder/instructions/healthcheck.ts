import type { HealthConfig } from '../../core/index.ts';
import { type Flag, type HealthcheckInstruction, parseDuration } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

export function planHealthcheck(instruction: HealthcheckInstruction, stage: StageDraft): void {
  const { command } = instruction;
  if (command === undefined) {
    stage.config.Healthcheck = { Test: ['NONE'] };
    stage.note('HEALTHCHECK NONE');
    return;
  }
  const test = command.form === 'exec' ? ['CMD', ...command.args] : ['CMD-SHELL', command.text];
  const settings: { -readonly [K in keyof HealthConfig]: HealthConfig[K] } = { Test: test };
  for (const flag of instruction.flags) {
    if (flag.name === 'interval') settings.Interval = duration(flag);
    else if (flag.name === 'timeout') settings.Timeout = duration(flag);
    else if (flag.name === 'start-period') settings.StartPeriod = duration(flag);
    else if (flag.name === 'start-interval') settings.StartInterval = duration(flag);
    else if (flag.name === 'retries') settings.Retries = retries(flag);
  }
  stage.config.Healthcheck = settings;
  stage.note(instruction.source);
}

/** Docker refuses durations between 0 and 1 ms, which are mostly a forgotten unit. */
function duration(flag: Flag): number {
  const value = parseDuration(flag.value ?? '');
  if (value === undefined || (value !== 0 && value < 1e6)) {
    stop('invalid-duration', `invalid --${flag.name}: ${JSON.stringify(flag.value ?? '')}`, {
      range: flag.range,
      hint: 'Write a number with a unit, at least 1ms: 30s, 1m30s.',
    });
  }
  return value;
}

function retries(flag: Flag): number {
  const value = Number(flag.value);
  if (!/^\d+$/.test(flag.value ?? '') || value < 0) {
    stop(
      'invalid-retries',
      `--retries must be a whole number of at least 0, not ${JSON.stringify(flag.value ?? '')}`,
      {
        range: flag.range,
      },
    );
  }
  return value;
}
