import type { Digest } from './digest.ts';
import type { Entry } from './entry.ts';
import { type HostPath, type ImagePath, imagePath, joinPath, parentPath, ROOT_PATH } from './path.ts';
import type { Soon } from './soon.ts';

/**
 * A read-only tree of files: a build context, or the merged view of a snapshot. Paths are literal: no method
 * follows a symlink, neither in the last part nor on the way; {@link resolvePath} does that on top.
 */
export interface Tree {
  /** What lies at `path`, or undefined where nothing does (also where a part on the way is no folder). */
  lstat(path: ImagePath): Soon<Entry | undefined>;
  /** The entries of a folder in path order; empty where `path` is no folder. */
  list(path: ImagePath): Promise<readonly Entry[]>;
  /** The digest of a regular file's bytes. @throws Error where `path` is no regular file. */
  digest(path: ImagePath): Promise<Digest>;
  /** `digest` of each, for many at once. Absent: they are asked for one by one. */
  digests?(paths: readonly ImagePath[]): Promise<readonly Digest[]>;
  /** Says that all below the folder will be listed, which then takes less time. */
  readAhead?(folder: ImagePath): Promise<void>;
  /** Where a regular file's bytes can be read on this machine, until the tree is disposed of. */
  hostPath(path: ImagePath): Soon<HostPath>;
}

/** The kernel's limit of symlinks on one look-up (path_resolution(7)). */
const MAX_SYMLINKS = 40;

export interface ResolvedPath {
  /** The path with every symlink on the way resolved inside the root; parts after the first absent one are kept. */
  readonly path: ImagePath;
  readonly entry: Entry | undefined;
}

/**
 * Follows symlinks as a process whose root is the tree's root would: absolute targets start at the root and `..` stops
 * there. `followLast` tells whether a symlink in the last part is followed too.
 *
 * @returns the resolved path, or undefined where there are more than 40 symlinks on the way.
 */
export async function resolvePath(
  tree: Tree,
  path: ImagePath,
  options: { readonly followLast: boolean },
): Promise<ResolvedPath | undefined> {
  let todo = path === '' ? [] : path.split('/');
  let at = ROOT_PATH;
  let links = 0;
  let entry = await tree.lstat(ROOT_PATH);
  while (todo.length > 0) {
    const [part, ...rest] = todo;
    if (part === undefined) break;
    todo = rest;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at = parentPath(at);
      entry = await tree.lstat(at);
      continue;
    }
    const next = joinPath(at, part);
    entry = await tree.lstat(next);
    if (entry?.type === 'symlink' && (rest.length > 0 || options.followLast)) {
      links += 1;
      if (links > MAX_SYMLINKS) return undefined;
      const target = entry.linkTarget ?? '';
      if (target.startsWith('/')) at = ROOT_PATH;
      todo = [...target.split('/'), ...rest];
      entry = await tree.lstat(at);
      continue;
    }
    at = next;
    if (entry === undefined) return { path: imagePath(rest.join('/'), at), entry: undefined };
  }
  return { path: at, entry };
}
