import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  baseName,
  type Change,
  changePath,
  comparePaths,
  type Entry,
  errnoOf,
  fsPath,
  type HostPath,
  type ImagePath,
  MachineError,
  parentPath,
  placeIn,
  STORE_CHANGED_HINT,
  type TarPiece,
  type Time,
} from '../core/index.ts';
import type { DiffSource, PackOptions } from './contract.ts';
import { BLOCK_BYTES, encodeTarHeader, paddingOf, type TarHeader, TYPEFLAG } from './tar-header.ts';

const CHUNK_BYTES = 256 * 1024;
const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_NAME = '.wh..wh..opq';
const ZEROS = Buffer.alloc(2 * BLOCK_BYTES);
const NO_TIME: Time = { sec: 0, nsec: 0 };

/** What the writer of a tar needs: changes, and where the bytes of their files lie. */
export interface TarSource {
  readonly changes: readonly Change[];
  readonly hostPath: (path: ImagePath) => HostPath;
}

/**
 * The tar of a diff's layer (OCI image-spec, layer.md), byte for byte the same for the same changes and contents: path order
 * by bytes, numeric owners, `.wh.NAME` for a whiteout, `.wh..wh..opq` right after its folder, hard links after their
 * target. Times keep their nanoseconds (Docker and containerd cut them to seconds), so that a diff that was packed and
 * unpacked has the times that its commands saw. Sockets are left out, as Docker does; `onWarning` names them.
 *
 * @throws MachineError `layer-source-changed` where a file is no longer as its entry says, `layer-name` where a name
 * cannot stand in a layer.
 */
export async function* layerTar(source: DiffSource, options: PackOptions = {}): AsyncGenerator<Uint8Array> {
  yield* asyncTar({ changes: source.changes, hostPath: (path) => placeIn(source, path) }, options);
}

/** {@link layerTarSync} in slices: other work gets its turn after each chunk. */
export async function* asyncTar(source: TarSource, options: PackOptions): AsyncGenerator<Uint8Array> {
  for (const chunk of layerTarSync(source, options)) {
    options.signal?.throwIfAborted();
    yield chunk;
    await nextTurn();
  }
}

export interface SyncTarOptions extends PackOptions {
  /** Every chunk is the same memory, good until the next is asked for: for callers that only hash. */
  readonly reuseMemory?: boolean;
}

/** The same bytes as {@link layerTar}, read with blocking calls. Without `reuseMemory` each chunk is the caller's own. */
export function* layerTarSync(source: TarSource, options: SyncTarOptions): Generator<Uint8Array> {
  let buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let used = 0;

  function* append(bytes: Uint8Array): Generator<Uint8Array> {
    let at = 0;
    while (at < bytes.byteLength) {
      const part = bytes.subarray(at, at + buffer.length - used);
      buffer.set(part, used);
      used += part.byteLength;
      at += part.byteLength;
      if (used === buffer.length) yield flush();
    }
  }

  function flush(): Uint8Array {
    const full = buffer.subarray(0, used);
    if (options.reuseMemory !== true) buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    used = 0;
    return full;
  }

  function* appendFile(file: FilePiece): Generator<Uint8Array> {
    const descriptor = openUnchanged(source.hostPath(file.path), file);
    try {
      let left = file.size;
      while (left > 0) {
        const got = readSync(descriptor, buffer, used, Math.min(left, buffer.length - used), null);
        if (got === 0) throw sourceChanged(file.path, 'became shorter');
        used += got;
        left -= got;
        if (used === buffer.length) yield flush();
      }
      if (readSync(descriptor, Buffer.alloc(1), 0, 1, null) !== 0)
        throw sourceChanged(file.path, 'became longer');
    } finally {
      closeSync(descriptor);
    }
    yield* append(ZEROS.subarray(0, paddingOf(file.size)));
  }

  for (const piece of tarPieces(source.changes, options)) {
    if (piece.kind === 'bytes') yield* append(piece.bytes);
    else yield* appendFile(piece);
  }
  if (used > 0) yield flush();
}

type FilePiece = Extract<TarPiece, { kind: 'file' }>;

/** The tar that {@link layerTar} makes, for who reads the files elsewhere. @throws MachineError `layer-name` */
export function* tarPieces(changes: readonly Change[], options: PackOptions): Generator<TarPiece> {
  for (const change of inPathOrder(changes)) {
    const header = headerOf(change, options);
    if (header === undefined) continue;
    yield { kind: 'bytes', bytes: encodeTarHeader(header) };
    if (change.kind === 'set' && header.size > 0)
      yield { kind: 'file', path: change.entry.path, size: header.size };
  }
  yield { kind: 'bytes', bytes: ZEROS };
}

