import { describe, expect, test } from 'vitest';
import { DEFAULT_CACHING } from '../core/index.ts';
import type { BuildGraph } from './graph.ts';
import { FakeStore, graphOf, solverRig, type Work } from './testing/solver-rig.ts';

const { solverFor } = solverRig();

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
    nowMs -= 600_000;
    const setBack = young('other');
    await setBack.solver.solve();
    expect(setBack.ran).toEqual(['other', 'second']);
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
