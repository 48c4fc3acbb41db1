import type { BuildEvent } from '../../core/index.ts';
import type { OutputStream, ProgressRenderer, RendererOptions } from './renderer.ts';
import { safeLine } from './text.ts';
import { type BuildView, EMPTY_VIEW, reduce, type StepView } from './view.ts';

/** Says nothing while all goes well; of a step that failed, its last lines. */
export class QuietRenderer implements ProgressRenderer {
  readonly #output: OutputStream;
  #view: BuildView = EMPTY_VIEW;

  constructor(options: Pick<RendererOptions, 'output'>) {
    this.#output = options.output;
  }

  handle(event: BuildEvent): void {
    this.#view = reduce(this.#view, event);
  }

  async finish(): Promise<void> {
    for (const step of this.#view.steps) {
      for (const line of failedTail(step)) this.#output.write(`${line}\n`);
    }
  }
}

/** The last lines of a step that failed, framed and titled as BuildKit frames them; nothing for any other step. */
export function failedTail(step: StepView): readonly string[] {
  if (step.state.kind !== 'finished' || step.state.outcome !== 'failed') return [];
  const open = [step.open.stdout, step.open.stderr].filter((line) => line !== '');
  const lines = [...step.tail, ...open].map(safeLine);
  if (lines.length === 0) return [];
  return ['------', ` > ${step.title}:`, ...lines, '------'];
}
