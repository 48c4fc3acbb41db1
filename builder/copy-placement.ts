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
  type Soon,
  type SourceRange,
  soon,
  type Time,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import type { SelectedRoot } from './copy-selection.ts';
import { entryOp } from './entry-op.ts';
import type { ModeOf } from './file-mode.ts';
import { type NameAt, resolveWithin } from './resolve-within.ts';
import { stop } from './stop.ts';

/** How a COPY gives owners and modes. */
export interface Placement {
  readonly kind: 'COPY' | 'ADD';
  /** Absolute; a trailing slash asks for a folder. */
  readonly destination: string;
  /** Owner of all that is copied and of folders made on the way; absent: as the source has it (and 0:0 for folders). */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Gives the permission bits of all that is copied; absent: as the source has them. */
  readonly mode?: ModeOf;
  /** The mode of folders made on the way; absent: 0755. */
  readonly folderMode?: number;
  readonly range: SourceRange;
}

export type PlacedSource = PlacedRoot | PlacedArchive;

/** A selected root with the way to the bytes of its files, by their paths in the tree it was selected from. */
export interface PlacedRoot {
  readonly kind: 'root';
  readonly root: SelectedRoot;
  readonly contentOf: (path: ImagePath) => Soon<FileContent>;
  /** The time that a copied entry gets at `target`. */
  readonly timeOf: (entry: Entry, target: ImagePath) => Soon<Time>;
}

/** An archive that is unpacked into the destination: what is in it, by paths relative to there. */
export interface PlacedArchive {
  readonly kind: 'archive';
  readonly ops: () => AsyncIterable<TreeOp>;
}

const NEW_FOLDER_MODE = 0o755;
/** Operations that are handed on together: to wait for each takes longer than to make it. */
const MOST_AT_ONCE = 1024;
const SET_GROUP_ID = 0o2000;

/**
 * Turns selected sources into operations on the parent's tree, by Docker's destination rules: a folder's content is copied, a file
 * goes into a destination that is a folder or ends with a slash, and otherwise becomes the destination; an archive makes it a
 * folder. Symlinks in the destination are resolved inside the root. The destination itself, where it is made, has mode 0755, or
 * the one that all that is copied is given in octal digits, but not for an archive; where it exists, it keeps its attributes. Folders below it take the source's. Sources are placed
 * one after the other, so a later one finds what an earlier one has made. Operations come some at a time, of which no two make the same name.
 */
export async function* placeSources(
  parent: Tree,
  sources: readonly PlacedSource[],
  placement: Placement,
): AsyncGenerator<readonly TreeOp[]> {
  if (sources.length === 0) return;
  const wantsFolder = placement.destination.endsWith('/');
  const resolved = await resolvePath(parent, imagePath(placement.destination), { followLast: true });
  if (resolved === undefined) {
    stop('too-many-symlinks', `${placement.destination}: too many levels of symbolic links`, {
      range: placement.range,
    });
  }
  const { path: destination } = resolved;
  const progress: Progress = { parent, placed: new Map(), groups: new Map(), placement };
  if (wantsFolder) yield await makeFolders(destination, progress, sources[0]?.kind);
  for (const source of sources) {
    if (source.kind === 'archive' || source.root.entry.type === 'dir') {
      yield await makeFolders(destination, progress, source.kind);
      yield* source.kind === 'archive'
        ? placeArchive(source, destination, progress)
        : placeFolder(source, destination, progress);
      continue;
    }
    const { root } = source;
    const isFolder = wantsFolder || (await typeAt(destination, progress)) === 'dir';
    if (!isFolder && sources.length > 1) refuseSeveral(placement);
    const target = isFolder ? joinPath(destination, baseName(root.path)) : destination;
    yield await makeFolders(parentPath(target), progress);
    await refuseClash(target, root.entry, progress);
    yield [await placeEntry(source, { entry: root.entry, from: root.resolved }, { path: target, placement })];
  }
}

interface Progress {
  readonly parent: Tree;
  /** What earlier operations of this COPY make. */
  readonly placed: Map<ImagePath, NameAt>;
  /** Of folders that they make: the group that names in them inherit. */
  readonly groups: Map<ImagePath, number | undefined>;
  readonly placement: Placement;
}

/** What lies at `path` when the operations so far are done. */
function nameAt(path: ImagePath, { parent, placed }: Progress): Soon<NameAt | undefined> {
  return path === '' ? FOLDER : (placed.get(path) ?? parent.lstat(path));
}

