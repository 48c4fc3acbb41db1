import { mkdir } from 'node:fs/promises';
import { type HostPath, joinHost, MachineError, type TreeOps } from '../core/index.ts';
import type { Driver, Stack } from './driver.ts';
import { giveAttributes } from './root-folder.ts';

/** OVL_MAX_STACK of the kernel. */
const MOST_LOWERS = 500;

export interface OverlayDriverOptions {
  readonly tree: TreeOps;
  readonly userXattrs: boolean;
  /** An empty folder on the same file system. */
  readonly empty: HostPath;
}

/** The kernel's OverlayFS: the upper folder of an active snapshot already is its diff. */
export function createOverlayDriver(options: OverlayDriverOptions): Driver {
  const { tree, userXattrs, empty } = options;
  return {
    name: 'overlay',
    async prepare(home, stack) {
      const upper = joinHost(home, 'fs');
      const work = joinHost(home, 'work');
      const lowers = lowersOf(stack, 1, empty);
      await mkdir(work, { mode: 0o700 });
      await mkdir(upper, { mode: 0o755 });
      await giveAttributes(tree, upper, stack.root);
      return {
        root: { type: 'overlay', lowers, writable: { upper, work }, userXattrs },
        capture: () => tree.scanDiff(upper, { userXattrs }),
      };
    },
    // Without an upper folder the kernel asks for two lower ones.
    mountable: async (_home, stack) => ({ type: 'overlay', lowers: lowersOf(stack, 2, empty), userXattrs }),
  };
}

function lowersOf(stack: Stack, atLeast: number, empty: HostPath): readonly HostPath[] {
  if (stack.lowers.length > MOST_LOWERS) {
    throw new MachineError(
      'too-many-layers',
      `the kernel stacks at most ${MOST_LOWERS} layers, here are ${stack.lowers.length}`,
      { hint: 'join instructions, or copy the files of a stage into a fresh one' },
    );
  }
  const missing = Math.max(0, atLeast - stack.lowers.length);
  return [...stack.lowers, ...Array.from({ length: missing }, () => empty)];
}
