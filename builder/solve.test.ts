import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openStepCache, type StepCache } from '../cache/index.ts';
import {
  type Change,
  type CommittedSnapshot,
  chainId,
  DEFAULT_CACHING,
  type DiffId,
  digestOf,
  type Entry,
  type FrozenSnapshot,
  type HostPath,
  type ImagePath,
  imagePath,
  type ObservedTree,
  type SnapshotId,
  type Snapshotter,
  type StepKey,
  USE,
} from '../core/index.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import type { BuildGraph, StagePlan, Step, TreeRef } from './graph.ts';
import { createLimiter } from './limiter.ts';
import { Solver, type SolverOptions, type TimelessEvent } from './solve.ts';
import { NO_BASE, type Standing } from './standing.ts';
import { BuildStop } from './stop.ts';

const RANGE = { start: { line: 1, column: 1, offset: 0 }, end: { line: 1, column: 2, offset: 1 } };

let folder = '';
let cache: StepCache & { close(): void };
const rejections: unknown[] = [];
const noteRejection = (reason: unknown): void => {
  rejections.push(reason);
};

beforeEach(async () => {
  process.on('unhandledRejection', noteRejection);
  folder = await mkdtemp(join(tmpdir(), 'varve-solve-'));
  cache = await openCache();
});

afterEach(async () => {
  await new Promise((resolve) => setImmediate(resolve));
  cache.close();
  await rm(folder, { recursive: true });
  process.off('unhandledRejection', noteRejection);
  expect(rejections.splice(0)).toEqual([]);
});

let sessions = 0;

async function openCache() {
  sessions += 1;
  return openStepCache({
    root: folder as HostPath,
    clock: () => 1000,
    session: `test-${process.pid}-${sessions}`,
  });
}

/** Diffs by id, as a snapshotter would keep them on disk. */
class FakeStore {
  readonly diffs = new Set<DiffId>();
  readonly #changes = new Map<DiffId, readonly Change[]>();
  /** What lies in the tree below every step: sizes of files by path. */
  readonly sizes = new Map<string, number>();
  readonly disposed: string[] = [];

  committed(parent: CommittedSnapshot | undefined, diffId: DiffId): CommittedSnapshot {
    this.diffs.add(diffId);
    const diffIds = [...(parent?.diffIds ?? []), diffId];
    const id: SnapshotId = chainId(parent?.id, diffId);
    return {
      parent,
      id,
      diffIds,
      lowers: [],
      tree: () => EMPTY_TREE,
      top: async () => ({ changes: this.#changes.get(diffId) ?? [], folder: '/' as HostPath }),
    };
  }

  frozen(on: Standing, name: string): FrozenSnapshot {
    let committed = false;
    const changes: readonly Change[] = [{ kind: 'whiteout', path: imagePath(name) }];
    return {
      parent: on.snapshot,
      lowers: [],
      tree: () => EMPTY_TREE,
      changes,
      folder: '/' as HostPath,
      commit: async (diffId) => {
        committed = true;
        this.#changes.set(diffId, changes);
        return this.committed(await on.committed, diffId);
      },
      [Symbol.asyncDispose]: async () => {
        this.disposed.push(`${name}${committed ? '' : ' uncommitted'}`);
      },
    };
  }

  #tree(): ObservedTree {
    return {
      isPlain: true,
      state: (path) => {
        const size = this.sizes.get(path);
        return size === undefined
          ? { kind: 'absent' }
          : { kind: 'present', entry: fileOf(path, size), links: 1, opaque: false };
      },
      list: () => [],
      digest: async (path) => digestOf(`${path} ${this.sizes.get(path)}`),
    };
  }

  snapshotter(): Snapshotter {
    const unused = (): never => {
      throw new Error('not part of these tests');
    };
    return {
      driver: 'copy',
      observed: async () => this.#tree(),
      changedPaths: async () => 3,
      stack: async (parent, diffId) => (this.diffs.has(diffId) ? this.committed(parent, diffId) : undefined),
      prepare: unused,
      find: unused,
      mountable: unused,
      diffs: unused,
      remove: unused,
      sweep: unused,
      close: async () => {},
    };
  }
}

function fileOf(path: ImagePath, size: number): Entry {
  return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, size, mtime: { sec: 1, nsec: 0 } };
}

