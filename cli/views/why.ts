import type { BuildReport, StepReport } from '../../cache/index.ts';
import { type Observation, seenPath, USE } from '../../core/index.ts';
import { formatSeconds, safeLine } from '../progress/text.ts';
import { outcomeColor, type Style } from '../style.ts';
import { formatAge, formatTable } from './table.ts';

/** `varve why`: for each step of a build what became of it, why, and how long it took. */
export function renderWhy(
  report: BuildReport,
  options: { readonly style: Style; readonly now: number; readonly step?: number },
): string {
  const { style, now } = options;
  const state = report.ok ? 'succeeded' : 'failed';
  const took = formatSeconds(report.finishedAtMs - report.startedAtMs);
  const target = report.target === '' ? '' : ` (target ${report.target})`;
  const head = [
    `Build ${report.id} of ${safeLine(report.dockerfile)}${target} ${state} in ${took}, ${formatAge(now - report.finishedAtMs)}`,
    ...(report.error === undefined ? [] : [`${style.red('ERROR:')} ${safeLine(report.error)}`]),
  ];
  const steps = report.steps.filter((_, index) => options.step === undefined || index + 1 === options.step);
  const width = Math.max(0, ...report.steps.map((step) => formatSeconds(step.ms).length));
  const lines = steps.flatMap((step) => stepLines(step, report.steps.indexOf(step) + 1, { style, width }));
  return `${[...head, '', ...lines].join('\n')}\n`;
}

/**
 * `npm ci` of stage build is asked for as its number, or as words of its name, where there are several platforms with its own in
 * front; undefined where none or several fit.
 */
export function findStep(report: BuildReport, words: string): number | undefined {
  if (/^[0-9]+$/.test(words)) {
    const number = Number(words);
    return number >= 1 && number <= report.steps.length ? number : undefined;
  }
  const fits = report.steps.flatMap(({ info: { name, platform } }, index) => {
    const full = platform === undefined ? name : `${platform} ${name}`;
    return full.includes(words) ? [index + 1] : [];
  });
  return fits.length === 1 ? fits[0] : undefined;
}

function stepTitle(step: StepReport): string {
  const stage = /^[0-9]+$/.test(step.info.stage) ? `stage-${step.info.stage}` : step.info.stage;
  const platform = step.info.platform === undefined ? '' : `${step.info.platform} `;
  return `[${platform}${stage}] ${shorten(safeLine(step.info.name))}`;
}

function stepLines(step: StepReport, number: number, how: { style: Style; width: number }): string[] {
  const { style, width } = how;
  const word = outcomeColor(step.outcome, style)(step.outcome.padEnd(8));
  const time = formatSeconds(step.ms).padStart(width);
  const line = `${String(number).padStart(3)}  ${word}  ${time}  ${stepTitle(step)}`;
  return [line, `${' '.repeat(17 + width)}${style.dim(safeLine(step.reason))}`];
}

function shorten(text: string): string {
  return text.length <= 72 ? text : `${text.slice(0, 71)}…`;
}

/** `varve why --list`: the builds that can be asked about. */
export function renderBuilds(reports: readonly BuildReport[], now: number): string {
  const rows = reports.map((report) => {
    const counts = new Map<string, number>();
    for (const { outcome } of report.steps) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
    const outcomes = [...counts].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
    const age = formatAge(now - report.finishedAtMs);
    return [report.id, age, report.ok ? 'ok' : 'failed', safeLine(report.dockerfile), outcomes];
  });
  return formatTable(['BUILD', 'FINISHED', 'STATE', 'DOCKERFILE', 'STEPS'], rows);
}

const USE_WORDS = [
  [USE.CONTENT, 'content'],
  [USE.LISTING, 'listing'],
  [USE.TARGET, 'target'],
  [USE.ATTRIBUTES, 'stat'],
] as const;

/** One observed path with words for what was used of it; `seen`: only whether it is there, what it is, and who may use it. */
export function plainRead({ path, uses, by }: Observation): {
  readonly path: string;
  readonly uses: readonly string[];
  readonly by?: string;
} {
  const words = USE_WORDS.flatMap(([use, word]) => ((uses & use) === 0 ? [] : [word]));
  return {
    path: `/${seenPath(path)}`,
    uses: words.length === 0 ? ['seen'] : words,
    ...(by === undefined ? {} : { by }),
  };
}

/** `varve why STEP --reads`: what a step looked at, in path order. */
export function renderReads(observations: readonly Observation[]): string {
  const rows = observations.map((observation) => {
    const { path, uses, by = '' } = plainRead(observation);
    return [uses.join(','), safeLine(by), safeLine(path)];
  });
  return formatTable(['USED', 'BY', 'PATH'], rows);
}
