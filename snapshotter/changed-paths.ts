import { changePath, type ImagePath, type PathState, ROOT_PATH } from '../core/index.ts';
import type { TreeLayer } from './merged-view.ts';
import { observeLayers } from './observed-tree.ts';
import { emptyRoot } from './root-folder.ts';
import { sameAttributes } from './tree-compare.ts';

/**
 * How many names, folders apart, differ between two stacks of diffs, topmost first. Only names that a diff of one stack alone
 * speaks of are looked at, and files are compared by what `lstat` says of them: a number for people, at no cost.
 *
 * @param hasBase whether other diffs lie below both.
 */
export async function countChangedPaths(
  before: readonly TreeLayer[],
  after: readonly TreeLayer[],
  hasBase: boolean,
): Promise<number> {
  const [old, now] = [new Set(before), new Set(after)];
  const single = [...before.filter((layer) => !now.has(layer)), ...after.filter((layer) => !old.has(layer))];
  const paths = new Set<ImagePath>();
  for (const layer of single) {
    for (const change of (await layer.index()).changes) paths.add(changePath(change));
  }
  paths.delete(ROOT_PATH);
  const root = emptyRoot();
  const was = await observeLayers({ layers: before, root, hasBase });
  const is = await observeLayers({ layers: after, root, hasBase });
  let count = 0;
  for (const path of paths) if (differs(was.state(path), is.state(path))) count++;
  return count;
}

function differs(was: PathState, is: PathState): boolean {
  if (isFolderOrAbsent(was) && isFolderOrAbsent(is)) return false;
  if (was.kind !== 'present' || is.kind !== 'present') return was.kind !== is.kind;
  return !sameAttributes(was.entry, is.entry);
}

function isFolderOrAbsent(state: PathState): boolean {
  return state.kind === 'absent' || (state.kind === 'present' && state.entry.type === 'dir');
}
