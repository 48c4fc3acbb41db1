import { comparePaths, type Entry, type ImagePath, parentPath, ROOT_PATH } from '../core/index.ts';
import { sameXattrs } from './root-folder.ts';

/** What must be written down so that `before` with the changes laid on it is `after`. */
export interface Difference {
  /** Entries of `after` in path order: all that changed, and every folder on the way to a change. */
  readonly set: readonly Entry[];
  /** Names of `before` that are gone, in path order, none below another or below a name that is a folder no longer. */
  readonly gone: readonly ImagePath[];
}

export interface Touched {
  readonly touched: ReadonlySet<ImagePath>;
  readonly isReplaced: (path: ImagePath) => boolean;
}

/**
 * Compares two listings of a plain folder, both in path order.
 *
 * @param touched entries that changed although every attribute is the same.
 * @param isReplaced whether a name is a folder that is another one than before, or lies in one: nothing of what was there shows.
 */
export function compareTrees(
  before: readonly Entry[],
  after: readonly Entry[],
  { touched, isReplaced }: Touched,
): Difference {
  const old = new Map(before.map((entry) => [entry.path, entry]));
  const now = new Map(after.map((entry) => [entry.path, entry]));
  const changed = new Set<ImagePath>();
  for (const entry of after) {
    const was = old.get(entry.path);
    if (
      was === undefined ||
      !sameAttributes(was, entry) ||
      touched.has(entry.path) ||
      isReplaced(entry.path)
    ) {
      changed.add(entry.path);
    }
  }
  markRegrouped(old, after, changed);
  markWholeGroups(after, changed);
  const gone = findGone(before, now).filter((path) => !isReplaced(parentPath(path)));
  const set = new Set<ImagePath>([ROOT_PATH]);
  for (const path of [...changed, ...gone]) {
    if (changed.has(path)) set.add(path);
    for (let at = path; at !== ROOT_PATH; ) {
      at = parentPath(at);
      if (set.has(at)) break;
      set.add(at);
    }
  }
  return { set: after.filter((entry) => set.has(entry.path)), gone };
}

/** Whether two entries of one path are the same, hard links and content apart. */
export function sameAttributes(a: Entry, b: Entry): boolean {
  return (
    a.type === b.type &&
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.size === b.size &&
    a.mtime.sec === b.mtime.sec &&
    a.mtime.nsec === b.mtime.nsec &&
    a.linkTarget === b.linkTarget &&
    a.device?.major === b.device?.major &&
    a.device?.minor === b.device?.minor &&
    sameXattrs(a, b)
  );
}

function leaderOf(entry: Entry): ImagePath {
  return entry.hardlinkTo ?? entry.path;
}

/**
 * Marks names that were one file and are several now, or the other way round. A group that only lost names is the same
 * file still.
 */
function markRegrouped(
  old: ReadonlyMap<ImagePath, Entry>,
  after: readonly Entry[],
  changed: Set<ImagePath>,
): void {
  const wasOf = new Map<ImagePath, ImagePath>();
  const isOf = new Map<ImagePath, ImagePath>();
  const torn = new Set<ImagePath>();
  for (const entry of after) {
    const was = old.get(entry.path);
    if (was === undefined || entry.type === 'dir') continue;
    const [wasLeader, isLeader] = [leaderOf(was), leaderOf(entry)];
    if ((wasOf.get(isLeader) ?? wasLeader) !== wasLeader || (isOf.get(wasLeader) ?? isLeader) !== isLeader) {
      torn.add(wasLeader).add(wasOf.get(isLeader) ?? wasLeader);
    }
    wasOf.set(isLeader, wasLeader);
    isOf.set(wasLeader, isLeader);
  }
  if (torn.size === 0) return;
  for (const entry of after) {
    const was = old.get(entry.path);
    if (was !== undefined && torn.has(leaderOf(was))) changed.add(entry.path);
  }
}

/** A changed file is written down with all its names: those left below would be another file. */
function markWholeGroups(after: readonly Entry[], changed: Set<ImagePath>): void {
  const groups = new Set<ImagePath>();
  for (const entry of after) {
    if (entry.type !== 'dir' && changed.has(entry.path)) groups.add(leaderOf(entry));
  }
  for (const entry of after) {
    if (entry.type !== 'dir' && groups.has(leaderOf(entry))) changed.add(entry.path);
  }
}

function findGone(before: readonly Entry[], now: ReadonlyMap<ImagePath, Entry>): ImagePath[] {
  const gone: ImagePath[] = [];
  for (const { path } of before) {
    if (path !== ROOT_PATH && !now.has(path) && now.get(parentPath(path))?.type === 'dir') gone.push(path);
  }
  return gone.sort(comparePaths);
}
