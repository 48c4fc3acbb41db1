import { type BuildEvent, idOf, type StepOutcome } from '../../core/index.ts';
import type { OutputStream, ProgressRenderer, RendererOptions } from './renderer.ts';
import { formatSeconds, formatSize, safeLine } from './text.ts';
import {
  type BuildView,
  countOutcomes,
  EMPTY_VIEW,
  phaseTitle,
  reduce,
  type StepView,
  splitLines,
  stepAt,
} from './view.ts';

/**
 * Lines in BuildKit's plain form, each with the number of the work that it belongs to:
 *
 *     #5 [build 2/4] RUN npm ci
 *     #5 0.412 added 300 packages
 *     #5 DONE 1.2s (ran: package-lock.json changed)
 *
 *     #6 [build 3/4] COPY . .
 *     #6 CACHED (exact: same command, same parent, same files)
 *
 * Where work runs side by side, the number's title is said again before its next line.
 */
export class PlainRenderer implements ProgressRenderer {
  readonly #output: OutputStream;
  readonly #clean: (line: string) => string;
  #view: BuildView = EMPTY_VIEW;
  /** The number that the last line belonged to. */
  #current: number | undefined;
  readonly #ended = new Set<number>();

  constructor(options: Pick<RendererOptions, 'output'>) {
    this.#output = options.output;
    // A pipe or a file gets what the step wrote; a terminal only what cannot change its state.
    this.#clean = options.output.isTTY === true ? safeLine : (line) => line.replace(/\r$/, '');
  }

  handle(event: BuildEvent): void {
    const before = this.#view;
    this.#view = reduce(before, event);
    switch (event.type) {
      case 'build.started':
        this.#line(`#0 building ${safeLine(event.dockerfile)} (build ${event.id})`);
        return;
      case 'phase.started':
      case 'phase.finished':
        this.#phase(event.phase, event.type === 'phase.finished');
        return;
      case 'step.started': {
        const step = stepAt(this.#view, event.step);
        if (step?.number !== undefined) this.#enter(step.number, step.title);
        return;
      }
      case 'step.log': {
        const step = stepAt(before, event.step);
        if (step === undefined) return;
        const { lines } = splitLines(step.open[event.stream], event.text);
        for (const line of lines) this.#log(step, event.at, line);
        return;
      }
      case 'step.finished':
        this.#stepFinished(event, stepAt(before, event.step));
        return;
      case 'build.finished':
        this.#finished(event);
        return;
      case 'build.planned':
      case 'phase.progress':
      case 'warning':
        return;
    }
  }

  async finish(): Promise<void> {}

  #phase(id: string, finished: boolean): void {
    const phase = this.#view.phases.findLast((one) => one.id === id);
    if (phase === undefined) return;
    this.#enter(phase.number, phaseTitle(phase));
    if (!finished || phase.finished === undefined) return;
    const { progress } = phase;
    if (progress?.unit === 'bytes' && progress.current > 0) {
      this.#line(`#${phase.number} transferred ${formatSize(progress.current)}`);
    }
    if (phase.finished.detail !== undefined)
      this.#line(`#${phase.number} ${safeLine(phase.finished.detail)}`);
    this.#end(phase.number, `DONE ${formatSeconds(phase.finished.at - phase.since)}`);
  }

  #stepFinished(event: Extract<BuildEvent, { type: 'step.finished' }>, before: StepView | undefined): void {
    const step = stepAt(this.#view, event.step);
    if (step?.number === undefined || before === undefined) return;
    this.#enter(step.number, step.title);
    for (const rest of [before.open.stdout, before.open.stderr]) {
      if (rest !== '') this.#log(before, event.at, rest);
    }
    this.#end(step.number, verdict(event.outcome, safeLine(event.reason), event.ms));
  }

  #finished(event: Extract<BuildEvent, { type: 'build.finished' }>): void {
    this.#current = undefined;
    const summary = summaryLine(this.#view);
    this.#line('');
    if (event.image !== undefined) {
      this.#line(`image ${idOf(event.image)}`);
      for (const name of event.image.names) this.#line(`named ${name}`);
    }
    if (summary !== '') this.#line(summary);
  }

  #log(step: StepView, at: number, line: string): void {
    if (step.number === undefined) return;
    this.#enter(step.number, step.title);
    const since = step.state.kind === 'running' ? step.state.since : at;
    this.#line(`#${step.number} ${(Math.max(0, at - since) / 1000).toFixed(3)} ${this.#clean(line)}`);
  }

  /** Makes `number` the one that lines belong to. */
  #enter(number: number, title: string): void {
    if (this.#current === number) return;
    if (this.#current !== undefined && !this.#ended.has(this.#current)) this.#line(`#${this.#current} ...`);
    this.#line('');
    this.#line(`#${number} ${title}`);
    this.#current = number;
  }

  #end(number: number, text: string): void {
    this.#line(`#${number} ${text}`);
    this.#ended.add(number);
  }

  #line(text: string): void {
    this.#output.write(`${text}\n`);
  }
}

function verdict(outcome: StepOutcome, reason: string, ms: number): string {
  const why = reason === '' ? '' : `: ${reason}`;
  switch (outcome) {
    case 'exact':
    case 'observed':
      return `CACHED (${outcome}${why})`;
    case 'ran':
      return `DONE ${formatSeconds(ms)} (ran${why})`;
    case 'failed':
      return `ERROR${why}`;
  }
}

/** `5 steps: 3 exact, 1 observed, 1 ran; 2.3s`, or nothing where there were no steps. */
export function summaryLine(view: BuildView): string {
  const counts = countOutcomes(view);
  const words = (['exact', 'observed', 'ran', 'failed'] as const).flatMap((outcome) =>
    counts[outcome] === 0 ? [] : [`${counts[outcome]} ${outcome}`],
  );
  const steps = view.steps.length;
  if (steps === 0) return '';
  const what = words.length === 0 ? 'none done' : words.join(', ');
  return `${steps} step${steps === 1 ? '' : 's'}: ${what}; ${formatSeconds(view.at)}`;
}