/** Sorted copies only where needed; an `opaque` follows the `set` of its folder. */
function inPathOrder(changes: readonly Change[]): readonly Change[] {
  const rank = { set: 0, whiteout: 0, opaque: 1 };
  const compare = (a: Change, b: Change): number =>
    comparePaths(changePath(a), changePath(b)) || rank[a.kind] - rank[b.kind];
  const sorted = changes.every((change, at) => {
    const before = changes[at - 1];
    return before === undefined || compare(before, change) <= 0;
  });
  return sorted ? changes : changes.toSorted(compare);
}

function headerOf(change: Change, options: PackOptions): TarHeader | undefined {
  if (change.kind === 'set') return entryHeader(change.entry, options);
  const name =
    change.kind === 'opaque'
      ? inFolder(change.path, OPAQUE_NAME)
      : inFolder(parentPath(change.path), `${WHITEOUT_PREFIX}${baseName(change.path)}`);
  return { name, typeflag: TYPEFLAG.file, mode: 0, uid: 0, gid: 0, size: 0, mtime: NO_TIME };
}

function inFolder(folder: ImagePath, name: string): string {
  return folder === '' ? name : `${folder}/${name}`;
}

function entryHeader(entry: Entry, options: PackOptions): TarHeader | undefined {
  if (entry.type === 'socket') {
    options.onWarning?.(`/${entry.path} is a socket: layers cannot hold sockets, it was left out`);
    return undefined;
  }
  if (baseName(entry.path).startsWith(WHITEOUT_PREFIX)) {
    throw new MachineError('layer-name', `/${entry.path} cannot be stored in an image layer`, {
      hint: 'names that begin with ".wh." mark removed files in layers; rename or remove it',
    });
  }
  const mtime = clampTime(entry.mtime, options.sourceDateEpoch);
  const owner = { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime };
  if (entry.hardlinkTo !== undefined) {
    return { ...owner, name: entry.path, typeflag: TYPEFLAG.hardlink, size: 0, linkName: entry.hardlinkTo };
  }
  const folderName = entry.path === '' ? './' : `${entry.path}/`;
  return {
    ...owner,
    name: entry.type === 'dir' ? folderName : entry.path,
    typeflag: TYPEFLAG[entry.type],
    size: entry.type === 'file' ? entry.size : 0,
    ...(entry.type === 'symlink' ? { linkName: entry.linkTarget ?? '' } : {}),
    ...(entry.type === 'char' || entry.type === 'block'
      ? { device: entry.device ?? { major: 0, minor: 0 } }
      : {}),
    ...(entry.xattrs === undefined ? {} : { xattrs: storableXattrs(entry.path, entry.xattrs, options) }),
  };
}

/** A pax key ends at the first `=`: attributes with one in their name are left out, with a warning. */
function storableXattrs(
  path: ImagePath,
  xattrs: Readonly<Record<string, Uint8Array>>,
  options: PackOptions,
): Readonly<Record<string, Uint8Array>> {
  return Object.fromEntries(
    Object.entries(xattrs).filter(([name]) => {
      if (!name.includes('=')) return true;
      options.onWarning?.(`/${path}: the extended attribute ${name} has "=" in its name and was left out`);
      return false;
    }),
  );
}

function clampTime(time: Time, epoch: number | undefined): Time {
  if (epoch === undefined || time.sec < epoch) return time;
  return { sec: epoch, nsec: 0 };
}

function openUnchanged(file: HostPath, { path, size }: FilePiece): number {
  let descriptor: number;
  try {
    descriptor = openSync(fsPath(file), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const errno = errnoOf(error);
    throw sourceChanged(path, errno === 'ENOENT' ? 'is gone' : `cannot be read (${errno})`, error);
  }
  const stat = fstatSync(descriptor);
  if (stat.isFile() && stat.size === size) return descriptor;
  closeSync(descriptor);
  throw sourceChanged(path, stat.isFile() ? 'has another size' : 'is no longer a file');
}

function sourceChanged(path: ImagePath, what: string, cause?: unknown): MachineError {
  return new MachineError('layer-source-changed', `/${path} ${what} while its layer was being packed`, {
    hint: STORE_CHANGED_HINT,
    cause,
  });
}
