import { crc32 } from 'node:zlib';
import {
  type Change,
  changePath,
  decodePath,
  type Entry,
  encodePath,
  type FileType,
  type ImagePath,
  ROOT_PATH,
} from '../core/index.ts';
import { ByteReader, ByteWriter } from './bytes.ts';

/** What a diff's `manifest` file holds; its form is stated in docs/on-disk-format.md. */
export interface Manifest {
  readonly createdAtMs: number;
  /** The root folder as a mount of the diff shows it, whether or not the diff changes it. */
  readonly root: Entry;
  readonly changes: readonly Change[];
  /** Of a patch: the names that lie in its own folder; all others lie in its original's. */
  readonly own?: ReadonlySet<ImagePath> | undefined;
}

/** The start of a manifest, which can be read alone. */
export interface ManifestHeader {
  readonly createdAtMs: number;
  /** Bytes of the files in the diff's own folder, hard links counted once. */
  readonly bytes: number;
  readonly count: number;
  readonly root: Entry;
  /** Whether the diff itself changes the root folder: the first of its changes then is that. */
  readonly changesRoot: boolean;
}

const MAGIC = Buffer.from('varvdiff');
const VERSION = 1;

/** No header and first change are longer: extended attributes of one file take at most 64 KiB each for names and values. */
export const LONGEST_HEADER = 512 * 1024;

const TYPES: readonly FileType[] = ['file', 'dir', 'symlink', 'char', 'block', 'fifo', 'socket'];
const WHITEOUT = 8;
const OPAQUE = 9;
const KIND_MASK = 0x0f;
const HAS_HARDLINK = 0x10;
const HAS_XATTRS = 0x20;
const IS_OWN = 0x40;
const CHECKSUM_BYTES = 4;

export function encodeManifest(manifest: Manifest): Buffer {
  const out = new ByteWriter(64 * 1024 + manifest.changes.length * 64);
  out.raw(MAGIC);
  out.varint(VERSION);
  out.varint(manifest.createdAtMs);
  out.varint(ownBytes(manifest));
  out.varint(manifest.changes.length);
  const paths = new PathPacker();
  writeEntry(out, paths, manifest.root);
  const { own } = manifest;
  for (const change of manifest.changes) {
    writeChange(out, paths, { change, isOwn: own?.has(changePath(change)) === true });
  }
  const body = out.take();
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32LE(crc32(body));
  return Buffer.concat([body, checksum]);
}

/** Whether `file` is a manifest as it was written, of whatever version. */
export function isWholeManifest(file: Buffer): boolean {
  if (file.length < MAGIC.length + CHECKSUM_BYTES) return false;
  const body = file.subarray(0, -CHECKSUM_BYTES);
  return crc32(body) === file.readUInt32LE(body.length);
}

/** undefined where `file` is torn, or of another version. */
export function decodeManifest(file: Buffer): Manifest | undefined {
  if (!isWholeManifest(file)) return undefined;
  const body = file.subarray(0, -CHECKSUM_BYTES);
  const reader = new ByteReader(body);
  const paths = new PathUnpacker();
  const header = readHeader(reader, paths);
  if (header === undefined) return undefined;
  const changes: Change[] = [];
  const own = new Set<ImagePath>();
  for (let i = 0; i < header.count; i++) {
    const isOwn = reader.peek() & IS_OWN;
    const change = readChange(reader, paths);
    changes.push(change);
    if (isOwn) own.add(changePath(change));
  }
  const { createdAtMs, root } = header;
  return { createdAtMs, root, changes, ...(own.size === 0 ? {} : { own }) };
}

