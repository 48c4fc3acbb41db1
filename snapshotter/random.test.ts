import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CommittedSnapshot, imagePath, type RootMount, type TreeOp } from '../core/index.ts';
import { isRoot, layer, Rig, treeListing, treeOps } from './test-rig.ts';

/** Few names, so that operations meet. */
const name = fc.constantFrom('a', 'b', 'a.b', 'c');
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => imagePath(parts.join('/')));
const attributes = fc.record({
  mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o1777),
  uid: fc.constantFrom(0, 1000),
  gid: fc.constantFrom(0, 5),
  mtime: fc.record({ sec: fc.constantFrom(1, 1_000_000_000), nsec: fc.constantFrom(0, 999_999_999) }),
});
const op: fc.Arbitrary<TreeOp> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('dir'), path, attributes }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('file'),
      path,
      attributes,
      content: fc
        .constantFrom('', 'x', 'yy')
        .map((text) => ({ kind: 'bytes' as const, bytes: Buffer.from(text) })),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('symlink'),
      path,
      attributes,
      target: fc.constantFrom('a', '/b', '../c'),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('remove'), path }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('clear'), path }) },
);

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
    const steps = fc.array(fc.array(op, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 });
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
