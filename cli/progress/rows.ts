import { outcomeColor, type Style } from '../style.ts';
import { formatSeconds, formatSize, safeLine } from './text.ts';
import { type BuildView, type PhaseView, phaseTitle, type StepView } from './view.ts';

/** One line of the terminal view: the left side may be cut, the right side may not. */
export interface Row {
  readonly left: string;
  readonly right?: string;
  /** Broken into several lines instead of cut. */
  readonly wrap?: boolean;
}

/** Width of the first column: the longest word is `observed`. */
const MARK = 9;

/** The line on top of what is going on: `[+] Building 2.3s (3/5) Dockerfile`. */
export function headline(view: BuildView, at: number, style: Style): string {
  const done = view.steps.filter(({ state }) => state.kind === 'finished').length;
  const word =
    view.result === undefined ? 'Building' : view.result.ok ? style.green('Finished') : style.red('Failed');
  const steps = view.steps.length === 0 ? '' : ` (${done}/${view.steps.length})`;
  return `${style.bold('[+]')} ${word} ${formatSeconds(at)}${steps} ${safeLine(view.dockerfile)}`.trimEnd();
}

/** What a finished step or phase leaves on the screen. */
export function finishedRows(one: StepView | PhaseView, style: Style): Row[] {
  if ('since' in one) {
    const detail = one.finished?.detail === undefined ? '' : `  ${style.dim(safeLine(one.finished.detail))}`;
    const ms = (one.finished?.at ?? one.since) - one.since;
    return [{ left: `${mark('done', style.dim)}${phaseTitle(one)}${detail}`, right: formatSeconds(ms) }];
  }
  if (one.state.kind !== 'finished') return [];
  const { outcome, reason, ms } = one.state;
  const why = reason === '' ? '' : `  ${style.dim(safeLine(reason))}`;
  return [
    { left: `${mark(outcome, outcomeColor(outcome, style))}${one.title}${why}`, right: formatSeconds(ms) },
  ];
}

/**
 * What is going on, in at most `height` rows: running steps with their last line, running phases, then as many waiting
 * steps as there is room for.
 */
export function activeRows(
  view: BuildView,
  options: { readonly at: number; readonly height: number; readonly style: Style },
): Row[] {
  const { at, height, style } = options;
  const running = view.steps.filter(({ state }) => state.kind === 'running');
  const waiting = view.steps.filter(({ state }) => state.kind === 'waiting');
  const withLog = running.length * 2 <= height - 2;
  const rows = [
    ...view.phases.filter((phase) => phase.finished === undefined).map((phase) => phaseRow(phase, at, style)),
    ...running.flatMap((step) => runningRows(step, at, { style, withLog })),
  ];
  const room = height - rows.length;
  const shown = waiting.length <= room ? waiting : waiting.slice(0, Math.max(0, room - 1));
  rows.push(...shown.map(({ title }) => ({ left: style.dim(`${mark('waiting', style.dim)}${title}`) })));
  const hidden = waiting.length - shown.length;
  if (hidden > 0 && room > 0) rows.push({ left: style.dim(`${mark('', style.dim)}and ${hidden} more`) });
  return rows.slice(0, height);
}

function phaseRow(phase: PhaseView, at: number, style: Style): Row {
  return {
    left: `${mark('running', style.cyan)}${phaseTitle(phase)}${progressText(phase, style)}`,
    right: formatSeconds(at - phase.since),
  };
}

function progressText(phase: PhaseView, style: Style): string {
  if (phase.progress === undefined) return '';
  const { current, total, unit } = phase.progress;
  const text = (value: number): string => (unit === 'bytes' ? formatSize(value) : `${value} ${unit}`);
  return `  ${style.dim(total === undefined ? text(current) : `${text(current)} / ${text(total)}`)}`;
}

function runningRows(step: StepView, at: number, how: { style: Style; withLog: boolean }): Row[] {
  const since = step.state.kind === 'running' ? step.state.since : at;
  const row = { left: `${mark('running', how.style.cyan)}${step.title}`, right: formatSeconds(at - since) };
  const last = [step.open.stderr, step.open.stdout, step.tail.at(-1) ?? '']
    .map(safeLine)
    .find((line) => line.trim() !== '');
  if (!how.withLog || last === undefined) return [row];
  return [row, { left: how.style.dim(`${mark('', how.style.dim)}${last}`) }];
}

function mark(word: string, color: (text: string) => string): string {
  return ` ${color(word)}${' '.repeat(Math.max(1, MARK - word.length))}`;
}
