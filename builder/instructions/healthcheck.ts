import type { HealthConfig } from '../../core/index.ts';
import type { HealthcheckInstruction } from '../../parser/index.ts';
import type { StageDraft } from '../stage-draft.ts';

/** `HEALTHCHECK [flags] CMD command`, or `HEALTHCHECK NONE`, which takes away what the base brought. */
export function planHealthcheck(instruction: HealthcheckInstruction, stage: StageDraft): void {
  const health = healthOf(instruction);
  stage.config.Healthcheck = health;
  stage.note(`HEALTHCHECK ${shown(health)}`);
}

function healthOf({ command, options }: HealthcheckInstruction): HealthConfig {
  if (command === undefined) return { Test: ['NONE'] };
  const { interval, timeout, startPeriod, startInterval, retries } = options;
  return {
    Test: command.form === 'exec' ? ['CMD', ...command.args] : ['CMD-SHELL', command.text],
    ...(interval === undefined ? {} : { Interval: interval }),
    ...(timeout === undefined ? {} : { Timeout: timeout }),
    ...(startPeriod === undefined ? {} : { StartPeriod: startPeriod }),
    ...(startInterval === undefined ? {} : { StartInterval: startInterval }),
    ...(retries === undefined ? {} : { Retries: retries }),
  };
}

/** As BuildKit writes it into the history. */
function shown({
  Test = [],
  Interval = 0,
  Timeout = 0,
  StartPeriod = 0,
  StartInterval = 0,
  Retries = 0,
}: HealthConfig): string {
  const [interval, timeout, startPeriod, startInterval] = [Interval, Timeout, StartPeriod, StartInterval].map(
    formatDuration,
  );
  const times = `Interval:${interval} Timeout:${timeout} StartPeriod:${startPeriod} StartInterval:${startInterval}`;
  return `{Test:[${Test.join(' ')}] ${times} Retries:${Retries}}`;
}

/** Nanoseconds as Go prints a duration: `1h0m0s`, `1.5s`, `20ms`. */
function formatDuration(nanoseconds: number): string {
  if (nanoseconds < 1e9) return nanoseconds === 0 ? '0s' : `${nanoseconds / 1e6}ms`;
  const whole = Math.floor(nanoseconds / 1e9);
  const seconds = (whole % 60) + (nanoseconds % 1e9) / 1e9;
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`;
}
