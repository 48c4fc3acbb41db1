import type { Writable } from 'node:stream';
import type { BuildEvent } from '../../core/index.ts';
import type { Style } from '../style.ts';

export type ProgressMode = 'auto' | 'tty' | 'plain' | 'rawjson' | 'quiet';

/** A stream that may be a terminal. */
export type OutputStream = Writable & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};

/**
 * Draws one build. `handle` gets every event in order; `finish` leaves the terminal as it should stay and resolves when
 * all is written. Nothing is drawn after that.
 */
export interface ProgressRenderer {
  handle(event: BuildEvent): void;
  finish(): Promise<void>;
}

export interface RendererOptions {
  /** Where progress goes: standard error, as Docker's. */
  readonly output: OutputStream;
  readonly style: Style;
  /** For redrawing running clocks between events. */
  readonly now: () => number;
}

/**
 * The mode to draw in: without a terminal, on one that cannot move its cursor, and in continuous integration (whose
 * logs keep every redraw), `tty` becomes `plain`.
 */
export function chooseMode(
  asked: ProgressMode,
  output: { readonly isTTY?: boolean },
  env: Readonly<Record<string, string | undefined>>,
): Exclude<ProgressMode, 'auto'> {
  if (asked !== 'auto' && asked !== 'tty') return asked;
  const inCi = env['CI'] !== undefined && env['CI'] !== '0' && env['CI'] !== 'false';
  return output.isTTY === true && env['TERM'] !== 'dumb' && !inCi ? 'tty' : 'plain';
}

/** The renderer of `mode`. Ink and React are loaded only for `tty`. */
export async function openRenderer(
  mode: Exclude<ProgressMode, 'auto'>,
  options: RendererOptions,
): Promise<ProgressRenderer> {
  switch (mode) {
    case 'quiet': {
      const { QuietRenderer } = await import('./quiet.ts');
      return new QuietRenderer(options);
    }
    case 'rawjson': {
      const { output } = options;
      return {
        handle: (event) => void output.write(`${JSON.stringify(event)}\n`),
        finish: async () => {},
      };
    }
    case 'plain': {
      const { PlainRenderer } = await import('./plain.ts');
      return new PlainRenderer(options);
    }
    case 'tty': {
      const { openTerminalRenderer } = await import('./tty.ts');
      return openTerminalRenderer(options);
    }
  }
}
