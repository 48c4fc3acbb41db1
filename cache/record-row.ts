import { type DiffId, isDigest, type SnapshotId, type StepKey, type StepKind } from '../core/index.ts';
import type {
  Action,
  Canonical,
  RecordOrigin,
  RecordUsage,
  RepeatableStep,
  StandsOn,
  StepRecord,
} from './contract.ts';
import { DamagedRow, digestOfRow, jsonOf, numberOf, optionalTextOf, type Row, textOf } from './database.ts';

/** The record in a row of `records`. @throws DamagedRow */
export function recordOf(row: Row): StepRecord {
  const diffId = diffIdOf(row);
  return {
    key: textOf(row, 'key') as StepKey,
    origin: originOf(row),
    ...(diffId === undefined ? {} : { diffId, layerBytes: numberOf(row, 'layer_bytes') }),
    createdAtMs: numberOf(row, 'created_at'),
    ranAtMs: numberOf(row, 'ran_at'),
    durationMs: numberOf(row, 'duration_ms'),
  };
}

function originOf(row: Row): RecordOrigin {
  const origin = textOf(row, 'origin');
  if (origin === 'ran' || origin === 'observed' || origin === 'adopted') return origin;
  throw new DamagedRow(`a record of unknown origin ${origin}`);
}

export function usageOf(row: Row): RecordUsage {
  const parent = optionalTextOf(row, 'parent');
  return {
    ...recordOf(row),
    ...(parent === undefined ? {} : { parent: parent as SnapshotId }),
    kind: textOf(row, 'kind') as StepKind,
    title: textOf(row, 'title'),
    lastUsedAtMs: numberOf(row, 'last_used_at'),
    uses: numberOf(row, 'uses'),
  };
}

/** The step of a row; undefined where it is not known what it stood on. @throws DamagedRow */
export function repeatableOf(row: Row): RepeatableStep | undefined {
  if (row['stands_on'] === null) return undefined;
  const standsOn = jsonOf<StandsOn>(row, 'stands_on');
  const { diffs, base } = standsOn;
  if (!Array.isArray(diffs) || !diffs.every(isDigest) || !Number.isSafeInteger(base)) {
    throw new DamagedRow('no list of diffs');
  }
  const { action } = jsonOf<{ readonly action: Action }>(row, 'preimage');
  return { record: recordOf(row), title: textOf(row, 'title'), action, standsOn };
}

function diffIdOf(row: Row): DiffId | undefined {
  return row['diff_id'] === null ? undefined : (digestOfRow(row, 'diff_id') as DiffId);
}

/** The first line of what an action does, from its definition. */
export function titleOf(action: Action): string {
  const { command, sources, destination } = action.definition;
  const words = [action.kind, ...wordsOf(command), ...wordsOf(sources), ...wordsOf(destination)].join(' ');
  return words.split('\n', 1)[0] ?? action.kind;
}

function wordsOf(value: Canonical | undefined): readonly string[] {
  if (typeof value === 'string') return [value];
  if (!Array.isArray(value)) return [];
  return value.filter((item: Canonical) => typeof item === 'string');
}
