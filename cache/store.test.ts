import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DiffId, digestOf, type HostPath, type ImagePath, type SnapshotId } from '../core/index.ts';
import type { FileFact, PrunableCache, StepQuery, TreeInput } from './contract.ts';
import { factsDigest } from './fingerprint.ts';
import { openStepCache } from './store.ts';

let root: HostPath;
let nowMs = 1_700_000_000_000;
const opened: PrunableCache[] = [];
const warnings: string[] = [];

beforeEach(async () => {
  root = (await mkdtemp(join(tmpdir(), 'varve-store-'))) as HostPath;
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

function diff(name: string): DiffId {
  return digestOf(name) as DiffId;
}

function fact(path: string, content = path, more: Partial<FileFact> = {}): FileFact {
  return {
    path: path as ImagePath,
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    digest: digestOf(content),
    ...more,
  };
}

function input(facts: readonly FileFact[], name = 'context'): TreeInput {
  return { name, digest: factsDigest(facts), facts };
}

function query(
  change: Partial<StepQuery> = {},
  definition: StepQuery['action']['definition'] = {},
): StepQuery {
  return {
    action: {
      version: 1,
      kind: 'RUN',
      definition: { command: 'make', environment: { A: '1' }, ...definition },
    },
    parent: digestOf('base') as string as SnapshotId,
    inputs: [input([fact('src/app.js'), fact('src/lib.js')])],
    slot: 'Dockerfile#1',
    ...change,
  };
}

describe('lookup and record', () => {
  it('misses what never ran, then hits what was recorded, also from another opening of the store', async () => {
    const cache = open();
    expect(await cache.lookup(query())).toMatchObject({ kind: 'miss', why: { reason: 'never-ran' } });
    const record = await cache.record(query(), { diffId: diff('a'), durationMs: 12.5 });
    expect(await cache.lookup(query())).toEqual({ kind: 'hit', record });
    expect(await open().lookup(query())).toEqual({ kind: 'hit', record });
    expect(cache.usage()).toMatchObject([{ key: record.key, uses: 2, title: 'RUN make', diffId: diff('a') }]);
  });
});
