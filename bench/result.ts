import type { Machine } from './machine.ts';
import type { Summary } from './statistics.ts';

/** What one run of a workload gave; `results/WORKLOAD.json` holds it with the machine and the day. */
export type Result = TracingResult | RebuildResult | ObservationsResult;

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
    case 'observations':
      return result.sets.every(({ bytes, paths }) => bytes / paths < result.limit);
  }
}