interface Work {
  /** What steps look at, by name; others are not observed. */
  readonly looksAt?: Readonly<Record<string, string>>;
  /** What a step leaves, where that is not named like it. */
  readonly leaves?: Readonly<Record<string, string>>;
  readonly now?: () => number;
  /** Carries a step out; throws to fail. It leaves one change unless it comes to `'unchanged'`. */
  readonly run?: (step: Step, signal: AbortSignal) => Promise<unknown>;
  readonly pack?: (name: string, signal: AbortSignal | undefined) => Promise<void>;
  readonly cache?: StepCache;
  readonly store?: FakeStore;
  readonly parallelism?: number;
  readonly signal?: AbortSignal;
}

/** A solver whose steps are counted instead of run. */
function solverFor(graph: BuildGraph, work: Work = {}) {
  const store = work.store ?? new FakeStore();
  const ran: string[] = [];
  const events: TimelessEvent[] = [];
  const options: SolverOptions = {
    graph,
    parts: {
      cache: work.cache ?? cache,
      snapshotter: store.snapshotter(),
      packLayer: async (source, { signal }) => {
        const [change] = source.changes;
        const name = change?.kind === 'whiteout' ? change.path : '';
        await work.pack?.(name, signal);
        return { diffId: digestOf(`diff of ${name}`) as DiffId, size: name.length };
      },
      layerTable: { get: async () => ({}), note: async () => {} },
      now: work.now ?? (() => 1000),
    },
    standOn: async (stage, solver) =>
      stage.base.kind === 'stage'
        ? solver.stage(stage.base.index)
        : {
            snapshot: undefined,
            committed: Promise.resolve(undefined),
            way: digestOf('scratch') as string as StepKey,
            base: NO_BASE,
          },
    prepare: async (step) => {
      const { name } = step.info;
      const action = { version: 1, kind: step.kind, definition: { name } };
      const path = work.looksAt?.[name];
      return {
        action,
        inputs: [],
        ...(path === undefined || step.caching.mode === 'exact'
          ? {}
          : {
              observed: async (on) => ({
                action,
                inputs: [],
                tree: await store.snapshotter().observed(on.snapshot, on.base.depth),
              }),
            }),
        execute: async (on, signal) => {
          ran.push(name);
          const result = await work.run?.(step, signal);
          const seen =
            path === undefined
              ? ({ kind: 'unknown' } as const)
              : ({
                  kind: 'observed',
                  observations: [{ path: imagePath(path), uses: USE.ATTRIBUTES }],
                } as const);
          return result === 'unchanged'
            ? { seen }
            : { seen, frozen: store.frozen(on, work.leaves?.[name] ?? name) };
        },
      };
    },
    explain: { hit: () => 'hit', observed: () => 'observed', miss: (why) => why.reason },
    sourceDateEpoch: undefined,
    limiter: createLimiter(work.parallelism ?? 4),
    emit: (event) => events.push(event),
    signal: work.signal ?? new AbortController().signal,
  };
  const solver = new Solver(options);
  const finished = (): string[] =>
    events.flatMap((event) =>
      event.type === 'step.finished' ? [`${event.step} ${event.outcome} ${event.reason}`] : [],
    );
  return { solver, store, ran, finished };
}

/** Stages as lists of step names: `{ base: ['a'], 'app < base': ['b', 'c from base'] }`; the last one is the target. */
function graphOf(stages: Readonly<Record<string, readonly string[]>>, noCache = false): BuildGraph {
  const names = Object.keys(stages).map((name) => name.split(' < ')[0]);
  let count = 0;
  const plans = Object.entries(stages).map(([title, steps], index): StagePlan => {
    const [name = '', parent] = title.split(' < ');
    return {
      index,
      name,
      base: parent === undefined ? { kind: 'scratch' } : { kind: 'stage', index: names.indexOf(parent) },
      steps: steps.map((step) => {
        const made = stepOf(step, { index: count, stage: index, noCache, names });
        count += 1;
        return made;
      }),
      config: {},
      platform: { os: 'linux', architecture: 'amd64' },
      history: [],
    };
  });
  return { stages: plans, target: plans.length - 1 };
}

function stepOf(
  text: string,
  place: { index: number; stage: number; noCache: boolean; names: readonly (string | undefined)[] },
): Step {
  const [name = '', from] = text.split(' from ');
  const { index, stage, noCache } = place;
  const common = { stage, noCache, caching: DEFAULT_CACHING, slot: `slot ${index}` };
  const info = {
    index,
    kind: from === undefined ? ('RUN' as const) : ('COPY' as const),
    name,
    stage: '',
    range: RANGE,
  };
  if (from === undefined) {
    const run = {
      args: [],
      environment: {},
      hiddenEnvironment: {},
      user: '',
      workdir: imagePath(''),
      mounts: [],
    };
    return { ...common, ...run, info, kind: 'RUN', network: 'default' };
  }
  const tree: TreeRef = { kind: 'stage', index: place.names.indexOf(from), name: from };
  return {
    ...common,
    info,
    kind: 'COPY',
    sources: [{ kind: 'path', from: tree, pattern: 'x', range: RANGE }],
    destination: '/',
  };
}