/** The header in the first {@link LONGEST_HEADER} bytes of a manifest; undefined where there is none. */
export function decodeHeader(start: Buffer): ManifestHeader | undefined {
  try {
    const reader = new ByteReader(start);
    const paths = new PathUnpacker();
    const header = readHeader(reader, paths);
    if (header === undefined) return undefined;
    const first = header.count === 0 ? undefined : readChange(reader, paths);
    return { ...header, changesRoot: first !== undefined && changePath(first) === ROOT_PATH };
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** Bytes of the files in the diff's own folder, hard links counted once. */
function ownBytes({ changes, own }: Manifest): number {
  let bytes = 0;
  for (const change of changes) {
    if (change.kind !== 'set' || change.entry.hardlinkTo !== undefined) continue;
    if (own === undefined || own.has(change.entry.path)) bytes += change.entry.size;
  }
  return bytes;
}

/** Whether two lists of changes are the same, but for the root folder, which a scan lists and a manifest may not. */
export function sameChanges(a: readonly Change[], b: readonly Change[]): boolean {
  const encode = (changes: readonly Change[]) => {
    const out = new ByteWriter(64 * 1024);
    const paths = new PathPacker();
    for (const change of changes) {
      if (changePath(change) !== ROOT_PATH) writeChange(out, paths, { change, isOwn: false });
    }
    return out.take();
  };
  return encode(a).equals(encode(b));
}

/** Paths come in order, so each is written as what it does not share with the one before. */
class PathPacker {
  #last: Buffer = Buffer.alloc(0);

  write(out: ByteWriter, path: ImagePath): void {
    const bytes = encodePath(path);
    const most = Math.min(bytes.length, this.#last.length);
    let shared = 0;
    while (shared < most && bytes[shared] === this.#last[shared]) shared++;
    out.varint(shared);
    out.bytes(bytes.subarray(shared));
    this.#last = bytes;
  }
}

class PathUnpacker {
  #scratch: Buffer = Buffer.alloc(4096);

  read(reader: ByteReader): ImagePath {
    const shared = reader.varint();
    const rest = reader.bytes();
    const length = shared + rest.length;
    if (length > this.#scratch.length) {
      const larger = Buffer.alloc(length * 2);
      this.#scratch.copy(larger);
      this.#scratch = larger;
    }
    rest.copy(this.#scratch, shared);
    return decodePath(this.#scratch.subarray(0, length)) as ImagePath;
  }
}

/** A change with the mark of a patch's own names. */
interface Marked {
  readonly change: Change;
  readonly isOwn: boolean;
}

function writeChange(out: ByteWriter, paths: PathPacker, { change, isOwn }: Marked): void {
  if (change.kind === 'set') {
    writeEntry(out, paths, change.entry, isOwn);
    return;
  }
  out.u8(change.kind === 'whiteout' ? WHITEOUT : OPAQUE);
  paths.write(out, change.path);
}

function writeEntry(out: ByteWriter, paths: PathPacker, entry: Entry, isOwn = false): void {
  const xattrs = Object.entries(entry.xattrs ?? {});
  const flags =
    (entry.hardlinkTo === undefined ? 0 : HAS_HARDLINK) |
    (xattrs.length === 0 ? 0 : HAS_XATTRS) |
    (isOwn ? IS_OWN : 0);
  out.u8(TYPES.indexOf(entry.type) | flags);
  paths.write(out, entry.path);
  out.varint(entry.mode);
  out.varint(entry.uid);
  out.varint(entry.gid);
  out.f64(entry.mtime.sec);
  out.varint(entry.mtime.nsec);
  if (entry.type === 'file') out.varint(entry.size);
  if (entry.type === 'symlink') out.bytes(encodePath(entry.linkTarget ?? ''));
  if (entry.type === 'char' || entry.type === 'block') {
    out.varint(entry.device?.major ?? 0);
    out.varint(entry.device?.minor ?? 0);
  }
  if (entry.hardlinkTo !== undefined) out.bytes(encodePath(entry.hardlinkTo));
  if (xattrs.length === 0) return;
  out.varint(xattrs.length);
  for (const [name, value] of xattrs) {
    out.bytes(encodePath(name));
    out.bytes(value);
  }
}

function readHeader(
  reader: ByteReader,
  paths: PathUnpacker,
): Omit<ManifestHeader, 'changesRoot'> | undefined {
  if (!reader.raw(MAGIC.length).equals(MAGIC) || reader.varint() !== VERSION) return undefined;
  const createdAtMs = reader.varint();
  const bytes = reader.varint();
  const count = reader.varint();
  const root = readChange(reader, paths);
  if (root.kind !== 'set' || root.entry.path !== ROOT_PATH) return undefined;
  return { createdAtMs, bytes, count, root: root.entry };
}

function readChange(reader: ByteReader, paths: PathUnpacker): Change {
  const head = reader.u8();
  const kind = head & KIND_MASK;
  const path = paths.read(reader);
  if (kind === WHITEOUT) return { kind: 'whiteout', path };
  if (kind === OPAQUE) return { kind: 'opaque', path };
  const type = TYPES[kind];
  if (type === undefined) throw new RangeError(`manifest record of unknown kind ${kind}`);
  const mode = reader.varint();
  const uid = reader.varint();
  const gid = reader.varint();
  const mtime = { sec: reader.f64(), nsec: reader.varint() };
  const size = type === 'file' ? reader.varint() : 0;
  const linkTarget = type === 'symlink' ? decodePath(reader.bytes()) : undefined;
  const isDevice = type === 'char' || type === 'block';
  const device = isDevice ? { major: reader.varint(), minor: reader.varint() } : undefined;
  const hardlinkTo = head & HAS_HARDLINK ? (decodePath(reader.bytes()) as ImagePath) : undefined;
  const xattrs = head & HAS_XATTRS ? readXattrs(reader) : undefined;
  const entry: Entry = {
    path,
    type,
    mode,
    uid,
    gid,
    size,
    mtime,
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(hardlinkTo === undefined ? {} : { hardlinkTo }),
    ...(device === undefined ? {} : { device }),
    ...(xattrs === undefined ? {} : { xattrs }),
  };
  return { kind: 'set', entry };
}

function readXattrs(reader: ByteReader): Record<string, Uint8Array> {
  const pairs: [string, Uint8Array][] = [];
  const count = reader.varint();
  for (let i = 0; i < count; i++) {
    const name = decodePath(reader.bytes());
    pairs.push([name, Uint8Array.from(reader.bytes())]);
  }
  return Object.fromEntries(pairs);
}
