import { lstat, mkdir, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Attributes,
  type Change,
  type Digest,
  type Entry,
  errnoOf,
  FOLDER_TIME,
  fsPath,
  type HostPath,
  type ImagePath,
  joinHost,
  parentPath,
  ROOT_PATH,
  type TreeOp,
  type TreeOps,
  unreachable,
} from '../core/index.ts';
import type { Driver, Stack, TracedStack, Writable } from './driver.ts';
import { liesInAny } from './lowers.ts';
import { compareTrees } from './tree-compare.ts';

export interface CopyDriverOptions {
  readonly tree: TreeOps;
  readonly userXattrs: boolean;
  readonly digestFile: (path: HostPath) => Promise<Digest>;
}

/**
 * For machines that cannot mount an overlay: an active snapshot is a copy of the whole tree, and its diff what differs
 * afterwards, as an overlay would tell it: a file that was written anew is a change whatever it holds, and a folder that was removed
 * and made again hides the old one. Diffs are kept in OverlayFS form, so that a store does not depend on the driver.
 */
export function createCopyDriver(options: CopyDriverOptions): Driver {
  return {
    name: 'copy',
    prepare: (home, stack, traced) => prepare(options, { home, stack, traced }),
    async mountable(home, stack) {
      const path = await materialise(options, { home, stack });
      return { type: 'directory', path, readonly: true };
    },
  };
}

interface Copied {
  readonly home: HostPath;
  readonly stack: Stack;
  readonly traced?: TracedStack | undefined;
}

async function materialise(options: CopyDriverOptions, copied: Copied): Promise<HostPath> {
  const path = joinHost(copied.home, 'tree');
  await mkdir(path, { mode: 0o755 });
  await options.tree.apply({ type: 'directory', path, readonly: false }, copyOps(copied));
  return path;
}

async function prepare(options: CopyDriverOptions, copied: Copied): Promise<Writable> {
  const { home, stack } = copied;
  const path = await materialise(options, copied);
  const before = await options.tree.scanTree(path);
  const was = await lookAtAll(path, before);
  await waitForClock(joinHost(home, 'mark'), was);
  const capture = async (): Promise<readonly Change[]> => {
    const after = await options.tree.scanTree(path);
    const seen = { before, after, was, is: await lookAtAll(path, after) };
    const replaced = replacedFolders(seen);
    const isReplaced = (at: ImagePath): boolean => isIn(replaced, at);
    const touched = await findTouched(seen, async (name) => {
      const now = await options.digestFile(joinHost(path, name));
      return now !== (await stack.tree.digest(name));
    });
    const { set, gone } = compareTrees(before, after, { touched, isReplaced });
    const opaque = new Set<ImagePath>();
    for (const name of replaced) {
      if (isReplaced(parentPath(name))) continue;
      // On traced trees the kernel marks each new folder, else those alone that it makes in the place of what was removed.
      const isMarked =
        was.has(name) || (copied.traced !== undefined && (await liesInAny(stack.lowers, name)));
      if (isMarked) opaque.add(name);
    }
    const folder = joinHost(home, 'fs');
    await mkdir(folder, { mode: 0o755 });
    const mark = { opaque, name: `${options.userXattrs ? 'user' : 'trusted'}.overlay.opaque` };
    const ops = diffOps({ from: path, set, gone, mark });
    await options.tree.apply({ type: 'directory', path: folder, readonly: false }, ops);
    return options.tree.scanDiff(folder, { userXattrs: options.userXattrs });
  };
  const cleanUp = () => options.tree.removeAll([home]);
  return { root: { type: 'directory', path, readonly: false }, capture, cleanUp };
}

/** What tells one file from another of the same name, and from itself after a change. */
interface Look {
  readonly ino: bigint;
  readonly birthtimeNs: bigint;
  /** A program can set mtime back after a write, but not this. */
  readonly ctimeNs: bigint;
}

type Looks = ReadonlyMap<ImagePath, Look>;

/** Undefined where the path is too long for one call: a folder is told by its attributes then, and anything else counts as touched. */
async function lookAt(path: HostPath): Promise<Look | undefined> {
  try {
    return await lstat(fsPath(path), { bigint: true });
  } catch (error) {
    if (errnoOf(error) === 'ENAMETOOLONG') return undefined;
    throw error;
  }
}

async function lookAtAll(folder: HostPath, entries: readonly Entry[]): Promise<Looks> {
  const looks = new Map<ImagePath, Look>();
  const AT_ONCE = 256;
  for (let start = 0; start < entries.length; start += AT_ONCE) {
    const group = entries.slice(start, start + AT_ONCE);
    const stats = await Promise.all(group.map(({ path }) => lookAt(joinHost(folder, path))));
    group.forEach(({ path }, i) => {
      const stat = stats[i];
      if (stat === undefined) return;
      const { ino, birthtimeNs, ctimeNs } = stat;
      looks.set(path, { ino, birthtimeNs, ctimeNs });
    });
  }
  return looks;
}

/** Until the file system's own clock has gone on, which some do in steps: whatever changes from now on has another time. */
async function waitForClock(mark: HostPath, looks: Looks): Promise<void> {
  let newest = 0n;
  for (const { ctimeNs } of looks.values()) if (ctimeNs > newest) newest = ctimeNs;
  for (;;) {
    await writeFile(mark, '.');
    if ((await lstat(mark, { bigint: true })).ctimeNs > newest) return;
    await sleep(1);
  }
}

