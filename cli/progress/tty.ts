import { Box, render, Static, Text } from 'ink';
import { createElement, type ReactElement } from 'react';
import { type BuildEvent, idOf } from '../../core/index.ts';
import type { Style } from '../style.ts';
import { summaryLine } from './plain.ts';
import { failedTail } from './quiet.ts';
import type { OutputStream, ProgressRenderer, RendererOptions } from './renderer.ts';
import { activeRows, finishedRows, headline, type Row } from './rows.ts';
import { type BuildView, EMPTY_VIEW, reduce, stepAt } from './view.ts';

/** Events come by the thousand: the view is drawn at most this often. */
const FRAME_MS = 80;
/** Running clocks move this often while nothing else does. */
const TICK_MS = 200;

/** Draws the layers on a terminal: what is finished scrolls away above, what is going on is redrawn below it. */
export function openTerminalRenderer(options: RendererOptions): ProgressRenderer {
  return new TerminalRenderer(options);
}

class TerminalRenderer implements ProgressRenderer {
  readonly #output: OutputStream;
  readonly #style: Style;
  readonly #now: () => number;
  readonly #instance: ReturnType<typeof render>;
  readonly #ticker: NodeJS.Timeout;
  #frame: NodeJS.Timeout | undefined;
  #view: BuildView = EMPTY_VIEW;
  /** Rows that are finished, in order of finishing: only ever appended to, as Ink's Static needs. */
  #done: Row[] = [];
  /** `now()` when the last event came: what has passed since is added to running clocks. */
  #heardAt: number;

  constructor(options: RendererOptions) {
    this.#output = options.output;
    this.#style = options.style;
    this.#now = options.now;
    this.#heardAt = options.now();
    this.#instance = render(this.#element(), {
      // Ink wants tty.WriteStream and uses of it `write`, `columns`, `rows` and the `resize` event.
      stdout: options.output as NodeJS.WriteStream,
      exitOnCtrlC: false,
      patchConsole: false,
    });
    this.#ticker = setInterval(() => this.#draw(), TICK_MS);
    this.#ticker.unref();
  }

  handle(event: BuildEvent): void {
    this.#view = reduce(this.#view, event);
    this.#heardAt = this.#now();
    if (event.type === 'step.finished') {
      const step = stepAt(this.#view, event.step);
      if (step !== undefined)
        this.#done = [...this.#done, ...finishedRows(step, this.#style), ...tailRows(failedTail(step))];
    }
    if (event.type === 'phase.finished') {
      const phase = this.#view.phases.find((one) => one.id === event.phase);
      if (phase !== undefined) this.#done = [...this.#done, ...finishedRows(phase, this.#style)];
    }
    this.#frame ??= setTimeout(() => this.#draw(), FRAME_MS);
  }

  async finish(): Promise<void> {
    clearInterval(this.#ticker);
    this.#draw();
    this.#instance.unmount();
    await this.#instance.waitUntilExit();
  }

  #draw(): void {
    clearTimeout(this.#frame);
    this.#frame = undefined;
    this.#instance.rerender(this.#element());
  }

  #element(): ReactElement {
    const view = this.#view;
    const finished = view.result !== undefined;
    const at = finished ? view.at : view.at + Math.max(0, this.#now() - this.#heardAt);
    const height = Math.max(4, (this.#output.rows ?? 24) - 1);
    const rows = finished
      ? endRows(view, this.#style)
      : activeRows(view, { at, height: height - 1, style: this.#style });
    const width = this.#output.columns ?? 80;
    const draw = (row: Row, index: number): ReactElement => rowElement(row, index, width);
    return createElement(
      Box,
      { flexDirection: 'column', width },
      // biome-ignore lint/correctness/noChildrenProp: its child is a function, which the type of further arguments refuses
      createElement(Static<Row>, { items: this.#done, children: draw }),
      createElement(Text, { key: 'head', wrap: 'truncate-end' }, headline(view, at, this.#style)),
      ...rows.map(draw),
    );
  }
}

/** What stays below the layers when the build is over. */
function endRows(view: BuildView, style: Style): Row[] {
  const summary = summaryLine(view);
  const rows: Row[] = summary === '' ? [] : [{ left: style.dim(summary) }];
  const image = view.result?.image;
  if (image === undefined) return rows;
  return [
    ...rows,
    { left: `image ${idOf(image)}`, wrap: true },
    ...image.names.map((name) => ({ left: `named ${name}`, wrap: true })),
  ];
}

function tailRows(lines: readonly string[]): Row[] {
  return lines.map((left) => ({ left, wrap: true }));
}

/** Left side cut at the terminal's edge, right side always whole. */
function rowElement(row: Row, index: number, width: number): ReactElement {
  const text = createElement(Text, { wrap: row.wrap === true ? 'wrap' : 'truncate-end' }, row.left);
  const left = createElement(Box, { flexGrow: 1, flexShrink: 1 }, text);
  if (row.right === undefined) return createElement(Box, { key: index, width }, left);
  const right = createElement(Box, { flexShrink: 0, marginLeft: 1 }, createElement(Text, null, row.right));
  return createElement(Box, { key: index, width }, left, right);
}
