import {
  decodePath,
  type ImagePath,
  joinPath,
  parentPath,
  ROOT_PATH,
  type TreeChange,
} from '../core/index.ts';
import { differBesidesTime, type FolderFacts, type NameFacts } from './folder-facts.ts';

/** More changes than these are not told: to go through all paths is then as fast. */
const MOST_CHANGES = 1000;

const NO_BYTES = Buffer.alloc(0);

/** A change with what the diffs say of the name; undefined where one says nothing. */
export interface DiffChange extends TreeChange {
  readonly was: NameFacts | undefined;
  readonly is: NameFacts | undefined;
}

/**
 * Where two diffs say something else, in no order. A change of what a name is (nothing, a folder, an opaque folder, a whiteout, a
 * file...) also reaches what lies below it; of a folder that comes or goes only itself is told.
 *
 * The look-up rules of an overlay ask a diff for nothing else of a name above an observed path, so a path without a change at it, and without
 * one that reaches below at a folder above it, is found in the same diff of a stack as before, with the same facts.
 *
 * @returns undefined where they are too many.
 */
export function changesBetween(before: FolderFacts, after: FolderFacts): readonly DiffChange[] | undefined {
  const changes: DiffChange[] = [];
  return compare(before, after, { path: ROOT_PATH, changes }) ? changes : undefined;
}

/**
 * Whether two diffs surely left something else at a path that is no noise, in more than times. False where that would have to be looked
 * at more closely.
 *
 * @param isNoise whether what lies at a path, with all below it, is of no account.
 */
export function surelyDiffer(
  one: FolderFacts,
  other: FolderFacts,
  isNoise: (path: ImagePath) => boolean,
): boolean {
  const isCovered = (path: ImagePath): boolean =>
    path !== ROOT_PATH && (isNoise(path) || isCovered(parentPath(path)));
  const changes = changesBetween(one, other) ?? [];
  return changes.some(({ path, was, is }) => {
    if (isCovered(path)) return false;
    return was === undefined || is === undefined || was.kind !== is.kind || differBesidesTime(was, is);
  });
}

interface Place {
  readonly path: ImagePath;
  readonly changes: DiffChange[];
}

/** False as soon as there are too many. */
function compare(before: FolderFacts, after: FolderFacts, { path, changes }: Place): boolean {
  if (before.digest.equals(after.digest)) return true;
  const [old, now] = [before.names(), after.names()];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (changes.length > MOST_CHANGES) return false;
    const [was, is] = [old[i], now[j]];
    const order = orderOf(was, is);
    if (order <= 0) i += 1;
    if (order >= 0) j += 1;
    if (was === undefined || is === undefined || order !== 0 || was.kind !== is.kind) {
      const pair = { was: order <= 0 ? was : undefined, is: order >= 0 ? is : undefined };
      changes.push({ path: childOf(path, pair.was ?? pair.is), reach: 'below', ...pair });
      continue;
    }
    if (!was.facts.equals(is.facts)) changes.push({ path: childOf(path, is), reach: 'path', was, is });
    if (was.inside === undefined || is.inside === undefined || was.inside.digest.equals(is.inside.digest)) {
      continue;
    }
    if (!compare(was.inside, is.inside, { path: childOf(path, is), changes })) return false;
  }
  return changes.length <= MOST_CHANGES;
}

function childOf(folder: ImagePath, one: NameFacts | undefined): ImagePath {
  return joinPath(folder, decodePath(one?.name ?? NO_BYTES));
}

/** Which name comes first; a side that has come to its end has none. */
function orderOf(was: NameFacts | undefined, is: NameFacts | undefined): number {
  if (was === undefined) return 1;
  return is === undefined ? -1 : Buffer.compare(was.name, is.name);
}
