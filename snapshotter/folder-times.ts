import { utimes } from 'node:fs/promises';
import {
  type Change,
  type Entry,
  errnoOf,
  FOLDER_TIME,
  fsPath,
  type HostPath,
  type ImagePath,
  joinHost,
  type Tree,
  type TreeOp,
  type TreeOps,
} from '../core/index.ts';

export interface FolderTimes {
  readonly tree: TreeOps;
  readonly userXattrs: boolean;
  /** A diff in OverlayFS form that nobody has mounted. */
  readonly folder: HostPath;
  readonly parent: Tree;
}

/** More folders than these are worth a process of the native program. */
const FEW = 64;

/**
 * Gives the folders among `changes` that the parent has too {@link FOLDER_TIME}, on disk and in the changes that it returns.
 *
 * @param changes those of the diff in `folder`.
 */
export async function setFolderTimes(
  times: FolderTimes,
  changes: readonly Change[],
): Promise<readonly Change[]> {
  const fixed = new Map<ImagePath, Entry>();
  for (const change of changes) {
    if (change.kind !== 'set' || change.entry.type !== 'dir') continue;
    const { path } = change.entry;
    if ((await times.parent.lstat(path))?.type === 'dir') {
      fixed.set(path, { ...change.entry, mtime: FOLDER_TIME });
    }
  }
  if (fixed.size === 0) return changes;
  const marked = new Set(changes.flatMap((change) => (change.kind === 'opaque' ? [change.path] : [])));
  const folders = [...fixed.values()];
  if (folders.length > FEW || !(await setEach(times.folder, folders))) {
    const ops = folders.map((entry) => dirOp(entry, marked.has(entry.path), times.userXattrs));
    await times.tree.apply({ type: 'directory', path: times.folder, readonly: false }, ops);
  }
  return changes.map((change) => {
    const entry = change.kind === 'set' ? fixed.get(change.entry.path) : undefined;
    return entry === undefined ? change : { kind: 'set', entry };
  });
}

/** False where a path is too long for one call. */
async function setEach(folder: HostPath, entries: readonly Entry[]): Promise<boolean> {
  const { sec } = FOLDER_TIME;
  try {
    await Promise.all(entries.map(({ path }) => utimes(fsPath(joinHost(folder, path)), sec, sec)));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENAMETOOLONG') return false;
    throw error;
  }
}

/** Giving a folder its attributes takes away those that are not listed: a mark must be listed to stay. */
function dirOp(entry: Entry, opaque: boolean, userXattrs: boolean): TreeOp {
  const { path, mode, uid, gid, mtime } = entry;
  const mark = { [`${userXattrs ? 'user' : 'trusted'}.overlay.opaque`]: Buffer.from('y') };
  const xattrs = { ...entry.xattrs, ...(opaque ? mark : {}) };
  return { op: 'dir', path, attributes: { mode, uid, gid, mtime, xattrs } };
}
