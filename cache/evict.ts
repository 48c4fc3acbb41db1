import { chainId, type DiffId, type SnapshotId, type StepKey } from '../core/index.ts';
import type { PruneRequest, RecordUsage } from './contract.ts';

/** The smallest step that a double still tells apart at today's time in milliseconds, with room to spare. */
const TICK_MS = 2 ** -10;

export interface EvictionInput extends PruneRequest {
  readonly records: readonly RecordUsage[];
  /** Diffs that running builds hold: never removed. */
  readonly held: ReadonlySet<DiffId>;
}

/** What goes together: a diff with all records that name it, or one record that has no diff. */
export interface Victim {
  readonly diffId?: DiffId;
  readonly keys: readonly StepKey[];
  readonly bytes: number;
}

interface Group {
  readonly diffId: DiffId | undefined;
  readonly keys: StepKey[];
  readonly bytes: number;
  readonly stored: boolean;
  lastUsedAtMs: number;
}

/**
 * Chooses what to remove, least recently used first, until the diffs outside of images fit the limit; whatever was last used
 * before `usedBeforeMs` goes in any case. A step counts as used when a step on top of it was used: what
 * stands on an evicted step could not be found again. A diff without a record counts as used when it was made.
 * Nothing held and nothing of an image is chosen.
 */
export function selectVictims(input: EvictionInput): readonly Victim[] {
  const { held, images, limitBytes, usedBeforeMs = Number.NEGATIVE_INFINITY } = input;
  const groups = groupByDiff(input);
  let total = 0;
  for (const { diffId, bytes } of groups) {
    if (diffId === undefined || !images.has(diffId)) total += bytes;
  }
  const victims: Victim[] = [];
  for (const group of groups.sort(byUse)) {
    const { diffId, keys, bytes } = group;
    if (diffId !== undefined && (held.has(diffId) || images.has(diffId))) continue;
    const old = group.lastUsedAtMs < usedBeforeMs;
    const frees = bytes > 0 && total > limitBytes;
    if (!old && !frees) continue;
    total -= bytes;
    victims.push({ ...(diffId === undefined || !group.stored ? {} : { diffId }), keys, bytes });
  }
  return victims;
}

function byUse(a: Group, b: Group): number {
  return a.lastUsedAtMs - b.lastUsedAtMs || b.bytes - a.bytes;
}

function groupByDiff({ stored, records }: EvictionInput): Group[] {
  const groups = new Map<string, Group>();
  for (const { diffId, bytes, createdAtMs } of stored) {
    groups.set(diffId, { diffId, keys: [], bytes, stored: true, lastUsedAtMs: createdAtMs });
  }
  const used = lastUseThroughChildren(records);
  for (const record of records) {
    const name = record.diffId ?? record.key;
    let group = groups.get(name);
    if (group === undefined) {
      group = { diffId: record.diffId, keys: [], bytes: 0, stored: false, lastUsedAtMs: 0 };
      groups.set(name, group);
    }
    const lastUsedAtMs = used.get(record.key) ?? record.lastUsedAtMs;
    group.lastUsedAtMs = group.keys.length === 0 ? lastUsedAtMs : Math.max(group.lastUsedAtMs, lastUsedAtMs);
    group.keys.push(record.key);
  }
  return [...groups.values()];
}

/** For every record, when it or anything that stands on it was last used. */
function lastUseThroughChildren(records: readonly RecordUsage[]): ReadonlyMap<StepKey, number> {
  const children = new Map<SnapshotId, RecordUsage[]>();
  for (const record of records) {
    if (record.parent === undefined) continue;
    const siblings = children.get(record.parent);
    if (siblings === undefined) children.set(record.parent, [record]);
    else siblings.push(record);
  }
  const used = new Map<StepKey, number>();
  // Iterative, since stacks of steps may be deeper than the call stack. A ChainID holds its parent's, so there are no cycles.
  for (const root of records) {
    const todo = [root];
    while (todo.length > 0) {
      const record = todo[todo.length - 1];
      if (record === undefined) break;
      const standing = childrenOf(record, children);
      const unknown = standing.filter((child) => !used.has(child.key));
      if (unknown.length > 0 && !used.has(record.key)) {
        todo.push(...unknown);
        continue;
      }
      todo.pop();
      // Barely later than what stands on it: of steps that were used together, the topmost goes first.
      const descendants = standing.map((child) => (used.get(child.key) ?? 0) + TICK_MS);
      used.set(record.key, Math.max(record.lastUsedAtMs, ...descendants));
    }
  }
  return used;
}

function childrenOf(
  record: RecordUsage,
  children: ReadonlyMap<SnapshotId, readonly RecordUsage[]>,
): readonly RecordUsage[] {
  // A step without a diff leaves its parent as it is: what stands there stands on the parent.
  if (record.diffId === undefined) return [];
  return children.get(chainId(record.parent, record.diffId)) ?? [];
}
