import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type HostPath, MachineError, type TreeOps } from '../core/index.ts';
import { chooseDriver } from './index.ts';
import { isRoot, Rig, treeOps } from './test-rig.ts';

describe('chooseDriver', () => {
  let rig: Rig;
  beforeEach(() => {
    rig = new Rig('overlay');
  });
  afterEach(() => rig.dispose());
  const choose = (tree: TreeOps, root = rig.root) => chooseDriver({ root, tree, userXattrs: false });

  test.skipIf(!isRoot)(
    'takes the overlay where it can be mounted, and leaves nothing but the answer',
    async () => {
      expect(await choose(treeOps)).toBe('overlay');
      expect(readdirSync(join(rig.root, 'trash'))).toEqual([]);
      expect(readFileSync(join(rig.root, 'driver'), 'utf8')).toMatch(/overlay$/);
    },
  );

  test.skipIf(!isRoot)(
    'copies where the store itself lies on an overlay, which cannot be stacked on',
    async () => {
      const [lower, upper, work, place] = ['l', 'u', 'w', 'mnt2'].map((name) => join(rig.temp, name));
      for (const folder of [lower, upper, work, place]) mkdirSync(folder ?? '');
      execFileSync('mount', [
        '-t',
        'overlay',
        '-o',
        `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
        'overlay',
        place ?? '',
      ]);
      try {
        expect(await choose(treeOps, place as HostPath)).toBe('copy');
      } finally {
        execFileSync('umount', [place ?? '']);
      }
    },
  );

  test('remembers the answer until the machine starts anew', async () => {
    let probes = 0;
    const refusing: TreeOps = {
      ...treeOps,
      apply: async () => {
        probes += 1;
        throw new MachineError('mount-failed', 'refused');
      },
    };
    expect(await choose(refusing)).toBe('copy');
    expect(await choose(refusing)).toBe('copy');
    expect(probes).toBe(1);
    writeFileSync(join(rig.root, 'driver'), 'another start');
    expect(await choose(refusing)).toBe('copy');
    expect(probes).toBe(2);
  });

  test('fails, and remembers nothing, where the probe fails for another reason', async () => {
    const full: TreeOps = {
      ...treeOps,
      apply: async () => {
        throw new MachineError('disk-full', 'full');
      },
    };
    await expect(choose(full)).rejects.toThrow('full');
    expect(existsSync(join(rig.root, 'driver'))).toBe(false);
  });
});
