import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { openStepCache, type PrunableCache, type StepCache } from '../../cache/index.ts';
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
} from '../../core/index.ts';
import { EMPTY_TREE } from '../empty-tree.ts';
import type { BuildGraph, StagePlan, Step, TreeRef } from '../graph.ts';
import { createLimiter } from '../limiter.ts';
import { Solver, type SolverOptions, type TimelessEvent } from '../solve.ts';
import { NO_BASE, type Standing } from '../standing.ts';

const RANGE = { start: { line: 1, column: 1, offset: 0 }, end: { line: 1, column: 2, offset: 1 } };

/**
 * Hooks for the tests of a file that solve graphs: an empty cache for each, and no rejection that nobody heard of. `solverFor` makes a
 * solver whose steps are counted instead of run.
 */
export function solverRig() {
  let folder = '';
  let cache: PrunableCache;
  let sessions = 0;
  const rejections: unknown[] = [];
  const noteRejection = (reason: unknown): void => {
    rejections.push(reason);
  };
  const openCache = (): PrunableCache => {
    sessions += 1;
    const session = `test-${process.pid}-${sessions}`;
    return openStepCache({ root: folder as HostPath, clock: () => 1000, session });
  };
  beforeEach(async () => {
    process.on('unhandledRejection', noteRejection);
    folder = await mkdtemp(join(tmpdir(), 'varve-solve-'));
    cache = openCache();
  });
  afterEach(async () => {
    await new Promise((resolve) => setImmediate(resolve));
    cache.close();
    await rm(folder, { recursive: true });
    process.off('unhandledRejection', noteRejection);
    expect(rejections.splice(0)).toEqual([]);
  });
  return {
    openCache,
    cache: (): PrunableCache => cache,
    solverFor: (graph: BuildGraph, work: Work = {}) => solverOn(graph, { cache, ...work }),
  };
}

/** Diffs by id, as a snapshotter would keep them on disk. */
export class FakeStore {
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
      facts: async () => [],
      removeDamaged: async () => [],
      observed: async () => this.#tree(),
      changedPaths: async () => 3,
      stack: async (parent, diffId) => (this.diffs.has(diffId) ? this.committed(parent, diffId) : undefined),
      prepare: unused,
      original: unused,
      patch: unused,
      surelyDiffers: async () => false,
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

export interface Work {
  /** What steps look at, by name; others are not observed. */
  readonly looksAt?: Readonly<Record<string, string>>;
  /** Steps that see nothing of what they stand on, by name. */
  readonly apart?: readonly string[];
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

function onNothing(on: Standing): Standing {
  return { ...on, snapshot: undefined, committed: Promise.resolve(undefined) };
}

/** A solver whose steps are counted instead of run. */
function solverOn(graph: BuildGraph, work: Work & { readonly cache: StepCache }) {
  const store = work.store ?? new FakeStore();
  const ran: string[] = [];
  const events: TimelessEvent[] = [];
  const options: SolverOptions = {
    graph,
    parts: {
      cache: work.cache,
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
      const isApart = work.apart?.includes(name) === true;
      return {
        action,
        inputs: [],
        ...(isApart ? { standsApart: true } : {}),
        ...(path === undefined || step.caching.mode === 'exact'
          ? {}
          : {
              observed: async (on) => [
                {
                  action,
                  inputs: [],
                  tree: await store.snapshotter().observed(on.snapshot, on.base.depth),
                },
              ],
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
            : { seen, frozen: store.frozen(isApart ? onNothing(on) : on, work.leaves?.[name] ?? name) };
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
export function graphOf(stages: Readonly<Record<string, readonly string[]>>, noCache = false): BuildGraph {
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
  const platform = { os: 'linux', architecture: 'amd64' };
  return { stages: plans, targets: [{ stage: plans.length - 1, platform }] };
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
      platform: { os: 'linux', architecture: 'amd64' },
      args: [],
      environment: {},
      hiddenEnvironment: {},
      user: '',
      workdir: imagePath(''),
      mounts: [],
    };
    return {
      ...common,
      ...run,
      info,
      kind: 'RUN',
      network: 'default',
      security: 'sandbox',
      devices: [],
      limits: {},
    };
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
