import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CommittedSnapshot, RootMount, TreeOp } from '../core/index.ts';
import { randomOp } from './random-ops.ts';
import { isRoot, layer, Rig, treeListing, treeOps } from './test-rig.ts';

/**
 * An operation through a file or a dangling symlink fails on every tree alike. Each runs alone, so that one that fails
 * leaves nothing half-done, and its outcome is compared as well.
 */
async function outcome(root: RootMount, one: TreeOp): Promise<string> {
  return treeOps.apply(root, [one]).then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.message : 'thrown').split(': ').at(-1) ?? '',
  );
}

describe.skipIf(!isRoot).each([
  ['overlay', 'trusted'],
  ['overlay', 'user'],
  ['copy', 'trusted'],
] as const)('random steps, %s driver, %s attributes:', (driver, kind) => {
  test('snapshots show what a plain folder shows', async () => {
    const steps = fc.array(fc.array(randomOp, { minLength: 1, maxLength: 6 }), {
      minLength: 1,
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(steps, async (layers) => {
        const rig = new Rig(driver, kind === 'user');
        try {
          const snapshotter = rig.open();
          const oracle: RootMount = { type: 'directory', path: rig.oracle, readonly: false };
          let top: CommittedSnapshot | undefined;
          for (const [i, ops] of layers.entries()) {
            const write = async (root: RootMount) => {
              for (const one of ops) expect(await outcome(root, one)).toBe(await outcome(oracle, one));
            };
            top = (await layer(snapshotter, top, { name: `${i}`, write })).committed;
            expect(await treeListing(top.tree())).toEqual(await rig.oracleListing());
          }
        } finally {
          await rig.dispose();
        }
      }),
      { numRuns: 10 },
    );
  }, 120_000);
});
