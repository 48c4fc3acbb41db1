import { type StepOutcome, unreachable } from '../core/index.ts';

/** Colours as functions, so that "no colour" is just another style. */
export interface Style {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
  readonly red: (text: string) => string;
  readonly green: (text: string) => string;
  readonly yellow: (text: string) => string;
  readonly cyan: (text: string) => string;
}

const same = (text: string): string => text;
const sgr = (on: number, off: number) => (text: string) => `\x1b[${on}m${text}\x1b[${off}m`;

export const NO_STYLE: Style = {
  bold: same,
  dim: same,
  red: same,
  green: same,
  yellow: same,
  cyan: same,
};

/** The eight standard colours (ECMA-48, SGR), which follow the terminal's own theme. */
export const COLOR_STYLE: Style = {
  bold: sgr(1, 22),
  dim: sgr(2, 22),
  red: sgr(31, 39),
  green: sgr(32, 39),
  yellow: sgr(33, 39),
  cyan: sgr(36, 39),
};

/** Colours on a terminal that can show them, unless NO_COLOR is set (https://no-color.org). */
export function styleFor(
  stream: { readonly isTTY?: boolean },
  env: Readonly<Record<string, string | undefined>>,
): Style {
  const wanted = (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return stream.isTTY === true && wanted ? COLOR_STYLE : NO_STYLE;
}

/** The colour that an outcome's word has everywhere. */
export function outcomeColor(outcome: StepOutcome, style: Style): (text: string) => string {
  switch (outcome) {
    case 'exact':
    case 'observed':
      return style.green;
    case 'ran':
      return style.yellow;
    case 'failed':
      return style.red;
    default:
      return unreachable(outcome);
  }
}
