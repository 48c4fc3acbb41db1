import {
  type Change,
  type Entry,
  FOLDER_TIME,
  type HostPath,
  type ImagePath,
  joinPath,
  ROOT_PATH,
  type Tree,
} from '../core/index.ts';
import type { PackOptions } from './contract.ts';
import { asyncTar } from './layer-tar.ts';

/** A tree, and the folder of the tar that it goes into. */
export interface PlacedTree {
  readonly tree: Tree;
  readonly below: ImagePath;
}

/**
 * Whole trees as a tar, in path order, without their root folders: what `--output type=tar` writes. The same trees give the
 * same bytes.
 */
export async function* treeTar(
  trees: readonly PlacedTree[],
  options: PackOptions = {},
): AsyncGenerator<Uint8Array> {
  const files = new Map<string, HostPath>();
  const changes = new Map<string, Change>();
  for (const { tree, below } of trees) {
    if (below !== ROOT_PATH) changes.set(below, { kind: 'set', entry: folder(below) });
    for await (const entry of walk(tree)) {
      options.signal?.throwIfAborted();
      const placed = below === ROOT_PATH ? entry : placedBelow(below, entry);
      changes.set(placed.path, { kind: 'set', entry: placed });
      const hasBytes = entry.type === 'file' && entry.hardlinkTo === undefined && entry.size > 0;
      if (hasBytes) files.set(placed.path, await tree.hostPath(entry.path));
    }
  }
  const hostPath = (path: string): HostPath => {
    const file = files.get(path);
    if (file === undefined) throw new Error(`no bytes were looked up for ${JSON.stringify(path)}`);
    return file;
  };
  yield* asyncTar({ changes: [...changes.values()], hostPath }, options);
}

function placedBelow(below: ImagePath, entry: Entry): Entry {
  const { hardlinkTo } = entry;
  return {
    ...entry,
    path: joinPath(below, entry.path),
    ...(hardlinkTo === undefined ? {} : { hardlinkTo: joinPath(below, hardlinkTo) }),
  };
}

function folder(path: ImagePath): Entry {
  return { path, type: 'dir', mode: 0o755, uid: 0, gid: 0, size: 0, mtime: FOLDER_TIME };
}

async function* walk(tree: Tree): AsyncGenerator<Entry> {
  const folders = [ROOT_PATH];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of await tree.list(folder)) {
      yield entry;
      if (entry.type === 'dir') folders.push(entry.path);
    }
  }
}