test('Solver runs what was never run, each step once, on top of its parent', async () => {
  const { solver, ran, finished } = solverFor(graphOf({ app: ['one', 'two'] }));
  const snapshot = await solver.solve();
  expect(ran).toEqual(['one', 'two']);
  expect(snapshot?.diffIds).toEqual([digestOf('diff of one'), digestOf('diff of two')]);
  expect(finished()).toEqual(['0 ran never-ran', '1 ran never-ran']);
});

test('Solver runs nothing where every step is known, and comes to the same snapshot', async () => {
  const store = new FakeStore();
  const graph = graphOf({ app: ['one', 'two', 'three'] });
  const first = await solverFor(graph, { store }).solver.solve();
  const again = solverFor(graph, { store });
  expect((await again.solver.solve())?.id).toBe(first?.id);
  expect(again.ran).toEqual([]);
  expect(again.finished()).toEqual(['0 exact hit', '1 exact hit', '2 exact hit']);
});

test('Solver runs a step again where its diff is gone from the store', async () => {
  const store = new FakeStore();
  const graph = graphOf({ app: ['one', 'two'] });
  await solverFor(graph, { store }).solver.solve();
  store.diffs.delete(digestOf('diff of two') as DiffId);
  const again = solverFor(graph, { store });
  await again.solver.solve();
  expect(again.ran).toEqual(['two']);
  expect(again.finished()).toEqual(['0 exact hit', '1 ran evicted']);
});

test('Solver runs every step with noCache and records what came of it', async () => {
  const store = new FakeStore();
  await solverFor(graphOf({ app: ['one'] }), { store }).solver.solve();
  const again = solverFor(graphOf({ app: ['one'] }, true), { store });
  await again.solver.solve();
  expect(again.ran).toEqual(['one']);
  const after = solverFor(graphOf({ app: ['one'] }), { store });
  await after.solver.solve();
  expect(after.ran).toEqual([]);
});

test('Solver gives a step that changed nothing no layer, now and when it is found again', async () => {
  const store = new FakeStore();
  const run = async (step: Step) =>
    step.info.name === 'noop' ? ('unchanged' as const) : ('changed' as const);
  const graph = graphOf({ app: ['one', 'noop'] });
  for (const expected of [['one', 'noop'], []]) {
    const { solver, ran } = solverFor(graph, { store, run });
    expect((await solver.solve())?.diffIds).toEqual([digestOf('diff of one')]);
    expect(solver.solved.get(1)?.layer).toBeUndefined();
    expect(ran).toEqual(expected);
  }
});

test('Solver starts the next step while the layer of the one before is still being hashed', async () => {
  const second = Promise.withResolvers<void>();
  const { solver, ran } = solverFor(graphOf({ app: ['one', 'two'] }), {
    run: async (step) => {
      if (step.info.name === 'two') second.resolve();
    },
    // Hashing of the first layer ends only once the second step has begun.
    pack: (name) => (name === 'one' ? second.promise : Promise.resolve()),
  });
  await solver.solve();
  expect(ran).toEqual(['one', 'two']);
});

test('Solver runs stages that do not need each other at the same time', async () => {
  const bothRun = { left: Promise.withResolvers<void>(), right: Promise.withResolvers<void>() };
  const { solver } = solverFor(graphOf({ a: ['left'], b: ['right'], app: ['copy from a', 'more from b'] }), {
    run: async (step) => {
      const { name } = step.info;
      if (name !== 'left' && name !== 'right') return;
      bothRun[name].resolve();
      await Promise.all([bothRun.left.promise, bothRun.right.promise]);
    },
  });
  await solver.solve();
  expect(solver.solved.size).toBe(4);
});

test('Solver keeps to its limiter', async () => {
  let running = 0;
  let most = 0;
  const { solver } = solverFor(
    graphOf({ a: ['a1'], b: ['b1'], c: ['c1'], app: ['x from a', 'y from b', 'z from c'] }),
    {
      parallelism: 2,
      run: async () => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running -= 1;
      },
    },
  );
  await solver.solve();
  expect(most).toBe(2);
});

