import {
  type Attributes,
  encodePath,
  type ImagePath,
  ROOT_PATH,
  type TreeOp,
  unreachable,
} from '../core/index.ts';
import { refused } from './byte-source.ts';
import type { UnpackLimits, UnpackOptions } from './contract.ts';
import { readTar, type TarEntry } from './tar-reader.ts';

/**
 * 32 GiB and four million entries are beyond any image in use, and within what a machine that builds images can lose;
 * 1 MiB holds the longest name with the largest attributes that Linux file systems keep.
 */
export const DEFAULT_UNPACK_LIMITS: UnpackLimits = {
  maxBytes: 32 * 1024 ** 3,
  maxEntries: 4_000_000,
  maxHeaderBytes: 1024 ** 2,
};

/** Kernel limits on a name and on a path (NAME_MAX, PATH_MAX with its final zero byte). */
const MAX_NAME_BYTES = 255;
const MAX_PATH_BYTES = 4095;

const WHITEOUT_PREFIX = '.wh.';
const AUFS_PREFIX = '.wh..wh.';
const OPAQUE_NAME = '.wh..wh..opq';

/**
 * Turns the uncompressed tar of a layer into operations on a tree, in the tar's order. What a well-made layer never holds is
 * refused with `layer-refused`: `..` in a name or a hard link's target, whiteouts of `.` or `..`, names that no Linux file
 * can have, unknown types, anything over the limits, an archive that is cut short. As containerd has it, a leading `/`
 * is dropped, and AUFS's own files (`.wh..wh.*`) are ignored. Attributes of OverlayFS are dropped: they would
 * change what the tree means; for the same reason a character device 0/0 becomes the removal that it stands for there.
 *
 * Symlinks on the way to a name are no concern here: `TreeOps` resolves all paths inside the tree.
 */
export async function* unpackLayer(
  tar: AsyncIterable<Uint8Array>,
  options: UnpackOptions = {},
): AsyncGenerator<TreeOp> {
  for await (const entry of readTar(tar, options.limits ?? DEFAULT_UNPACK_LIMITS)) {
    options.signal?.throwIfAborted();
    const op = options.whiteouts === false ? plainOperation(entry) : operationOf(entry);
    if (op !== undefined) yield op;
  }
}

/** An entry of an ordinary archive: a name that begins with `.wh.` is a name like any other. */
function plainOperation(entry: TarEntry): TreeOp {
  const parts = nameParts(entry.name);
  return parts.length === 0 ? rootOperation(entry) : makeOperation(entry, toPath(parts));
}

function operationOf(entry: TarEntry): TreeOp | undefined {
  const parts = nameParts(entry.name);
  if (parts.some((part) => part.startsWith(AUFS_PREFIX) && part !== OPAQUE_NAME)) return undefined;
  const last = parts.at(-1);
  const above = parts.slice(0, -1);
  const marked = above.find((part) => part.startsWith(WHITEOUT_PREFIX));
  if (marked !== undefined) throw refused(`${quote(entry.name)} lies below a whiteout`);
  if (last === undefined) return rootOperation(entry);
  if (last === OPAQUE_NAME) return { op: 'clear', path: toPath(above) };
  if (last.startsWith(WHITEOUT_PREFIX)) {
    const hidden = last.slice(WHITEOUT_PREFIX.length);
    if (hidden === '' || hidden === '.' || hidden === '..')
      throw refused(`${quote(entry.name)} removes no name`);
    return { op: 'remove', path: toPath([...above, hidden]) };
  }
  return makeOperation(entry, toPath(parts));
}

/** `./`: attributes of the root folder itself. */
function rootOperation(entry: TarEntry): TreeOp {
  if (entry.type !== 'dir' || entry.name === '') throw refused('the archive has an entry without a name');
  return { op: 'dir', path: ROOT_PATH, attributes: attributesOf(entry) };
}

function makeOperation(entry: TarEntry, path: ImagePath): TreeOp {
  const attributes = attributesOf(entry);
  switch (entry.type) {
    case 'file':
      return { op: 'file', path, attributes, content: contentOf(entry) };
    case 'dir':
      return { op: 'dir', path, attributes };
    case 'symlink':
      return { op: 'symlink', path, attributes, target: symlinkTarget(entry) };
    case 'hardlink':
      return { op: 'hardlink', path, target: hardlinkTarget(entry, path) };
    case 'char':
    case 'block':
    case 'fifo':
      if (entry.type === 'char' && entry.device.major === 0 && entry.device.minor === 0)
        return { op: 'remove', path };
      return { op: 'node', path, attributes, type: entry.type, device: deviceOf(entry) };
    default:
      return unreachable(entry.type);
  }
}

function contentOf(entry: TarEntry): Extract<TreeOp, { op: 'file' }>['content'] {
  if (entry.content instanceof Uint8Array) return { kind: 'bytes', bytes: entry.content };
  return { kind: 'stream', size: entry.size, chunks: entry.content };
}

function attributesOf(entry: TarEntry): Attributes {
  const kept = Object.entries(entry.xattrs ?? {}).filter(
    ([name]) => !/^(?:trusted|user)\.overlay\./.test(name),
  );
  return {
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: entry.mtime,
    ...(kept.length === 0 ? {} : { xattrs: Object.fromEntries(kept) }),
  };
}

/** The parts of a name without empty ones and `.`. */
function nameParts(name: string): string[] {
  if (encodePath(name).length > MAX_PATH_BYTES)
    throw refused(`a name is longer than ${MAX_PATH_BYTES} bytes`);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  for (const part of parts) {
    if (part === '..') throw refused(`${quote(name)} leaves its folder`);
    if (part.length > MAX_NAME_BYTES || encodePath(part).length > MAX_NAME_BYTES) {
      throw refused(`${quote(name)} has a part of more than ${MAX_NAME_BYTES} bytes`);
    }
  }
  return parts;
}

function toPath(parts: readonly string[]): ImagePath {
  return parts.join('/') as ImagePath;
}

function symlinkTarget(entry: TarEntry): string {
  const bytes = encodePath(entry.linkName).length;
  if (bytes === 0 || bytes > MAX_PATH_BYTES)
    throw refused(`the symlink ${quote(entry.name)} has no possible target`);
  return entry.linkName;
}

function hardlinkTarget(entry: TarEntry, path: ImagePath): ImagePath {
  const target = toPath(nameParts(entry.linkName));
  if (target === '' || target === path)
    throw refused(`the hard link ${quote(entry.name)} has no possible target`);
  return target;
}

/** 12 and 20 bits, as Linux has them (makedev(3)). */
function deviceOf(entry: TarEntry): { readonly major: number; readonly minor: number } {
  const { major, minor } = entry.device;
  if (major > 0xfff || minor > 0xfffff) throw refused(`${quote(entry.name)} has impossible device numbers`);
  return { major, minor };
}

function quote(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}…` : name);
}
