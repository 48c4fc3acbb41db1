import {
  type Change,
  changePath,
  comparePaths,
  FOLDER_TIME,
  type ImagePath,
  parentPath,
} from '../core/index.ts';
import type { DiffIndex } from './diff-index.ts';
import { MergedView, type TreeLayer } from './merged-view.ts';

/** What a diff comes to with a patch on it: both lists and the result are in path order, and hold no marks. */
export function patched(original: readonly Change[], own: readonly Change[]): readonly Change[] {
  const merged: Change[] = [];
  let at = 0;
  for (const change of own) {
    const path = changePath(change);
    for (let next = original[at]; next !== undefined; next = original[at]) {
      const order = comparePaths(changePath(next), path);
      if (order > 0) break;
      if (order < 0) merged.push(next);
      at += 1;
    }
    merged.push(change);
  }
  for (; at < original.length; at += 1) merged.push(original[at] as Change);
  return merged;
}

/** Whether the overlay shows a diff with these changes laid over it as {@link patched} has them: a folder only comes where one was or nothing. */
export function fitsOriginal(own: readonly Change[], original: DiffIndex): boolean {
  return own.every((change) => {
    if (change.kind !== 'set' || change.entry.hardlinkTo !== undefined || change.entry.xattrs !== undefined) {
      return false;
    }
    const was = original.verdict(change.entry.path);
    if (was === undefined) return true;
    return was.kind === 'entry' && (was.entry.type === 'dir') === (change.entry.type === 'dir');
  });
}

/**
 * Whether a diff of these changes, without marks, is what comes of making them on the stack of `parent` (topmost first) with the times
 * of folders fixed: on another one new folders would hide what lies below (a mark), or other folders would count as new.
 */
export async function fitsParent(changes: readonly Change[], parent: readonly TreeLayer[]): Promise<boolean> {
  const view = await MergedView.load(parent);
  /** The topmost folders that the parent does not have. */
  const fresh = new Set<ImagePath>();
  for (const change of changes) {
    if (change.kind !== 'set') return false;
    const { path, type, mtime } = change.entry;
    const folder = parentPath(path);
    const isNew = fresh.has(folder);
    if (type === 'dir') {
      if (isNew) {
        fresh.add(path);
        continue;
      }
      const existing = view.find(path);
      if (existing?.entry.type === 'dir') {
        if (mtime.sec !== FOLDER_TIME.sec || mtime.nsec !== FOLDER_TIME.nsec) return false;
      } else if (view.isMentioned(path)) return false;
      else fresh.add(path);
    } else if (!isNew && view.find(path)?.entry.type === 'dir') return false;
  }
  return true;
}
