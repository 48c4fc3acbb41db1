import {
  changePath,
  decodePath,
  type ImagePath,
  joinPath,
  type PathState,
  parentPath,
  ROOT_PATH,
} from '../core/index.ts';
import type { DiffIndex } from './diff-index.ts';
import type { FolderFacts } from './folder-facts.ts';
import type { TreeLayer } from './merged-view.ts';
import { observeLayers } from './observed-tree.ts';
import { emptyRoot } from './root-folder.ts';
import { changesBetween, type DiffChange } from './stack-changes.ts';
import { sameAttributes } from './tree-compare.ts';

/**
 * How many names, folders apart, differ between two stacks of diffs, topmost first: a number for people, at little cost.
 *
 * @param hasBase whether other diffs lie below both.
 */
export async function countChangedPaths(
  before: readonly TreeLayer[],
  after: readonly TreeLayer[],
  hasBase: boolean,
): Promise<number> {
  return (await countInFolders(before, after)) ?? (await countInStates(before, after, hasBase));
}

/**
 * As far as the diffs that differ were written down by folders: what they say of other names, where no diff above hides both. Undefined
 * where they were not.
 */
async function countInFolders(
  before: readonly TreeLayer[],
  after: readonly TreeLayer[],
): Promise<number | undefined> {
  if (before.length !== after.length) return undefined;
  const paths = new Set<ImagePath>();
  const above: DiffIndex[] = [];
  for (const [at, layer] of after.entries()) {
    const was = before[at];
    if (was !== undefined && was !== layer) {
      const [old, now] = [was.folders(), layer.folders()];
      const changes = old === undefined || now === undefined ? undefined : changesBetween(old, now);
      if (changes === undefined) return undefined;
      for (const change of changes) {
        for (const path of namesOf(change)) if (!isHidden(path, above)) paths.add(path);
      }
    }
    above.push(await layer.index());
  }
  return paths.size;
}

/** The names of a change that are no folders. */
function namesOf({ path, reach, was, is }: DiffChange): readonly ImagePath[] {
  const isOfFolders = was?.inside !== undefined || is?.inside !== undefined;
  if (reach === 'path') return isOfFolders ? [] : [path];
  const isOther = [was, is].some((one) => one !== undefined && one.inside === undefined);
  return [...(isOther ? [path] : []), ...namesIn(was?.inside, path), ...namesIn(is?.inside, path)];
}

function namesIn(folder: FolderFacts | undefined, path: ImagePath): readonly ImagePath[] {
  return (folder?.names() ?? []).flatMap(({ name, inside }) => {
    const child = joinPath(path, decodePath(name));
    return inside === undefined ? [child] : namesIn(inside, child);
  });
}

function isHidden(path: ImagePath, above: readonly DiffIndex[]): boolean {
  return above.some((index) => {
    if (index.verdict(path) !== undefined) return true;
    for (let at = parentPath(path); at !== ROOT_PATH; at = parentPath(at)) {
      const verdict = index.verdict(at);
      if (verdict === undefined) continue;
      if (verdict.kind === 'whiteout' || verdict.entry.type !== 'dir' || index.isOpaque(at)) return true;
    }
    return false;
  });
}

/**
 * Only names that a diff of one stack alone speaks of are looked at, and files are compared by what `lstat` says of them.
 */
async function countInStates(
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