test('Solver reports a failing step once, aborts the others, and tells the first failure', async () => {
  const failure = new BuildStop({ kind: 'build-failure', code: 'run-failed', message: 'it broke' });
  const started = Promise.withResolvers<void>();
  const { solver, finished } = solverFor(
    graphOf({ bad: ['fails'], slow: ['slow'], app: ['x from bad', 'y from slow'] }),
    {
      run: async (step, signal) => {
        if (step.info.name === 'fails') {
          await started.promise;
          throw failure;
        }
        started.resolve();
        await new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(new Error('was aborted'))),
        );
      },
    },
  );
  await expect(solver.solve()).rejects.toBe(failure);
  expect(finished()).toEqual(['0 failed it broke']);
  expect(solver.solved.get(0)?.outcome).toBe('failed');
  expect(solver.solved.has(1)).toBe(false);
});

test('Solver does not begin a step that waits for the limiter when another one fails', async () => {
  const { solver, ran } = solverFor(graphOf({ a: ['fails'], b: ['waits'], app: ['x from a', 'y from b'] }), {
    parallelism: 1,
    run: async () => {
      throw new Error('it broke');
    },
  });
  await expect(solver.solve()).rejects.toThrow('it broke');
  expect(ran).toHaveLength(1);
});

test('Solver fails where a layer cannot be hashed, though the next step has begun', async () => {
  const begun = Promise.withResolvers<void>();
  const { solver } = solverFor(graphOf({ app: ['one', 'two'] }), {
    run: async (step) => {
      if (step.info.name === 'two') begun.resolve();
    },
    pack: async (name) => {
      await begun.promise;
      if (name === 'one') throw new Error('disk full');
    },
  });
  await expect(solver.solve()).rejects.toThrow('disk full');
});

test('Solver rejects with the reason of its signal when it is aborted from outside', async () => {
  const abort = new AbortController();
  const reason = new Error('interrupted');
  const { solver, finished } = solverFor(graphOf({ app: ['one'] }), {
    signal: abort.signal,
    run: async () => {
      abort.abort(reason);
      throw new Error('killed');
    },
  });
  await expect(solver.solve()).rejects.toBe(reason);
  expect(finished()).toEqual([]);
});

test('Solver disposes of every frozen snapshot, also of those whose layer never came about', async () => {
  const { solver, store } = solverFor(graphOf({ app: ['one', 'two'] }), {
    pack: async (name) => {
      if (name === 'two') throw new Error('disk full');
    },
  });
  await expect(solver.solve()).rejects.toThrow('disk full');
  await solver[Symbol.asyncDispose]();
  expect(store.disposed.toSorted()).toEqual(['one', 'two uncommitted']);
});

test('two solvers on one cache run a step that both need once', async () => {
  const store = new FakeStore();
  const other = await openCache();
  const work = { store, run: () => new Promise<void>((resolve) => setTimeout(resolve, 20)) };
  const graph = graphOf({ app: ['one', 'two'] });
  const solvers = [solverFor(graph, { ...work, cache }), solverFor(graph, { ...work, cache: other })];
  const snapshots = await Promise.all(solvers.map(({ solver }) => solver.solve()));
  other.close();
  expect(solvers.flatMap(({ ran }) => ran).toSorted()).toEqual(['one', 'two']);
  expect(snapshots[0]?.id).toBe(snapshots[1]?.id);
});

test('a record that appears for another parent between two questions to the cache is no hit', async () => {
  const store = new FakeStore();
  const racing: StepCache = {
    lookup: (query) => cache.lookup(query),
    record: (query, result) => cache.record(query, result),
    lookupObserved: (query) => cache.lookupObserved(query),
    observe: (key, query, seen) => cache.observe(key, query, seen),
    reads: (key) => cache.reads(key),
    repeatable: (key) => cache.repeatable(key),
    previous: (slot) => cache.previous(slot),
    earlier: (action, limit) => cache.earlier(action, limit),
    forget: (key) => cache.forget(key),
    exclusively: (key, work, signal) => cache.exclusively(key, work, signal),
    hold: (diffIds) => cache.hold(diffIds),
    close: () => {},
    // What another process does in between makes an old answer: nothing was known yet.
    knows: () => false,
  };
  await solverFor(graphOf({ app: ['two'] }), { store }).solver.solve();
  const { solver, ran } = solverFor(graphOf({ app: ['one', 'two'] }), { store, cache: racing });
  expect((await solver.solve())?.diffIds).toEqual([digestOf('diff of one'), digestOf('diff of two')]);
  expect(ran).toEqual(['one', 'two']);
});

