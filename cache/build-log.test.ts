import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { HostPath } from '../core/index.ts';
import { MAX_BUILDS } from './build-log.ts';
import type { BuildReport, PrunableCache } from './contract.ts';
import { openStepCache } from './store.ts';

let root: HostPath;
let cache: PrunableCache;

beforeEach(async () => {
  root = (await mkdtemp(join(tmpdir(), 'varve-builds-'))) as HostPath;
  cache = openStepCache({ root, session: 's', clock: () => 0 });
});

afterEach(async () => {
  cache.close();
  await rm(root, { recursive: true });
});

function report(id: string, startedAtMs: number): BuildReport {
  const position = { line: 1, column: 1, offset: 0 };
  const info = {
    index: 0,
    kind: 'RUN',
    name: 'RUN make',
    stage: '0',
    range: { start: position, end: position },
  } as const;
  const step = { info, outcome: 'ran', reason: 'never ran before', ms: 12 } as const;
  const paths = { dockerfile: 'Dockerfile', context: '/src', target: '' };
  return { id, startedAtMs, finishedAtMs: startedAtMs + 1, ...paths, ok: true, steps: [step] };
}

describe('builds', () => {
  it('gives back the newest build, also to another process, and where the clock was set back', () => {
    expect(cache.builds.load()).toBeUndefined();
    cache.builds.save(report('old', 2));
    cache.builds.save(report('new', 1));
    expect(cache.builds.load()).toEqual(report('new', 1));
    const other = openStepCache({ root, session: 'other', clock: () => 0 });
    expect(other.builds.list(10).map(({ id }) => id)).toEqual(['new', 'old']);
    other.close();
  });

  it('finds a build by its id, or by a beginning of it that fits no other', () => {
    for (const [at, id] of ['abc', 'abcd', 'b%', 'b_x'].entries()) cache.builds.save(report(id, at));
    expect(cache.builds.load('abc')?.id).toBe('abc');
    expect(cache.builds.load('abcd')?.id).toBe('abcd');
    expect(cache.builds.load('ab')).toBeUndefined();
    expect(cache.builds.load('b%')?.id).toBe('b%');
    expect(cache.builds.load('%')).toBeUndefined();
    expect(cache.builds.load('')).toBeUndefined();
  });

  it('keeps a bounded number, the newest, and replaces a report of the same id', () => {
    for (let at = 0; at < MAX_BUILDS + 5; at += 1) cache.builds.save(report(`b${at}`, at));
    cache.builds.save({ ...report('b50', 50), ok: false, error: 'failed' });
    const builds = cache.builds.list(1000);
    expect(builds.length).toBe(MAX_BUILDS);
    expect(builds[0]?.id).toBe(`b${MAX_BUILDS + 4}`);
    expect(cache.builds.load('b4')).toBeUndefined();
    expect(cache.builds.load('b50')).toMatchObject({ ok: false, error: 'failed' });
  });
});
