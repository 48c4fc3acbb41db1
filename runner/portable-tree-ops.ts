import { rm } from 'node:fs/promises';
import { fsPath, type HostPath, MachineError, type TreeOps } from '../core/index.ts';
import { changesOf, scanEntries } from './portable-scan.ts';
import { PortableTree, treeError } from './portable-tree.ts';

/**
 * {@link TreeOps} without the native program, for machines where none could be compiled: Node's own calls, and mknod, getfattr
 * and setfattr for what Node cannot do. Slower, and it lacks overlays (`mount-failed`), sockets, and the last digits of
 * nanoseconds in time stamps.
 */
export function createPortableTreeOps(): TreeOps {
  return {
    async apply(root, ops, signal) {
      if (root.type === 'overlay') {
        throw new MachineError('mount-failed', "overlays cannot be mounted without varve's native program");
      }
      const tree = new PortableTree(root.path);
      for await (const op of ops) {
        signal?.throwIfAborted();
        await tree.apply(op);
      }
      await tree.finish();
    },
    scanDiff: async (folder, options) => changesOf(await named(folder, scanEntries(folder)), options),
    scanTree: (folder) => named(folder, scanEntries(folder)),
    async removeAll(folders) {
      for (const folder of folders) await named(folder, rm(fsPath(folder), { recursive: true, force: true }));
    },
  };
}

async function named<T>(path: HostPath, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw treeError(error, path);
  }
}
