import { expect, test } from 'vitest';
import type { Action, RecordOrigin, RepeatableStep, StepRecord } from '../cache/index.ts';
import {
  type Change,
  type CommittedSnapshot,
  type DiffId,
  digestOf,
  type HostPath,
  imagePath,
  type StepKey,
} from '../core/index.ts';
import type { DiffContent } from '../snapshotter/index.ts';
import { NO_BASE, type Standing } from './standing.ts';
import { FakeStore } from './testing/solver-rig.ts';
import { type ReusedStep, type VerifyParts, verifyStep } from './verify.ts';
import type { HitReport } from './verify-report.ts';

const HERE = digestOf('here') as DiffId;
const THERE = digestOf('there') as DiffId;
const RESULT = digestOf('result') as DiffId;
const ACTION: Action = { version: 1, kind: 'RUN', definition: {} };

const leaving = (name: string): readonly Change[] => [{ kind: 'whiteout', path: imagePath(name) }];
const content = (name: string): DiffContent => ({
  changes: leaving(name),
  folder: '/' as HostPath,
  ran: { fromMs: 0, toMs: 0 },
});

interface Case {
  /** What each run in turn leaves here, and where the record was made. */
  readonly here: readonly string[];
  readonly there?: string;
  readonly reused?: string;
  readonly origin?: RecordOrigin;
  readonly kind?: Action['kind'];
  /** What the stored files make when they are packed. */
  readonly packed?: DiffId;
}

async function verify(given: Case) {
  const store = new FakeStore();
  const forgotten: StepKey[] = [];
  const removed: DiffId[] = [];
  const reports: HitReport[] = [];
  const record = (key: string, origin: RecordOrigin): StepRecord => ({
    key: key as StepKey,
    origin,
    diffId: RESULT,
    layerBytes: 1,
    createdAtMs: 0,
    ranAtMs: 0,
    durationMs: 0,
  });
  const repeatable = (key: StepKey): RepeatableStep => ({
    record: record(key, key === 'own' ? (given.origin ?? 'observed') : 'ran'),
    title: 'RUN x',
    action: ACTION,
    standsOn: { diffs: key === 'own' ? [HERE] : [THERE], base: 0 },
  });
  const parts: VerifyParts = {
    cache: {
      repeatable,
      earlier: () => [record('own', given.origin ?? 'observed'), record('first', 'ran')],
      reads: () => [],
      hold: () => {},
      forget: (key: StepKey) => void forgotten.push(key),
    },
    snapshotter: {
      find: async (diffIds: readonly DiffId[]) =>
        diffIds.reduce<CommittedSnapshot | undefined>((below, id) => store.committed(below, id), undefined),
      remove: async (diffIds: readonly DiffId[]) => void removed.push(...diffIds),
    },
    packLayer: async () => ({ diffId: given.packed ?? RESULT, size: 1 }),
    layerTable: { get: async () => ({}) },
    now: () => 0,
    writeReport: async (report: HitReport) => {
      reports.push(report);
      return '/report.json';
    },
  };
  const runs = [...given.here];
  const on: Standing = {
    snapshot: undefined,
    committed: Promise.resolve(undefined),
    way: 'way' as StepKey,
    base: NO_BASE,
  };
  const step: ReusedStep = {
    name: 'RUN x',
    key: 'own' as StepKey,
    prepared: {
      action: { ...ACTION, kind: given.kind ?? 'RUN' },
      inputs: [],
      execute: async (standing) => {
        const left = standing === on ? runs.shift() : given.there;
        if (left === undefined) throw new Error('it cannot run');
        return {
          frozen: store.frozen(standing, left),
          seen: { kind: 'observed', observations: [] },
        };
      },
    },
    on,
    reused: content(given.reused ?? 'old'),
    diffId: RESULT,
    noise: [],
  };
  const verdict = await verifyStep(step, parts, new AbortController().signal);
  return { verdict, forgotten, removed, reports };
}

test('a step that leaves the same keeps its record', async () => {
  const { verdict, forgotten } = await verify({ here: ['old'] });
  expect(verdict.kind).toBe('same');
  expect(forgotten).toEqual([]);
});

test('two runs that differ from each other tell nothing of the cache', async () => {
  const { verdict, forgotten } = await verify({ here: ['a', 'b'] });
  expect(verdict.kind).toBe('unsteady');
  expect(forgotten).toEqual([]);
});

test('what differs here and not where it was recorded is a wrong hit: reported and dropped', async () => {
  const { verdict, forgotten, reports } = await verify({ here: ['new', 'new', 'new'], there: 'old' });
  expect(verdict).toMatchObject({ kind: 'wrong', report: '/report.json', difference: { path: 'new' } });
  expect(forgotten).toEqual(['own']);
  expect(reports).toMatchObject([{ step: 'RUN x', key: 'own', observedNow: [[], [], [], []] }]);
});

test('what time moved on between two runs here and the run there is no wrong hit', async () => {
  const { verdict, forgotten, reports } = await verify({
    here: ['monday', 'monday', 'tuesday'],
    there: 'tuesday',
  });
  expect(verdict.kind).toBe('unsteady');
  expect(forgotten).toEqual([]);
  expect(reports).toEqual([]);
});

test('what differs everywhere has drifted with time, network or machine, and is dropped', async () => {
  const { verdict, forgotten, reports } = await verify({ here: ['new', 'new'], there: 'new' });
  expect(verdict.kind).toBe('drifted');
  expect(forgotten).toEqual(['own']);
  expect(reports).toEqual([]);
});

test('a record of a run on this very parent cannot be a wrong hit', async () => {
  const { verdict } = await verify({ here: ['new', 'new', 'new'], origin: 'ran' });
  expect(verdict.kind).toBe('drifted');
  const flickering = await verify({ here: ['new', 'new', 'old', 'new'], origin: 'ran' });
  expect(flickering.verdict.kind).toBe('unsteady');
});

test('a COPY depends on files alone: what differs is a wrong hit', async () => {
  const { verdict } = await verify({ here: ['new', 'new'], kind: 'COPY', origin: 'ran' });
  expect(verdict.kind).toBe('wrong');
});

test('stored files that make another layer are damaged, and go with the record', async () => {
  const { verdict, forgotten, removed } = await verify({ here: ['new', 'new'], packed: HERE });
  expect(verdict.kind).toBe('damaged');
  expect(forgotten).toEqual(['own']);
  expect(removed).toEqual([RESULT]);
});

test('a step that cannot run is told, and keeps its record', async () => {
  const { verdict, forgotten } = await verify({ here: [] });
  expect(verdict).toEqual({ kind: 'failed', message: 'it cannot run' });
  expect(forgotten).toEqual([]);
});
