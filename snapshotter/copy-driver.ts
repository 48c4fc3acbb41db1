import { lstat, mkdir, writeFile } from 'node:fs/promises';
import {
  type Attributes,
  type Change,
  type Digest,
  type Entry,
  fsPath,
  type HostPath,
  type ImagePath,
  joinHost,
  ROOT_PATH,
  type Tree,
  type TreeOp,
  type TreeOps,
  unreachable,
} from '../core/index.ts';
import type { Driver, Stack, Writable } from './driver.ts';
import { compareTrees, sameAttributes } from './tree-compare.ts';

export interface CopyDriverOptions {
  readonly tree: TreeOps;
  readonly userXattrs: boolean;
  readonly digestFile: (path: HostPath) => Promise<Digest>;
}

/**
 * For machines that cannot mount an overlay: an active snapshot is a copy of the whole tree, and its diff what differs
 * afterwards. Diffs are kept in OverlayFS form all the same, so that a store does not depend on the driver.
 */
export function createCopyDriver(options: CopyDriverOptions): Driver {
  return {
    name: 'copy',
    prepare: (home, stack) => prepare(options, home, stack),
    async mountable(home, stack) {
      const path = await materialise(options, home, stack);
      return { type: 'directory', path, readonly: true };
    },
  };
}

async function materialise(options: CopyDriverOptions, home: HostPath, stack: Stack): Promise<HostPath> {
  const path = joinHost(home, 'tree');
  await mkdir(path, { mode: 0o755 });
  await options.tree.apply({ type: 'directory', path, readonly: false }, copyOps(stack.tree, stack.root));
  return path;
}

async function prepare(options: CopyDriverOptions, home: HostPath, stack: Stack): Promise<Writable> {
  const path = await materialise(options, home, stack);
  const before = await options.tree.scanTree(path);
  const mark = joinHost(home, 'mark');
  await writeFile(mark, '');
  const { ctimeNs } = await lstat(mark, { bigint: true });
  const capture = async (): Promise<readonly Change[]> => {
    const after = await options.tree.scanTree(path);
    const doubted = await findDoubted({ path, before, after, sinceNs: ctimeNs });
    const contentChanged = new Set<ImagePath>();
    for (const name of doubted) {
      const now = await options.digestFile(joinHost(path, name));
      if (now !== (await stack.tree.digest(name))) contentChanged.add(name);
    }
    const { set, gone } = compareTrees(before, after, contentChanged);
    const folder = joinHost(home, 'fs');
    await mkdir(folder, { mode: 0o755 });
    await options.tree.apply({ type: 'directory', path: folder, readonly: false }, diffOps(path, set, gone));
    return options.tree.scanDiff(folder, { userXattrs: options.userXattrs });
  };
  const cleanUp = () => options.tree.removeAll([home]);
  return { root: { type: 'directory', path, readonly: false }, capture, cleanUp };
}

interface Doubt {
  readonly path: HostPath;
  readonly before: readonly Entry[];
  readonly after: readonly Entry[];
  /** When the copy was complete. */
  readonly sinceNs: bigint;
}

/**
 * Files that look the same but were touched since the copy was complete: a program can set mtime back after a write, but
 * not ctime. Times of the file system's own clock are compared, and equal ones count as touched.
 */
async function findDoubted(doubt: Doubt): Promise<ImagePath[]> {
  const old = new Map(doubt.before.map((entry) => [entry.path, entry]));
  const same = doubt.after.filter((entry) => {
    const was = old.get(entry.path);
    return entry.type === 'file' && was !== undefined && sameAttributes(was, entry);
  });
  const doubted: ImagePath[] = [];
  const AT_ONCE = 256;
  for (let start = 0; start < same.length; start += AT_ONCE) {
    const group = same.slice(start, start + AT_ONCE);
    const touched = await Promise.all(
      group.map((entry) => wasTouched(joinHost(doubt.path, entry.path), doubt.sinceNs)),
    );
    group.forEach((entry, i) => {
      if (touched[i]) doubted.push(entry.path);
    });
  }
  return doubted;
}

async function wasTouched(path: HostPath, sinceNs: bigint): Promise<boolean> {
  return (await lstat(fsPath(path), { bigint: true })).ctimeNs >= sinceNs;
}

/** Operations that make a copy of `tree`. Hard links come last: walking folder by folder does not keep path order. */
async function* copyOps(tree: Tree, root: Entry): AsyncGenerator<TreeOp> {
  yield { op: 'dir', path: ROOT_PATH, attributes: attributesOf(root) };
  const links: TreeOp[] = [];
  const todo: ImagePath[] = [ROOT_PATH];
  for (let folder = todo.pop(); folder !== undefined; folder = todo.pop()) {
    for (const entry of await tree.list(folder)) {
      if (entry.type === 'dir') todo.push(entry.path);
      if (entry.hardlinkTo === undefined) {
        const source = entry.type === 'file' ? await tree.hostPath(entry.path) : undefined;
        yield makeOp(entry, source);
      } else links.push({ op: 'hardlink', path: entry.path, target: entry.hardlinkTo });
    }
  }
  yield* links;
}

/** Operations that write a difference down in OverlayFS form (the kernel's overlayfs.rst, "whiteouts"). */
function* diffOps(from: HostPath, set: readonly Entry[], gone: readonly ImagePath[]): Generator<TreeOp> {
  const made = new Set<ImagePath>();
  for (const entry of set) {
    if (entry.hardlinkTo !== undefined && made.has(entry.hardlinkTo)) {
      yield { op: 'hardlink', path: entry.path, target: entry.hardlinkTo };
    } else yield makeOp(entry, joinHost(from, entry.path));
    made.add(entry.path);
  }
  const attributes = { mode: 0, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  for (const path of gone) {
    yield { op: 'node', path, attributes, type: 'char', device: { major: 0, minor: 0 } };
  }
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