describe('Solver: the observed answer', () => {
  const looksAt = { second: 'x' };

  async function built(first: string, store: FakeStore, work: Work = {}) {
    const solver = solverFor(graphOf({ app: [first, 'second'] }), { store, looksAt, ...work });
    await solver.solver.solve();
    return solver;
  }

  test('a step is reused on another parent where all it looked at is the same', async () => {
    const store = new FakeStore();
    await built('first', store);
    const again = await built('other', store);
    expect(again.ran).toEqual(['other']);
    expect(again.finished()).toEqual(['0 ran field-changed', '1 observed observed']);
  });

  test('the next time the answer is an exact one', async () => {
    const store = new FakeStore();
    await built('first', store);
    await built('other', store);
    expect((await built('other', store)).finished()).toEqual(['0 exact hit', '1 exact hit']);
  });

  test('a step runs again where what it looked at is another', async () => {
    const store = new FakeStore();
    store.sizes.set('x', 1);
    await built('first', store);
    store.sizes.set('x', 2);
    const again = await built('other', store, { leaves: { second: 'else' } });
    expect(again.ran).toEqual(['other', 'second']);
    expect(again.finished()[1]).toBe('1 ran observed-changed');
  });

  test('both observations are kept: what comes back hits again', async () => {
    const store = new FakeStore();
    store.sizes.set('x', 1);
    await built('first', store);
    store.sizes.set('x', 2);
    await built('other', store, { leaves: { second: 'else' } });
    store.sizes.set('x', 1);
    const again = await built('third', store);
    expect(again.ran).toEqual(['third']);
  });

  test('a step that was not observed runs on another parent', async () => {
    const store = new FakeStore();
    await built('first', store, { looksAt: {} });
    expect((await built('other', store)).ran).toEqual(['other', 'second']);
  });

  test('a result is not reused when it is older than the ttl, exact or observed', async () => {
    const store = new FakeStore();
    let nowMs = 1000;
    const now = () => nowMs;
    const young = (first: string) => {
      const graph = graphOf({ app: [first, 'second'] });
      const stages = graph.stages.map((stage) => ({
        ...stage,
        steps: stage.steps.map((step) => ({ ...step, caching: { ...DEFAULT_CACHING, ttlMs: 60_000 } })),
      }));
      return solverFor({ ...graph, stages }, { store, looksAt, now });
    };
    await young('first').solver.solve();
    nowMs += 61_000;
    const exact = young('first');
    await exact.solver.solve();
    expect(exact.ran).toEqual(['first', 'second']);
    expect(exact.finished()[1]).toMatch(/^1 ran too-old/);
    nowMs += 61_000;
    const observed = young('other');
    await observed.solver.solve();
    expect(observed.ran).toEqual(['other', 'second']);
    nowMs += 59_000;
    const fresh = young('other');
    await fresh.solver.solve();
    expect(fresh.ran).toEqual([]);
  });
});

describe('Solver: early cutoff', () => {
  test('the record of the adopted result keeps the time at which the layer came about', async () => {
    const store = new FakeStore();
    let nowMs = 1000;
    const now = () => nowMs;
    await solverFor(graphOf({ app: ['base', 'step'] }), { store, now }).solver.solve();
    nowMs = 5000;
    const again = solverFor(graphOf({ app: ['other', 'step'] }), { store, now });
    await again.solver.solve();
    expect(again.finished()[1]).toMatch(/^1 ran .*; it left the same files as before$/);
    expect(again.solver.solved.get(1)?.createdAtMs).toBe(1000);
    expect(again.solver.solved.get(1)?.outcome).toBe('ran');
  });

  test('nothing is adopted where the step may only be answered exactly', async () => {
    const store = new FakeStore();
    const exact = (graph: BuildGraph): BuildGraph => ({
      ...graph,
      stages: graph.stages.map((stage) => ({
        ...stage,
        steps: stage.steps.map((step) => ({ ...step, caching: { ...DEFAULT_CACHING, mode: 'exact' } })),
      })),
    });
    await solverFor(exact(graphOf({ app: ['base', 'step'] })), { store }).solver.solve();
    const again = solverFor(exact(graphOf({ app: ['other', 'step'] })), { store });
    await again.solver.solve();
    expect(again.finished()[1]).toBe('1 ran parent-changed');
  });
});
