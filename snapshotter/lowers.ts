import { lstat } from 'node:fs/promises';
import { errnoOf, fsPath, type HostPath, type ImagePath, joinHost } from '../core/index.ts';

/** Whether a diff below says anything of `path`. One that only seems to, by way of a symlink, keeps a mark that is idle. */
export async function liesInAny(lowers: readonly HostPath[], path: ImagePath): Promise<boolean> {
  for (const lower of lowers) {
    try {
      await lstat(fsPath(joinHost(lower, path)));
      return true;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ENOENT' || errno === 'ENOTDIR') continue;
      if (errno === 'ELOOP' || errno === 'ENAMETOOLONG') return true;
      throw error;
    }
  }
  return false;
}
