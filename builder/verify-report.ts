import { mkdir, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import type { Action } from '../cache/index.ts';
import {
  type DiffId,
  type Digest,
  digestHex,
  type HostPath,
  joinHost,
  type Observation,
  type StepKey,
} from '../core/index.ts';
import type { DiffDifference } from '../snapshotter/index.ts';
import type { Base } from './standing.ts';

/** A wrong hit with all that is needed to reproduce it: plain JSON. Values of hidden variables are not part of an action. */
export interface HitReport {
  readonly step: string;
  readonly key: StepKey;
  readonly action: Action;
  readonly inputs: readonly { readonly name: string; readonly digest: Digest }[];
  /** The diffs that it stood on, lowest first: they are in the store until it is pruned. */
  readonly parent: readonly DiffId[];
  readonly base: Base;
  /** The first path at which a fresh result differs from what was reused. */
  readonly difference: DiffDifference;
  /** What the step had looked at when it was recorded, and what it looked at in each fresh run. */
  readonly observedThen: readonly Observation[];
  readonly observedNow: readonly (readonly Observation[])[];
}

/** Writes `report` into `folder`, with the kernel's version beside it. @returns the file's path. */
export async function writeHitReport(
  folder: HostPath,
  report: HitReport,
  at: { readonly nowMs: number; readonly version: string },
): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const file = joinHost(folder, `wrong-hit-${digestHex(report.key).slice(0, 12)}-${at.nowMs}.json`);
  const content = { varve: at.version, kernel: release(), writtenAtMs: at.nowMs, ...report };
  await writeFile(file, `${JSON.stringify(content, undefined, 2)}\n`, { mode: 0o600 });
  return file;
}