function typeAt(path: ImagePath, progress: Progress): Soon<FileType | undefined> {
  return soon(nameAt(path, progress), (name) => name?.type);
}

/** Names that lead nowhere else: one object for all of a type, since there may be hundreds of thousands. */
const PLAIN_NAMES: Readonly<Record<FileType, NameAt>> = {
  file: { type: 'file' },
  dir: { type: 'dir' },
  symlink: { type: 'symlink' },
  char: { type: 'char' },
  block: { type: 'block' },
  fifo: { type: 'fifo' },
  socket: { type: 'socket' },
};

const FOLDER = PLAIN_NAMES.dir;

/** The group that a new folder gets from the one around it, and passes on, where that has its set-group-id bit set (inode(7)). */
export function inheritedGroup(folder: Pick<Entry, 'mode' | 'gid'> | undefined): number | undefined {
  return folder !== undefined && (folder.mode & SET_GROUP_ID) !== 0 ? folder.gid : undefined;
}

/** The attributes of a folder that no source gives any; `group` is the inherited one. */
export function newFolder(
  group: number | undefined,
  owner: Placement['owner'] = { uid: 0, gid: group ?? 0 },
): Attributes {
  const mode = group === undefined ? NEW_FOLDER_MODE : NEW_FOLDER_MODE | SET_GROUP_ID;
  return { mode, ...owner, mtime: FOLDER_TIME };
}

/** Makes the missing folders of a resolved path, for a source of this kind. */
async function makeFolders(
  path: ImagePath,
  progress: Progress,
  kind: PlacedSource['kind'] = 'root',
): Promise<readonly TreeOp[]> {
  const { parent, placed, groups, placement } = progress;
  const missing: ImagePath[] = [];
  let at = path;
  for (; at !== ''; at = parentPath(at)) {
    const type = await typeAt(at, progress);
    if (type === 'dir') break;
    if (type !== undefined) refuseNonFolder(at, placement);
    missing.push(at);
  }
  if (missing.length === 0) return [];
  const ops: TreeOp[] = [];
  let group = groups.has(at) ? groups.get(at) : inheritedGroup(await parent.lstat(at));
  for (const folder of missing.reverse()) {
    const made = newFolder(group, placement.owner);
    const mode = kind === 'root' ? placement.folderMode : undefined;
    const attributes = mode === undefined ? made : { ...made, mode };
    group = inheritedGroup(attributes);
    placed.set(folder, FOLDER);
    groups.set(folder, group);
    ops.push({ op: 'ensureDir', path: folder, attributes });
  }
  return ops;
}

async function* placeFolder(
  source: PlacedRoot,
  destination: ImagePath,
  progress: Progress,
): AsyncGenerator<readonly TreeOp[]> {
  const { placement } = progress;
  let ops: TreeOp[] = [];
  const leaders = new Set(source.root.inside.flatMap(({ entry }) => entry.hardlinkTo ?? []));
  // Where the files went that others are links to.
  const copied = new Map<ImagePath, ImagePath>();
  for (const { path, entry, implied } of source.root.inside) {
    const target = joinPath(destination, path);
    const isMade = progress.placed.get(target)?.type === 'dir';
    const refused = refuseClash(target, entry, progress);
    if (refused instanceof Promise) await refused;
    if (implied === true && isMade) continue;
    const existing = implied === true ? await progress.parent.lstat(target) : undefined;
    const first = entry.hardlinkTo === undefined ? undefined : copied.get(entry.hardlinkTo);
    const made: Soon<TreeOp> =
      existing !== undefined
        ? passThrough(existing, entry)
        : first !== undefined
          ? { op: 'hardlink', path: target, target: first }
          : placeEntry(source, { entry, from: entry.path }, { path: target, placement });
    const op = made instanceof Promise ? await made : made;
    if (op.op === 'dir') progress.groups.set(target, inheritedGroup(op.attributes));
    ops.push(op);
    const leader = entry.hardlinkTo ?? entry.path;
    if (entry.type === 'file' && leaders.has(leader)) copied.set(leader, first ?? target);
    if (ops.length < MOST_AT_ONCE) continue;
    yield ops;
    ops = [];
  }
  yield ops;
}

