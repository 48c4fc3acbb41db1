import { type Change, type Entry, type HostPath, ROOT_PATH, type Tree } from '../core/index.ts';
import type { PackOptions } from './contract.ts';
import { asyncTar } from './layer-tar.ts';

/**
 * A whole tree as a tar, in path order, without its root folder: what `--output type=tar` writes. The same tree gives the
 * same bytes.
 */
export async function* treeTar(tree: Tree, options: PackOptions = {}): AsyncGenerator<Uint8Array> {
  const files = new Map<string, HostPath>();
  const changes: Change[] = [];
  for await (const entry of walk(tree)) {
    options.signal?.throwIfAborted();
    changes.push({ kind: 'set', entry });
    const hasBytes = entry.type === 'file' && entry.hardlinkTo === undefined && entry.size > 0;
    if (hasBytes) files.set(entry.path, await tree.hostPath(entry.path));
  }
  const hostPath = (path: string): HostPath => {
    const file = files.get(path);
    if (file === undefined) throw new Error(`no bytes were looked up for ${JSON.stringify(path)}`);
    return file;
  };
  yield* asyncTar({ changes, hostPath }, options);
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
