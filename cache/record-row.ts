import { crc32 } from 'node:zlib';
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

/** The columns that a checksum is taken of: what never changes of a record, and decides what is reused. */
const CHECKED = [
  'key',
  'parent',
  'diff_id',
  'layer_bytes',
  'created_at',
  'ran_at',
  'duration_ms',
  'origin',
  'stands_on',
] as const;

/** CRC-32 of a row of `records`: SQLite would hand on what a disk has changed in it. */
export function checksumOf(row: Row): number {
  return crc32(JSON.stringify(CHECKED.map((column) => row[column] ?? null)));
}

/** @throws DamagedRow */
function checkRow(row: Row, wanted: StepKey | undefined): void {
  // An entry of an index that a disk has changed leads to the row of another record.
  if (wanted !== undefined && row['key'] !== wanted) throw new DamagedRow('a record of another key');
  if (row['checksum'] !== null && row['checksum'] !== checksumOf(row))
    throw new DamagedRow('a record with a wrong checksum');
}

/** The record in a row of `records`, which is to be that of key `wanted`. @throws DamagedRow */
export function recordOf(row: Row, wanted?: StepKey): StepRecord {
  checkRow(row, wanted);
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
export function repeatableOf(row: Row, wanted: StepKey): RepeatableStep | undefined {
  if (row['stands_on'] === null) return undefined;
  const standsOn = jsonOf<StandsOn>(row, 'stands_on');
  const { diffs, base } = standsOn;
  if (!Array.isArray(diffs) || !diffs.every(isDigest) || !Number.isSafeInteger(base)) {
    throw new DamagedRow('no list of diffs');
  }
  const { action } = jsonOf<{ readonly action: Action }>(row, 'preimage');
  return { record: recordOf(row, wanted), title: textOf(row, 'title'), action, standsOn };
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