/** A folder that only leads to what is copied, and exists: it takes the mode of its source and keeps its owner, as BuildKit has it. */
function passThrough(existing: Entry, source: Entry): TreeOp {
  const { path, uid, gid, mtime, xattrs } = existing;
  const attributes = { mode: source.mode, uid, gid, mtime, ...(xattrs === undefined ? {} : { xattrs }) };
  return { op: 'dir', path, attributes };
}

/**
 * What an archive holds is laid over what is there, name by name; a given owner goes to all of it. Symlinks on the way to a name
 * are resolved as if the destination were the root, so that nothing is written beside it.
 */
async function* placeArchive(
  source: PlacedArchive,
  destination: ImagePath,
  progress: Progress,
): AsyncGenerator<readonly TreeOp[]> {
  const { placed, placement } = progress;
  const folders = new Map<ImagePath, ImagePath>();
  const within = async (path: ImagePath): Promise<ImagePath> => {
    const folder = parentPath(path);
    const known =
      folders.get(folder) ?? (await resolveWithin(destination, folder, (at) => nameAt(at, progress)));
    if (known === undefined) {
      stop('too-many-symlinks', `${path}: too many levels of symbolic links`, { range: placement.range });
    }
    folders.set(folder, known);
    return joinPath(known, baseName(path));
  };
  for await (const op of source.ops()) {
    // The archive's own `./`: the destination keeps its attributes.
    if (op.path === '') continue;
    const path = await within(op.path);
    if (op.op === 'symlink' || (await typeAt(path, progress)) === 'symlink') folders.clear();
    placed.set(path, nameOf(op));
    if (op.op === 'hardlink') yield [{ ...op, path, target: await within(op.target) }];
    else if ('attributes' in op)
      yield [{ ...op, path, attributes: { ...op.attributes, ...placement.owner } }];
    else yield [{ ...op, path }];
  }
}

/** What an operation of an archive makes. */
function nameOf(op: TreeOp): NameAt {
  switch (op.op) {
    case 'symlink':
      return { type: 'symlink', linkTarget: op.target };
    case 'node':
      return { type: op.type };
    case 'dir':
    case 'ensureDir':
      return FOLDER;
    default:
      return { type: 'file' };
  }
}

/** A folder never replaces a file, and a file never replaces a folder, be it the parent's or one that was just copied. */
function refuseClash(path: ImagePath, { type, linkTarget }: NameAt, progress: Progress): Soon<void> {
  return soon(typeAt(path, progress), (existing) => {
    if (type === 'dir' && existing !== undefined && existing !== 'dir')
      refuseNonFolder(path, progress.placement);
    if (type !== 'dir' && existing === 'dir') {
      stop('copy-over-folder', `cannot replace to directory /${path} with file`, {
        range: progress.placement.range,
        hint: 'Remove the folder in a RUN before, or copy to another name.',
      });
    }
    progress.placed.set(path, linkTarget === undefined ? PLAIN_NAMES[type] : { type, linkTarget });
  });
}

function refuseNonFolder(path: ImagePath, placement: Placement): never {
  stop('copy-destination-not-folder', `cannot copy to non-directory: /${path}`, { range: placement.range });
}

function refuseSeveral({ kind, destination, range }: Placement): never {
  stop(
    'copy-destination-not-folder',
    `When using ${kind} with more than one source file, the destination must be a directory and end with a /`,
    { range, hint: `Write ${destination}/ instead of ${destination}.` },
  );
}

function attributesOf(entry: Entry, placement: Placement, mtime: Time): Attributes {
  return {
    mode: placement.mode?.(entry) ?? entry.mode,
    uid: placement.owner?.uid ?? entry.uid,
    gid: placement.owner?.gid ?? entry.gid,
    mtime,
    ...(entry.xattrs === undefined ? {} : { xattrs: entry.xattrs }),
  };
}

function placeEntry(
  source: PlacedRoot,
  what: { readonly entry: Entry; readonly from: ImagePath },
  { path, placement }: { readonly path: ImagePath; readonly placement: Placement },
): Soon<TreeOp> {
  const { entry, from } = what;
  return soon(source.timeOf(entry, path), (mtime) => {
    const attributes = attributesOf(entry, placement, mtime);
    // A layer cannot hold a socket; what stands for it is an empty file.
    if (entry.type === 'socket') return { op: 'file', path, attributes, content: NOTHING };
    return entryOp(entry, { path, attributes }, () => source.contentOf(from));
  });
}

const NOTHING: FileContent = { kind: 'bytes', bytes: new Uint8Array() };
