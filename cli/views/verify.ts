import { unreachable } from '../../core/index.ts';
import type { VerifiedStep } from '../engine-contract.ts';
import { safeLine } from '../progress/text.ts';
import type { Style } from '../style.ts';

/** What running reused steps again showed: a line for each that did not leave the same, and the count. */
export function renderVerified(steps: readonly VerifiedStep[], style: Style): string {
  const lines = steps.flatMap((step) => linesOf(step, style));
  const same = steps.filter(({ verdict }) => verdict.kind === 'same').length;
  const ran = steps.filter(({ verdict }) => verdict.kind !== 'damaged-store').length;
  const count = ran === 1 ? '1 reused step was' : `${ran} reused steps were`;
  return `${[...lines, `${count} run again: ${same} left the same`].join('\n')}\n`;
}

/** Did any step turn out to have been reused wrongly, by the cache's fault or the disk's? */
export function isAnyWrong(steps: readonly VerifiedStep[]): boolean {
  return steps.some(({ verdict }) => /^(?:wrong|damaged|damaged-store)$/.test(verdict.kind));
}

function linesOf({ name, verdict }: VerifiedStep, style: Style): readonly string[] {
  const title = safeLine(name);
  switch (verdict.kind) {
    case 'same':
      return [];
    case 'unsteady': {
      const { path, what } = verdict.difference;
      return [
        `${style.yellow('unsteady:')} ${title}`,
        `  two runs on the same files differ by themselves: /${safeLine(path)} (${what}). Take such files out with --cache-noise`,
      ];
    }
    case 'drifted': {
      const { path, what } = verdict.difference;
      return [
        `${style.yellow('drifted:')} ${title}`,
        `  it leaves another /${safeLine(path)} now (${what}), wherever it runs: time, network or machine changed. The record is dropped`,
      ];
    }
    case 'damaged': {
      const { path, what } = verdict.difference;
      return [
        `${style.red('DAMAGED:')} ${title}`,
        `  the stored files are not those that it left: /${safeLine(path)} (${what}). They are dropped: build again`,
      ];
    }
    case 'damaged-store':
      return [
        `${style.red('DAMAGED:')} ${title}`,
        '  the disk has other bytes than were stored. They are dropped: pull or build again',
      ];
    case 'wrong': {
      const { path, what } = verdict.difference;
      return [
        `${style.red('WRONG HIT:')} ${title}`,
        `  /${safeLine(path)} differs (${what}). The record is dropped: build again. Please report ${verdict.report}`,
      ];
    }
    case 'failed':
      return [`${style.yellow('not verified:')} ${title}`, `  ${safeLine(verdict.message)}`];
    default:
      return unreachable(verdict);
  }
}
