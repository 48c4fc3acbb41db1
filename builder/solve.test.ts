import { expect, test } from 'vitest';
import type { StepCache } from '../cache/index.ts';
import { type DiffId, digestOf } from '../core/index.ts';
import type { Step } from './graph.ts';
import { BuildStop } from './stop.ts';
import { FakeStore, graphOf, solverRig } from './testing/solver-rig.ts';

const rig = solverRig();
const { openCache, solverFor } = rig;

test('Solver runs what was never run, each step once, on top of its parent', async () => {
  const { solver, ran, finished } = solverFor(graphOf({ app: ['one', 'two'] }));
  const [snapshot] = await solver.solve();
  expect(ran).toEqual(['one', 'two']);
  expect(snapshot?.diffIds).toEqual([digestOf('diff of one'), digestOf('diff of two')]);
  expect(finished()).toEqual(['0 ran never-ran', '1 ran never-ran']);
});

test('Solver runs nothing where every step is known, and comes to the same snapshot', async () => {
  const store = new FakeStore();
  const graph = graphOf({ app: ['one', 'two', 'three'] });
  const [first] = await solverFor(graph, { store }).solver.solve();
  const again = solverFor(graph, { store });
  expect((await again.solver.solve())[0]?.id).toBe(first?.id);
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
    expect((await solver.solve())[0]?.diffIds).toEqual([digestOf('diff of one')]);
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
  const other = openCache();
  const work = { store, run: () => new Promise<void>((resolve) => setTimeout(resolve, 20)) };
  const graph = graphOf({ app: ['one', 'two'] });
  const solvers = [solverFor(graph, work), solverFor(graph, { ...work, cache: other })];
  const snapshots = await Promise.all(solvers.map(({ solver }) => solver.solve()));
  other.close();
  expect(solvers.flatMap(({ ran }) => ran).toSorted()).toEqual(['one', 'two']);
  const [first, second] = snapshots.map(([snapshot]) => snapshot?.id);
  expect(first).toBe(second);
});

test('a record that appears for another parent between two questions to the cache is no hit', async () => {
  const store = new FakeStore();
  const cache = rig.cache();
  const racing: StepCache = {
    lookup: (query) => cache.lookup(query),
    record: (query, result) => cache.record(query, result),
    lookupObserved: (query) => cache.lookupObserved(query),
    observe: (key, query, seen) => cache.observe(key, query, seen),
    observeAgain: (key, query, seen) => cache.observeAgain(key, query, seen),
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
  expect((await solver.solve())[0]?.diffIds).toEqual([digestOf('diff of one'), digestOf('diff of two')]);
  expect(ran).toEqual(['one', 'two']);
});

test('a step that stands apart is laid on what is below, and is found again whatever lies there', async () => {
  const store = new FakeStore();
  const apart = ['linked', 'more'];
  const first = solverFor(graphOf({ app: ['one', 'linked', 'more', 'last'] }), { store, apart });
  expect((await first.solver.solve())[0]?.diffIds).toEqual(
    ['one', 'linked', 'more', 'last'].map((name) => digestOf(`diff of ${name}`)),
  );
  const again = solverFor(graphOf({ app: ['other', 'linked', 'more', 'last'] }), { store, apart });
  expect((await again.solver.solve())[0]?.diffIds).toEqual(
    ['other', 'linked', 'more', 'last'].map((name) => digestOf(`diff of ${name}`)),
  );
  expect(again.ran).toEqual(['other', 'last']);
  expect(again.finished()).toEqual([
    '0 ran field-changed',
    '1 exact hit',
    '2 exact hit',
    '3 ran parent-changed; it left the same files as before',
  ]);
});

test('a record of a step that stands apart is none of the same step where it sees its parent', async () => {
  const store = new FakeStore();
  await solverFor(graphOf({ app: ['one', 'two'] }), { store, apart: ['two'] }).solver.solve();
  const seeing = solverFor(graphOf({ app: ['one', 'two'] }), { store });
  await seeing.solver.solve();
  expect(seeing.ran).toEqual(['two']);
});
