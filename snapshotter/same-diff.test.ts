import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CommittedSnapshot, FrozenSnapshot, RootMount } from '../core/index.ts';
import { BASE, STEPS } from './contract-steps.ts';
import { randomOp } from './random-ops.ts';
import { isRoot, layer, Rig, treeOps } from './test-rig.ts';

/** Times of files and folders that a step has not set. */
const RECENT = 1_500_000_000;

/** All that a layer is made of, but for the time of the step itself, which no two steps share. */
async function facts(frozen: FrozenSnapshot): Promise<readonly unknown[]> {
  return Promise.all(
    frozen.changes.map(async (change) => {
      if (change.kind !== 'set') return change;
      const { entry } = change;
      const mtime = entry.mtime.sec > RECENT ? 'now' : entry.mtime;
      const digest = entry.type === 'file' ? await frozen.tree().digest(entry.path) : undefined;
      return { ...entry, mtime, digest };
    }),
  );
}

describe.skipIf(!isRoot)('an overlay and a copy have the same diff', () => {
  test.each(Object.entries(STEPS))('after a step: %s', async (_title, step) => {
    const writes = [BASE, step].map((script) => async (rig: Rig, root: RootMount) => {
      rig.run(root, script);
    });
    const [overlay, copy] = [await diffs('overlay', writes), await diffs('copy', writes)];
    expect(copy).toEqual(overlay);
  });

  test('after random steps', async () => {
    const steps = fc.array(fc.array(randomOp, { minLength: 1, maxLength: 6 }), {
      minLength: 1,
      maxLength: 3,
    });
    await fc.assert(
      fc.asyncProperty(steps, async (layers) => {
        const writes = layers.map((ops) => async (_rig: Rig, root: RootMount) => {
          // One that goes through a file or a dangling symlink fails on every tree alike.
          for (const one of ops) await treeOps.apply(root, [one]).catch(() => undefined);
        });
        const [overlay, copy] = [await diffs('overlay', writes), await diffs('copy', writes)];
        expect(copy).toEqual(overlay);
      }),
      { numRuns: 20 },
    );
  });
});

type Write = (rig: Rig, root: RootMount) => Promise<void>;

async function diffs(driver: 'overlay' | 'copy', steps: readonly Write[]): Promise<readonly unknown[]> {
  const rig = new Rig(driver);
  try {
    const snapshotter = rig.open();
    const all: unknown[] = [];
    let top: CommittedSnapshot | undefined;
    for (const [i, step] of steps.entries()) {
      const write = (root: RootMount) => step(rig, root);
      const { frozen, committed } = await layer(snapshotter, top, { name: `${i}`, write });
      all.push(await facts(frozen));
      top = committed;
    }
    return all;
  } finally {
    await rig.dispose();
  }
}
