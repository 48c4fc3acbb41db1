import {
  type Attributes,
  baseName,
  type Entry,
  type FileContent,
  type ImagePath,
  imagePath,
  joinPath,
  parentPath,
  resolvePath,
  type SourceRange,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import type { SelectedRoot } from './copy-selection.ts';
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
}

const NEW_FOLDER_MODE = 0o755;

/**
 * Turns selected sources into operations on the parent's tree, by Docker's destination rules: a folder's content is copied, a file
 * goes into a destination that is a folder or ends with a slash, and otherwise becomes the destination. Symlinks in the
 * destination are resolved inside the root. Existing folders keep their attributes at the destination itself and take
 * the source's below it.
 */
export async function placeSources(
  parent: Tree,
  sources: readonly PlacedSource[],
  placement: Placement,
): Promise<readonly TreeOp[]> {
  const ops: TreeOp[] = [];
  const wantsFolder = placement.destination.endsWith('/');
  const resolved = await resolvePath(parent, imagePath(placement.destination), { followLast: true });
  if (resolved === undefined) {
    stop('too-many-symlinks', `${placement.destination}: too many levels of symbolic links`, {
      range: placement.range,
    });
  }
  const destination = resolved.path;
  let isFolder = wantsFolder || resolved.entry?.type === 'dir';
  if (wantsFolder && resolved.entry !== undefined && resolved.entry.type !== 'dir') {
    stop('copy-destination-not-folder', `cannot copy to non-directory: /${destination}`, {
      range: placement.range,
    });
  }
  const made = new Set<ImagePath>();
  if (wantsFolder) await makeFolders(parent, destination, { ops, made, placement });
  for (const source of sources) {
    const { root } = source;
    if (root.entry.type === 'dir') {
      await makeFolders(parent, parentPath(destination), { ops, made, placement });
      await placeFolder(parent, source, { destination, ops, made, placement });
      isFolder = true;
    } else {
      const target = isFolder ? joinPath(destination, baseName(root.path)) : destination;
      await makeFolders(parent, parentPath(target), { ops, made, placement });
      await refuseFolder(parent, target, placement);
      ops.push(
        await placeEntry(source, { entry: root.entry, from: root.resolved }, { path: target, placement }),
      );
    }
  }
  return ops;
}

interface Progress {
  readonly ops: TreeOp[];
  /** Folders that earlier operations of this COPY make. */
  readonly made: Set<ImagePath>;
  readonly placement: Placement;
}

/** Makes the missing folders of a resolved path. */
async function makeFolders(parent: Tree, path: ImagePath, progress: Progress): Promise<void> {
  const missing: ImagePath[] = [];
  for (let at = path; at !== '' && !progress.made.has(at); at = parentPath(at)) {
    const entry = await parent.lstat(at);
    if (entry?.type === 'dir') break;
    if (entry !== undefined) {
      stop('copy-destination-not-folder', `cannot copy to non-directory: /${at}`, {
        range: progress.placement.range,
      });
    }
    missing.push(at);
  }
  const owner = progress.placement.owner ?? { uid: 0, gid: 0 };
  for (const folder of missing.reverse()) {
    progress.made.add(folder);
    progress.ops.push({ op: 'ensureDir', path: folder, attributes: { mode: NEW_FOLDER_MODE, ...owner } });
  }
}

async function placeFolder(
  parent: Tree,
  source: PlacedSource,
  progress: Progress & { readonly destination: ImagePath },
): Promise<void> {
  const { destination, ops, made, placement } = progress;
  const { root } = source;
  const existing = destination === '' ? undefined : await parent.lstat(destination);
  if (existing !== undefined && existing.type !== 'dir') {
    stop('copy-destination-not-folder', `cannot copy to non-directory: /${destination}`, {
      range: placement.range,
    });
  }
  const merges = destination === '' || existing !== undefined;
  if (!merges && !made.has(destination)) {
    ops.push({ op: 'dir', path: destination, attributes: attributesOf(root.entry, placement) });
    made.add(destination);
  }
  const copied = new Map<ImagePath, ImagePath>();
  for (const { path, entry } of root.inside) {
    const target = imagePath(path, destination);
    if (merges) await refuseClash(parent, { path: target, entry }, placement);
    const first = entry.hardlinkTo === undefined ? undefined : copied.get(entry.hardlinkTo);
    if (first !== undefined) ops.push({ op: 'hardlink', path: target, target: first });
    else ops.push(await placeEntry(source, { entry, from: entry.path }, { path: target, placement }));
    if (entry.type === 'file') copied.set(entry.hardlinkTo ?? entry.path, first ?? target);
    if (entry.type === 'dir') made.add(target);
  }
}

/** A folder never replaces a file, and a file never replaces a folder. */
async function refuseClash(
  parent: Tree,
  target: { readonly path: ImagePath; readonly entry: Entry },
  placement: Placement,
): Promise<void> {
  if (target.entry.type !== 'dir') return refuseFolder(parent, target.path, placement);
  const existing = await parent.lstat(target.path);
  if (existing !== undefined && existing.type !== 'dir') {
    stop('copy-destination-not-folder', `cannot copy to non-directory: /${target.path}`, {
      range: placement.range,
    });
  }
}

async function refuseFolder(parent: Tree, path: ImagePath, placement: Placement): Promise<void> {
  const existing = await parent.lstat(path);
  if (existing?.type === 'dir') {
    stop('copy-over-folder', `cannot replace to directory /${path} with file`, {
      range: placement.range,
      hint: 'Remove the folder in a RUN before, or copy to another name.',
    });
  }
}

function attributesOf(entry: Entry, placement: Placement): Attributes {
  return {
    mode: placement.mode ?? entry.mode,
    uid: placement.owner?.uid ?? entry.uid,
    gid: placement.owner?.gid ?? entry.gid,
    mtime: entry.mtime,
    ...(entry.xattrs === undefined ? {} : { xattrs: entry.xattrs }),
  };
}

async function placeEntry(
  source: PlacedSource,
  what: { readonly entry: Entry; readonly from: ImagePath },
  target: { readonly path: ImagePath; readonly placement: Placement },
): Promise<TreeOp> {
  const { path } = target;
  const { entry } = what;
  const attributes = attributesOf(entry, target.placement);
  switch (entry.type) {
    case 'dir':
      return { op: 'dir', path, attributes };
    case 'file':
      return { op: 'file', path, attributes, content: await source.contentOf(what.from) };
    case 'symlink':
      return {
        op: 'symlink',
        path,
        attributes: { ...attributes, mode: 0o777 },
        target: entry.linkTarget ?? '',
      };
    default:
      return {
        op: 'node',
        path,
        attributes,
        type: entry.type,
        device: entry.device ?? { major: 0, minor: 0 },
      };
  }
}
