import { mkdirSync } from 'node:fs';
import {
  type Change,
  FOLDER_TIME,
  type HostPath,
  type ImagePath,
  joinHost,
  MachineError,
  type TreeOp,
  type TreeOps,
} from '../core/index.ts';
import type { Driver, Stack, TracedStack } from './driver.ts';
import { liesInAny } from './lowers.ts';
import { giveAttributes } from './root-folder.ts';

/** OVL_MAX_STACK of the kernel. */
const MOST_LOWERS = 500;

export interface OverlayDriverOptions {
  readonly tree: TreeOps;
  readonly userXattrs: boolean;
  /** An empty folder on the same file system. */
  readonly empty: HostPath;
  /** Removes a folder at some time, at the latest when the snapshotter is closed. */
  readonly removeLater: (folder: HostPath) => void;
}

/** The kernel's OverlayFS: the upper folder of an active snapshot already is its diff. */
export function createOverlayDriver(options: OverlayDriverOptions): Driver {
  const { tree, userXattrs, empty, removeLater } = options;
  return {
    name: 'overlay',
    async prepare(home, stack, traced) {
      const upper = joinHost(home, 'fs');
      const work = joinHost(home, 'work');
      const below = traced === undefined ? { lowers: lowersOf(stack.lowers, 1, empty) } : tracedBelow(traced);
      mkdirSync(work, { mode: 0o700 });
      mkdirSync(upper, { mode: 0o755 });
      const root = traced === undefined ? stack.root : { ...stack.root, mtime: FOLDER_TIME };
      await giveAttributes(tree, upper, root);
      return {
        root: { type: 'overlay', ...below, writable: { upper, work }, userXattrs },
        async capture(scanned) {
          const changes = scanned ?? (await tree.scanDiff(upper, { userXattrs }));
          return withoutIdleMarks(tree, { folder: upper, changes, lowers: stack.lowers });
        },
        cleanUp: async () => removeLater(home),
      };
    },
    // Without an upper folder the kernel asks for two lower ones.
    mountable: async (_home, stack, traced) => ({
      type: 'overlay',
      ...(traced === undefined
        ? { lowers: lowersOf(stack.lowers, 2, empty) }
        : { lowers: lowersOf([], 1, empty), traced }),
      userXattrs,
    }),
  };
}

function lowersOf(lowers: Stack['lowers'], atLeast: number, empty: HostPath): readonly HostPath[] {
  checkCount(lowers.length);
  const missing = Math.max(0, atLeast - lowers.length);
  return [...lowers, ...Array.from({ length: missing }, () => empty)];
}

/** All traced diffs are one layer to the kernel. */
function tracedBelow({ lowers, traced }: TracedStack): Omit<TracedStack, 'sets'> {
  checkCount(lowers.length + 1);
  return { lowers, traced };
}

function checkCount(layers: number): void {
  if (layers <= MOST_LOWERS) return;
  throw new MachineError(
    'too-many-layers',
    `the kernel stacks at most ${MOST_LOWERS} layers, here are ${layers}`,
    { hint: 'join instructions, or copy the files of a stage into a fresh one' },
  );
}

interface Captured {
  readonly folder: HostPath;
  readonly changes: readonly Change[];
  readonly lowers: readonly HostPath[];
}

/**
 * The kernel marks every folder that it makes in a merged one as opaque, to save itself look-ups. A mark that hides nothing is
 * taken away: it would become a whiteout in the layer.
 */
async function withoutIdleMarks(tree: TreeOps, captured: Captured): Promise<readonly Change[]> {
  const idle = new Set<ImagePath>();
  for (const change of captured.changes) {
    if (change.kind !== 'opaque') continue;
    if (!(await liesInAny(captured.lowers, change.path))) idle.add(change.path);
  }
  if (idle.size === 0) return captured.changes;
  const ops: TreeOp[] = [];
  for (const change of captured.changes) {
    if (change.kind !== 'set' || !idle.has(change.entry.path)) continue;
    const { path, mode, uid, gid, mtime, xattrs } = change.entry;
    // Giving a folder its attributes takes away those that are not listed, the mark among them.
    const attributes = { mode, uid, gid, mtime, ...(xattrs === undefined ? {} : { xattrs }) };
    ops.push({ op: 'dir', path, attributes });
  }
  await tree.apply({ type: 'directory', path: captured.folder, readonly: false }, ops);
  return captured.changes.filter((change) => change.kind !== 'opaque' || !idle.has(change.path));
}
