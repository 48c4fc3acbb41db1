import { type FileType, type ImagePath, imagePath, joinPath, type Soon } from '../core/index.ts';

/** What lies at a path, as far as a look-up of names needs it. */
export interface NameAt {
  readonly type: FileType;
  readonly linkTarget?: string | undefined;
}

/** The kernel's limit of symlinks on one look-up (path_resolution(7)). */
const MAX_SYMLINKS = 40;

/**
 * Follows `path`, which is relative to `folder`, as a process whose root is `folder` would: what it leads to lies within,
 * whatever symlinks say. Parts that are absent are kept.
 *
 * @returns the path in the tree without any symlink on it; undefined where there are more than 40 symlinks on the way.
 */
export async function resolveWithin(
  folder: ImagePath,
  path: ImagePath,
  look: (path: ImagePath) => Soon<NameAt | undefined>,
): Promise<ImagePath | undefined> {
  let todo: readonly string[] = path.split('/');
  let at: readonly string[] = [];
  let links = 0;
  while (todo.length > 0) {
    const [part = '', ...rest] = todo;
    todo = rest;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at = at.slice(0, -1);
      continue;
    }
    const found = await look(joinPath(imagePath(at.join('/'), folder), part));
    if (found?.type !== 'symlink') {
      at = [...at, part];
      continue;
    }
    links += 1;
    if (links > MAX_SYMLINKS) return undefined;
    const target = found.linkTarget ?? '';
    if (target.startsWith('/')) at = [];
    todo = [...target.split('/'), ...rest];
  }
  return imagePath(at.join('/'), folder);
}
