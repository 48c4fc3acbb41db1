import { unreachable } from '../core/index.ts';
import type { BuilderName } from './builders.ts';
import { type Summary, summarise } from './statistics.ts';

/** What is asked of varve's time for a whole command. */
export type Limit =
  /** By that of the faster of the others. */
  | { readonly kind: 'ratio'; readonly most: number }
  /** Milliseconds more than a floor. */
  | { readonly kind: 'above'; readonly floor: string; readonly most: number }
  /** So many times a floor. */
  | { readonly kind: 'times'; readonly floor: string; readonly most: number }
  /** Milliseconds. */
  | { readonly kind: 'wall'; readonly most: number }
  /** Milliseconds of each of several steps: the whole command divided by their number. */
  | { readonly kind: 'step'; readonly steps: number; readonly most: number };

/** Times in milliseconds, one of each round. */
export type Times = readonly number[];

export interface Measured {
  readonly builders: readonly { readonly name: BuilderName; readonly ms: Times }[];
  readonly floors: readonly { readonly name: string; readonly ms: Times }[];
}

/** A limit with what was found, in the limit's unit. */
export interface Judgement {
  readonly limit: Limit;
  readonly found: Summary;
  /** The builder or floor that varve's time was compared with, round by round. */
  readonly beside?: string;
}

/** Holds what was measured against the limits. One whose peer or floor is missing is not judged. */
export function judge(measured: Measured, limits: readonly Limit[]): readonly Judgement[] {
  const varve = measured.builders.find(({ name }) => name === 'varve')?.ms;
  if (varve === undefined) throw new Error('varve was not measured');
  const floorOf = (name: string): Times | undefined =>
    measured.floors.find((floor) => floor.name === name)?.ms;
  return limits.flatMap((limit): readonly Judgement[] => {
    switch (limit.kind) {
      case 'ratio':
        return besideFaster(measured, varve).map((beside) => ({ limit, ...beside }));
      case 'above':
      case 'times': {
        const floor = floorOf(limit.floor);
        if (floor === undefined) return [];
        const compare = limit.kind === 'above' ? difference : ratio;
        return [{ limit, found: summarise(pairwise(varve, floor, compare)), beside: limit.floor }];
      }
      case 'wall':
        return [{ limit, found: summarise(varve) }];
      case 'step':
        return [{ limit, found: summarise(varve.map((ms) => ms / limit.steps)) }];
      default:
        return unreachable(limit);
    }
  });
}

/** The ratios to each of the others, the least favourable first. */
export function ratiosOf(
  measured: Measured,
): readonly { readonly builder: string; readonly ratio: Summary }[] {
  const varve = measured.builders.find(({ name }) => name === 'varve')?.ms ?? [];
  return measured.builders
    .filter(({ name }) => name !== 'varve')
    .map(({ name, ms }) => ({ builder: name, ratio: summarise(pairwise(varve, ms, ratio)) }))
    .sort((a, b) => b.ratio.median - a.ratio.median);
}

function besideFaster(measured: Measured, varve: Times): readonly { found: Summary; beside: string }[] {
  if (varve.length === 0) return [];
  return ratiosOf(measured)
    .slice(0, 1)
    .map(({ builder, ratio: found }) => ({ found, beside: builder }));
}

export function isMet({ limit, found }: Judgement): boolean {
  return found.median <= limit.most;
}

const ratio = (a: number, b: number): number => a / b;
const difference = (a: number, b: number): number => a - b;

function pairwise(a: Times, b: Times, compare: (a: number, b: number) => number): readonly number[] {
  return a.map((value, i) => compare(value, b[i] ?? Number.NaN));
}
