import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type DiffId,
  digestOf,
  type HostPath,
  type ImagePath,
  type Observation,
  type ObservedTree,
  type SnapshotId,
  type StepKey,
  USE,
} from '../core/index.ts';
import type { Action, ObservedLookup, ObservedQuery, PrunableCache, StepRecord } from './contract.ts';
import { FakeTree, type Lying } from './fixtures/observed-tree.ts';
import { openStepCache } from './store.ts';

let root: HostPath;
let nowMs = 1_700_000_000_000;
const opened: PrunableCache[] = [];
const warnings: string[] = [];

beforeEach(async () => {
  root = (await mkdtemp(join(tmpdir(), 'varve-observed-'))) as HostPath;
  warnings.length = 0;
});

afterEach(async () => {
  for (const cache of opened.splice(0)) cache.close();
  await rm(root, { recursive: true });
});

function open(session = `session-${opened.length}`): PrunableCache {
  const cache = openStepCache({
    root,
    session,
    clock: () => nowMs++,
    onWarning: (message) => warnings.push(message),
  });
  opened.push(cache);
  return cache;
}

const ACTION: Action = { version: 1, kind: 'RUN', definition: { command: 'npm ci', base: 'sha256:1' } };

function query(tree: ObservedTree, change: Partial<ObservedQuery> = {}): ObservedQuery {
  return { action: ACTION, inputs: [], tree, ...change };
}

function saw(path: string, uses: number, by?: string): Observation {
  return { path: path as ImagePath, uses, ...(by === undefined ? {} : { by }) };
}

const LOOKED = USE.METADATA | USE.ATTRIBUTES;

/** Records a step with a diff of this name. */
async function record(cache: PrunableCache, name: string): Promise<StepRecord> {
  return cache.record(
    { action: ACTION, parent: digestOf(name) as string as SnapshotId, inputs: [], slot: 's' },
    { layer: { diffId: digestOf(`diff ${name}`) as DiffId, size: 1 }, durationMs: 1 },
  );
}

/** Records a step that saw this of a tree, and returns its key. */
async function observed(
  cache: PrunableCache,
  lying: Readonly<Record<string, Lying>>,
  observations: readonly Observation[],
): Promise<StepKey> {
  const { key } = await record(cache, JSON.stringify([lying, observations]));
  await cache.observe(key, query(new FakeTree(lying)), { observations, parentDiffs: [] });
  return key;
}

async function look(cache: PrunableCache, lying: Readonly<Record<string, Lying>>): Promise<ObservedLookup> {
  return cache.lookupObserved(query(new FakeTree(lying)));
}

const APP: Readonly<Record<string, Lying>> = {
  '': { type: 'dir' },
  app: { type: 'dir' },
  'app/package.json': { content: '{}' },
  'app/package-lock.json': { content: '{"lock":1}' },
  'app/src': { type: 'dir' },
  'app/src/main.js': { content: 'main' },
};

const NPM: readonly Observation[] = [
  saw('app/package-lock.json', LOOKED | USE.CONTENT, 'npm'),
  saw('app', LOOKED, 'sh'),
  saw('app/.npmrc', LOOKED, 'npm'),
  saw('app/package.json', LOOKED | USE.CONTENT, 'npm'),
];

describe('lookupObserved', () => {
  it('knows nothing before anything was observed, then hits while the observed paths are what they were', async () => {
    const cache = open();
    expect(await look(cache, APP)).toEqual({ kind: 'miss' });
    const parentDiffs = [digestOf('one') as DiffId, digestOf('two') as DiffId];
    const made = await record(cache, 'a');
    await cache.observe(made.key, query(new FakeTree(APP)), { observations: NPM, parentDiffs });
    const changed = { ...APP, 'app/src/main.js': { content: 'edited' }, 'app/README.md': {} };
    const hit = { kind: 'hit', record: made, paths: 4, parentDiffs };
    expect(await look(cache, changed)).toEqual(hit);
    expect(await look(open(), changed)).toEqual(hit);
    expect(cache.usage()).toMatchObject([{ uses: 2 }]);
  });

  it('tells the first path that differs, what changed in it, who used it, and how many more differ', async () => {
    const cache = open();
    await observed(cache, APP, NPM);
    const lock = { ...APP, 'app/package-lock.json': { content: '{"lock":1,"more":2}' } };
    expect(await look(cache, lock)).toEqual({
      kind: 'miss',
      why: {
        reason: 'observed-changed',
        path: 'app/package-lock.json',
        change: 'content',
        by: 'npm',
        others: 0,
      },
    });
    expect(await look(open(), { ...lock, 'app/.npmrc': {}, app: { type: 'dir', uid: 1 } })).toEqual({
      kind: 'miss',
      why: { reason: 'observed-changed', path: 'app', change: 'metadata', by: 'sh', others: 2 },
    });
  });
});
