import {
  type Attributes,
  baseName,
  type Entry,
  type FileContent,
  type FileType,
  FOLDER_TIME,
  type ImagePath,
  imagePath,
  joinPath,
  parentPath,
  resolvePath,
  type SourceRange,
  type Time,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import type { SelectedRoot } from './copy-selection.ts';
import { entryOp } from './entry-op.ts';
import { stop } from './stop.ts';

/** How a COPY gives owners and modes. */
export interface Placement {
  /** Absolute; a trailing slash asks for a folder. */
  readonly destination: string;
  /** Owner of all that is copied and of folders made on the way; absent: as the source has it (and 0:0 for folders). */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Permission bits of all that is copied; absent: as the source has them. */
  readonly mode?: number;
  readonly range: SourceRange;
}

/** A selected root with the way to the bytes of its files, by their paths in the tree it was selected from. */
export interface PlacedSource {
  readonly root: SelectedRoot;
  readonly contentOf: (path: ImagePath) => Promise<FileContent>;
  /** The time that a copied entry gets at `target`. */
  readonly timeOf: (entry: Entry, target: ImagePath) => Promise<Time>;
}

const NEW_FOLDER_MODE = 0o755;

/**
 * Turns selected sources into operations on the parent's tree, by Docker's destination rules: a folder's content is copied, a file
 * goes into a destination that is a folder or ends with a slash, and otherwise becomes the destination. Symlinks in the
 * destination are resolved inside the root. The destination itself, where it is made, has mode 0755, whatever folder is copied;
 * where it exists, it keeps its attributes. Folders below it take the source's.
 */
export async function placeSources(
  parent: Tree,
  sources: readonly PlacedSource[],
  placement: Placement,
): Promise<readonly TreeOp[]> {
  const wantsFolder = placement.destination.endsWith('/');
  const resolved = await resolvePath(parent, imagePath(placement.destination), { followLast: true });
  if (resolved === undefined) {
    stop('too-many-symlinks', `${placement.destination}: too many levels of symbolic links`, {
      range: placement.range,
    });
  }
  const { path: destination, entry } = resolved;
  if (wantsFolder && entry !== undefined && entry.type !== 'dir') refuseNonFolder(destination, placement);
  const progress: Progress = { ops: [], placed: new Map(), placement };
  let isFolder = wantsFolder || entry?.type === 'dir';
  if (wantsFolder) await makeFolders(parent, destination, progress);
  for (const source of sources) {
    const { root } = source;
    if (root.entry.type === 'dir') {
      await makeFolders(parent, destination, progress);
      await placeFolder(parent, source, { ...progress, destination });
      isFolder = true;
    } else {
      if (!isFolder && sources.length > 1) refuseSeveral(sources.length, placement);
      const target = isFolder ? joinPath(destination, baseName(root.path)) : destination;
      await makeFolders(parent, parentPath(target), progress);
      await refuseClash(parent, { path: target, type: root.entry.type }, progress);
      progress.ops.push(
        await placeEntry(source, { entry: root.entry, from: root.resolved }, { path: target, placement }),
      );
    }
  }
  return progress.ops;
}

interface Progress {
  readonly ops: TreeOp[];
  /** What earlier operations of this COPY make. */
  readonly placed: Map<ImagePath, FileType>;
  readonly placement: Placement;
}

/** What lies at `path` when the operations so far are done. */
async function typeAt(parent: Tree, path: ImagePath, progress: Progress): Promise<FileType | undefined> {
  return path === '' ? 'dir' : (progress.placed.get(path) ?? (await parent.lstat(path))?.type);
}

/** Makes the missing folders of a resolved path. */
async function makeFolders(parent: Tree, path: ImagePath, progress: Progress): Promise<void> {
  const missing: ImagePath[] = [];
  for (let at = path; at !== ''; at = parentPath(at)) {
    const type = await typeAt(parent, at, progress);
    if (type === 'dir') break;
    if (type !== undefined) refuseNonFolder(at, progress.placement);
    missing.push(at);
  }
  const owner = progress.placement.owner ?? { uid: 0, gid: 0 };
  for (const folder of missing.reverse()) {
    progress.placed.set(folder, 'dir');
    const attributes = { mode: NEW_FOLDER_MODE, ...owner, mtime: FOLDER_TIME };
    progress.ops.push({ op: 'ensureDir', path: folder, attributes });
  }
}

async function placeFolder(
  parent: Tree,
  source: PlacedSource,
  progress: Progress & { readonly destination: ImagePath },
): Promise<void> {
  const { destination, ops, placement } = progress;
  const copied = new Map<ImagePath, ImagePath>();
  for (const { path, entry } of source.root.inside) {
    const target = imagePath(path, destination);
    await refuseClash(parent, { path: target, type: entry.type }, progress);
    const first = entry.hardlinkTo === undefined ? undefined : copied.get(entry.hardlinkTo);
    if (first !== undefined) ops.push({ op: 'hardlink', path: target, target: first });
    else ops.push(await placeEntry(source, { entry, from: entry.path }, { path: target, placement }));
    if (entry.type === 'file') copied.set(entry.hardlinkTo ?? entry.path, first ?? target);
  }
}

/** A folder never replaces a file, and a file never replaces a folder, be it the parent's or one that was just copied. */
async function refuseClash(
  parent: Tree,
  target: { readonly path: ImagePath; readonly type: FileType },
  progress: Progress,
): Promise<void> {
  const { path, type } = target;
  const existing = await typeAt(parent, path, progress);
  if (type === 'dir' && existing !== undefined && existing !== 'dir')
    refuseNonFolder(path, progress.placement);
  if (type !== 'dir' && existing === 'dir') {
    stop('copy-over-folder', `cannot replace to directory /${path} with file`, {
      range: progress.placement.range,
      hint: 'Remove the folder in a RUN before, or copy to another name.',
    });
  }
  progress.placed.set(path, type);
}

function refuseNonFolder(path: ImagePath, placement: Placement): never {
  stop('copy-destination-not-folder', `cannot copy to non-directory: /${path}`, { range: placement.range });
}

function refuseSeveral(count: number, placement: Placement): never {
  const { destination, range } = placement;
  stop(
    'copy-destination-not-folder',
    `${count} files cannot become one: the destination ${destination} is no folder`,
    { range, hint: `Write ${destination}/ instead of ${destination}.` },
  );
}

function attributesOf(entry: Entry, placement: Placement, mtime: Time): Attributes {
  return {
    mode: placement.mode ?? entry.mode,
    uid: placement.owner?.uid ?? entry.uid,
    gid: placement.owner?.gid ?? entry.gid,
    mtime,
    ...(entry.xattrs === undefined ? {} : { xattrs: entry.xattrs }),
  };
}

async function placeEntry(
  source: PlacedSource,
  what: { readonly entry: Entry; readonly from: ImagePath },
  target: { readonly path: ImagePath; readonly placement: Placement },
): Promise<TreeOp> {
  const mtime = await source.timeOf(what.entry, target.path);
  const attributes = attributesOf(what.entry, target.placement, mtime);
  return entryOp(what.entry, { path: target.path, attributes }, () => source.contentOf(what.from));
}
