import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostPath } from '../core/index.ts';
import { MergedTree } from './merged-tree.ts';
import { createOverlayDriver } from './overlay-driver.ts';
import { emptyRoot } from './root-folder.ts';
import { treeOps } from './test-rig.ts';

let home: HostPath;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'varve-overlay-')) as HostPath;
});
afterEach(() => rmSync(home, { recursive: true }));

/** So many folders, which nobody looks into. */
function folders(count: number): readonly HostPath[] {
  return Array.from({ length: count }, (_, i) => `/diffs/${i}` as HostPath);
}

describe('the overlay driver', () => {
  const driver = createOverlayDriver({
    tree: treeOps,
    userXattrs: false,
    empty: '/empty' as HostPath,
    removeLater: () => undefined,
  });
  const prepare = (count: number, base?: number) => {
    const lowers = folders(count);
    const stack = { lowers, tree: new MergedTree([], emptyRoot()), root: emptyRoot() };
    const sets = async () => true;
    const traced =
      base === undefined ? undefined : { traced: lowers.slice(0, -base), lowers: lowers.slice(-base), sets };
    const fresh = join(home, `${count}-${base}`) as HostPath;
    mkdirSync(fresh);
    return driver.prepare(fresh, stack, traced);
  };

  test('takes as many diffs as the kernel stacks, and no more', async () => {
    expect((await prepare(500)).root).toMatchObject({ lowers: folders(500) });
    await expect(prepare(501)).rejects.toMatchObject({ code: 'too-many-layers' });
  });

  test('counts all traced diffs as one', async () => {
    const { root } = await prepare(1200, 499);
    expect(root).toMatchObject({ traced: folders(701), lowers: folders(1200).slice(-499) });
    await expect(prepare(501, 500)).rejects.toMatchObject({ code: 'too-many-layers' });
  });
});
