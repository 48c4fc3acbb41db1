import type { BuilderName } from './builders.ts';
import { isMet, type Judgement, type Times } from './judge.ts';
import type { Machine } from './machine.ts';
import type { UsedMemory } from './memory.ts';
import type { Summary } from './statistics.ts';

/** What one run of a workload gave; `results/WORKLOAD.json` holds it with the machine and the day. */
export type Result = TracingResult | RebuildResult | BesideResult | GrowthResult | ObservationsResult;

export interface StoredResult {
  /** ISO 8601. */
  readonly measuredAt: string;
  readonly machine: Machine;
  readonly result: Result;
}

/** One build whose measured step ran. */
export interface StepTime {
  /** From the start of the process to its end. */
  readonly wallMs: number;
  /** The measured step alone, as varve reports it. */
  readonly stepMs: number;
  /** User and system time of varve and of all that it started. */
  readonly cpuMs: number;
}

/** A step that ran traced and untraced, in pairs. */
export interface TracingResult {
  readonly kind: 'tracing';
  readonly workload: string;
  readonly title: string;
  /** Draws the order within each pair. */
  readonly seed: number;
  readonly pairs: readonly { readonly traced: StepTime; readonly untraced: StepTime }[];
  /** Traced by untraced, pair by pair. */
  readonly wall: Summary;
  readonly step: Summary;
  readonly cpu: Summary;
  /** The highest median ratio of wall times that is accepted. */
  readonly limit: number;
}

/** A project that was built, then edited and built again, by several builders in turn. */
export interface RebuildResult {
  readonly kind: 'rebuild';
  readonly workload: string;
  readonly title: string;
  readonly seed: number;
  readonly builders: readonly BuilderTimes[];
  /** varve by the other builder, edit by edit. */
  readonly ratios: readonly { readonly builder: string; readonly ratio: Summary }[];
  readonly limit: number;
}

export type BuilderTimes =
  | {
      readonly kind: 'measured';
      readonly builder: string;
      readonly version: string;
      readonly coldMs: number;
      readonly rebuildMs: readonly number[];
    }
  | { readonly kind: 'unavailable'; readonly builder: string; readonly reason: string };

/** A whole command of several builders, and floors, in rounds. */
export interface BesideResult {
  readonly kind: 'beside';
  readonly workload: string;
  readonly title: string;
  /** Draws the order within each round. */
  readonly seed: number;
  readonly builders: readonly { readonly name: BuilderName; readonly version: string; readonly ms: Times }[];
  readonly floors: readonly { readonly name: string; readonly ms: Times }[];
  readonly missing: readonly { readonly name: BuilderName; readonly reason: string }[];
  /** varve by each of the others, round by round. */
  readonly ratios: readonly { readonly builder: string; readonly ratio: Summary }[];
  readonly judgements: readonly Judgement[];
}

export type GrowthUnit = 'files' | 'MiB';

export interface GrowthPoint {
  readonly size: number;
  readonly builds: readonly ({ readonly name: 'cold' | 'unchanged' } & UsedMemory)[];
}

/** Time and memory of varve for layers that grow. */
export interface GrowthResult {
  readonly kind: 'growth';
  readonly workload: string;
  readonly title: string;
  readonly unit: GrowthUnit;
  readonly points: readonly GrowthPoint[];
  /** Sizes that the disk had no room for. */
  readonly skipped: readonly number[];
  /** The highest power of the size that time may grow by from the last but one size to the last. */
  readonly limit: number;
  readonly mostMiB: number;
}

/** How much the database holds of what steps looked at. */
export interface ObservationsResult {
  readonly kind: 'observations';
  readonly workload: string;
  readonly title: string;
  readonly sets: readonly {
    readonly name: string;
    readonly paths: number;
    /** Of all rows and index entries of the sets. */
    readonly bytes: number;
  }[];
  /** Bytes a path that are accepted. */
  readonly limit: number;
}

/** True where every figure is within its limit; what could not be measured counts for neither side. */
export function isWithinLimit(result: Result): boolean {
  switch (result.kind) {
    case 'tracing':
      return result.wall.median <= result.limit;
    case 'rebuild':
      return result.ratios.every(({ ratio }) => ratio.median <= result.limit);
    case 'beside':
      return result.judgements.every(isMet);
    case 'growth':
      return isSmall(result) && exponentsOf(result).every(({ exponent }) => exponent <= result.limit);
    case 'observations':
      return result.sets.every(({ bytes, paths }) => bytes / paths < result.limit);
  }
}

/** What a quick run exits with where all was carried out, but without a builder that does not start on this machine. */
export const BUILDER_MISSING = 77;

/** Each builder that could not take part, once, with the reason. */
export function missingOf(results: readonly Result[]): readonly string[] {
  const all = results.flatMap((result) => {
    if (result.kind === 'beside') return result.missing.map(({ name, reason }) => `${name}: ${reason}`);
    if (result.kind !== 'rebuild') return [];
    return result.builders.flatMap((one) =>
      one.kind === 'unavailable' ? [`${one.builder}: ${one.reason}`] : [],
    );
  });
  return [...new Set(all)];
}

/** True where no build of any size held more memory than is accepted. */
export function isSmall({ points, mostMiB }: GrowthResult): boolean {
  return points.every(({ builds }) => builds.every(({ peakMiB }) => peakMiB <= mostMiB));
}

/** The power of the size by which the time of each build grew from the last but one size to the last: 1 is linear. */
export function exponentsOf({
  points,
}: GrowthResult): readonly { readonly name: string; readonly exponent: number }[] {
  const [before, last] = points.slice(-2);
  if (before === undefined || last === undefined) return [];
  return last.builds.flatMap(({ name, ms }) => {
    const earlier = before.builds.find((build) => build.name === name);
    if (earlier === undefined) return [];
    return [{ name, exponent: Math.log(ms / earlier.ms) / Math.log(last.size / before.size) }];
  });
}