interface Seen {
  readonly before: readonly Entry[];
  readonly after: readonly Entry[];
  readonly was: Looks;
  readonly is: Looks;
}

/** Folders in whose place there was another one, something else or nothing. */
function replacedFolders({ before, after, was, is }: Seen): ReadonlySet<ImagePath> {
  const old = new Set(before.flatMap(({ path, type }) => (type === 'dir' ? [path] : [])));
  const replaced = new Set<ImagePath>();
  for (const { path, type } of after) {
    if (type !== 'dir') continue;
    const [then, now] = [was.get(path), is.get(path)];
    const isSame = old.has(path) && then?.ino === now?.ino && then?.birthtimeNs === now?.birthtimeNs;
    if (!isSame) replaced.add(path);
  }
  return replaced;
}

function isIn(folders: ReadonlySet<ImagePath>, path: ImagePath): boolean {
  for (let at = path; ; at = parentPath(at)) {
    if (folders.has(at)) return true;
    if (at === ROOT_PATH) return false;
  }
}

/**
 * What was written, replaced or given attributes, the same ones perhaps. Of folders their attributes tell: a mount for which a place is
 * made in one touches it too. So does the removal of another name of a file; these files are compared.
 */
async function findTouched(
  { before, after, was, is }: Seen,
  hasOtherBytes: (path: ImagePath) => Promise<boolean>,
): Promise<ReadonlySet<ImagePath>> {
  const linked = new Set(before.flatMap(({ path, hardlinkTo }) => (hardlinkTo ? [path, hardlinkTo] : [])));
  const old = new Set(before.map(({ path }) => path));
  const touched = new Set<ImagePath>();
  for (const { path, type } of after) {
    if (type === 'dir' || !old.has(path)) continue;
    const [then, now] = [was.get(path), is.get(path)];
    const isSameFile = then !== undefined && then.ino === now?.ino;
    if (isSameFile && then.ctimeNs === now?.ctimeNs) continue;
    const isDoubted = isSameFile && linked.has(path);
    if (!isDoubted || (type === 'file' && (await hasOtherBytes(path)))) touched.add(path);
  }
  return touched;
}

/** Operations that make a copy of `tree`. Hard links come last: walking folder by folder does not keep path order. */
async function* copyOps({ stack, traced }: Copied): AsyncGenerator<TreeOp> {
  const { tree, root } = stack;
  yield { op: 'dir', path: ROOT_PATH, attributes: attributesOf(asShown(root, traced !== undefined)) };
  const links: TreeOp[] = [];
  const todo: ImagePath[] = [ROOT_PATH];
  for (let folder = todo.pop(); folder !== undefined; folder = todo.pop()) {
    for (const entry of await tree.list(folder)) {
      if (entry.type === 'dir') todo.push(entry.path);
      if (entry.hardlinkTo === undefined) {
        const source = entry.type === 'file' ? await tree.hostPath(entry.path) : undefined;
        yield makeOp(asShown(entry, (await traced?.sets(entry.path)) === true), source);
      } else links.push({ op: 'hardlink', path: entry.path, target: entry.hardlinkTo });
    }
  }
  yield* links;
}

/** A folder of a traced tree has {@link FOLDER_TIME}. */
function asShown(entry: Entry, isTraced: boolean): Entry {
  return isTraced && entry.type === 'dir' ? { ...entry, mtime: FOLDER_TIME } : entry;
}

interface Written {
  readonly from: HostPath;
  readonly set: readonly Entry[];
  readonly gone: readonly ImagePath[];
  readonly mark: { readonly opaque: ReadonlySet<ImagePath>; readonly name: string };
}

/** Operations that write a difference down in OverlayFS form (the kernel's overlayfs.rst, "whiteouts"). */
function* diffOps({ from, set, gone, mark }: Written): Generator<TreeOp> {
  const made = new Set<ImagePath>();
  for (const entry of set) {
    if (entry.hardlinkTo !== undefined && made.has(entry.hardlinkTo)) {
      yield { op: 'hardlink', path: entry.path, target: entry.hardlinkTo };
    } else
      yield makeOp(
        mark.opaque.has(entry.path) ? marked(entry, mark.name) : entry,
        joinHost(from, entry.path),
      );
    made.add(entry.path);
  }
  const attributes = { mode: 0, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  for (const path of gone) {
    yield { op: 'node', path, attributes, type: 'char', device: { major: 0, minor: 0 } };
  }
}

function marked(entry: Entry, name: string): Entry {
  return { ...entry, xattrs: { ...entry.xattrs, [name]: Buffer.from('y') } };
}

function attributesOf({ mode, uid, gid, mtime, xattrs }: Entry): Attributes {
  return { mode, uid, gid, mtime, ...(xattrs === undefined ? {} : { xattrs }) };
}

/** @param source where the bytes of a regular file lie. */
function makeOp(entry: Entry, source: HostPath | undefined): TreeOp {
  const { path, type } = entry;
  const attributes = attributesOf(entry);
  switch (type) {
    case 'file':
      if (source === undefined) throw new Error(`no source of the file ${path}`);
      return { op: 'file', path, attributes, content: { kind: 'host', path: source } };
    case 'dir':
      return { op: 'dir', path, attributes };
    case 'symlink':
      return { op: 'symlink', path, attributes, target: entry.linkTarget ?? '' };
    case 'char':
    case 'block':
    case 'fifo':
    case 'socket':
      return { op: 'node', path, attributes, type, device: entry.device ?? { major: 0, minor: 0 } };
    default:
      return unreachable(type);
  }
}
