import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import {
  baseName,
  type Change,
  type Digest,
  digestHex,
  type Entry,
  encodePath,
  type FileType,
  type ImagePath,
  ROOT_PATH,
} from '../core/index.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import type { DiffIndex } from './diff-index.ts';

/**
 * What a diff's `folders` file holds: folder by folder every fact that an observation can see, contents among them, so that two
 * diffs are compared without going through all of their names. Its form is stated in docs/on-disk-format.md.
 */
export interface FolderFacts {
  /** Digest of all that the diff says below its root. */
  readonly digest: Buffer;
  /** Where its record lies in the file. */
  readonly offset: number;
  /** What it says right below the root, in the order of the names' bytes. In any other order more would seem to differ, never less. */
  names(): readonly NameFacts[];
}

/** What a diff says of one name. */
export interface NameFacts {
  readonly name: Buffer;
  /** Its type, or that it is a whiteout, and whether it is an opaque folder: what says how other names are found. */
  readonly kind: number;
  /** All else: equal bytes for equal facts. Folders have no time: observations see none. */
  readonly facts: Buffer;
  /** Of a folder, what the diff says in it. */
  readonly inside: FolderFacts | undefined;
}

const MAGIC = Buffer.from('varvfold');
const VERSION = 1;
const HEADER_BYTES = MAGIC.length + 1;
const OFFSET_BYTES = 4;
const DIGEST_BYTES = 32;
const CHECKSUM_BYTES = 4;
const TRAILER_BYTES = DIGEST_BYTES + OFFSET_BYTES + CHECKSUM_BYTES;

const TYPES: readonly FileType[] = ['file', 'dir', 'symlink', 'char', 'block', 'fifo', 'socket'];
const DIR = TYPES.indexOf('dir');
const WHITEOUT = 8;
const OPAQUE = 0x10;

const NO_BYTES = Buffer.alloc(0);
const EMPTY_FILE = hash('sha256', '', 'buffer');

/**
 * The file of a diff; undefined where it cannot have one: the content of some file is not known, files share names (how many names a file
 * has does not follow from one folder), or a name lies in no folder of the diff.
 *
 * @param digests of the files' content, by path.
 */
export function encodeFolders(
  index: DiffIndex,
  digests: ReadonlyMap<ImagePath, Digest> | undefined,
): Buffer | undefined {
  if (!index.changes.every((change) => isKnown(change, digests))) return undefined;
  const writer = new FolderWriter(index, digests);
  const file = writer.file();
  return writer.names === index.changes.filter(isName).length ? file : undefined;
}

/**
 * The file of a patch, in which the records of its original's come first and stay for all folders that the patch leaves alone; undefined
 * where it cannot have one.
 *
 * @param index of the patch, whose own names include the folders that they lie in.
 * @param digests of the content of its own files.
 * @param original the original's file.
 */
export function encodePatchedFolders(
  index: DiffIndex,
  digests: ReadonlyMap<ImagePath, Digest> | undefined,
  original: Buffer,
): Buffer | undefined {
  const { own = new Set() } = index;
  const was = decodeFolders(original);
  for (const path of own) {
    const verdict = index.verdict(path);
    if (verdict?.kind === 'entry' && !isKnown({ kind: 'set', entry: verdict.entry }, digests))
      return undefined;
  }
  return was === undefined
    ? undefined
    : new FolderWriter(index, digests, { file: original, was, own }).file();
}

function isKnown(change: Change, digests: ReadonlyMap<ImagePath, Digest> | undefined): boolean {
  if (change.kind !== 'set' || change.entry.type !== 'file') return true;
  const { path, hardlinkTo, size } = change.entry;
  return hardlinkTo === undefined && (size === 0 || digests?.has(path) === true);
}

function isName(change: Change): boolean {
  if (change.kind === 'opaque') return false;
  return change.kind === 'whiteout' || change.entry.path !== ROOT_PATH;
}

/** Where a folder's record begins, and its digest. */
interface Written {
  readonly offset: number;
  readonly digest: Buffer;
}

/** The file that a patch's begins with. */
interface Patched {
  readonly file: Buffer;
  readonly was: FolderFacts;
  readonly own: ReadonlySet<ImagePath>;
}

class FolderWriter extends ByteWriter {
  names = 0;
  readonly #index: DiffIndex;
  readonly #digests: ReadonlyMap<ImagePath, Digest> | undefined;
  readonly #patched: Patched | undefined;

  constructor(index: DiffIndex, digests: ReadonlyMap<ImagePath, Digest> | undefined, patched?: Patched) {
    super(64 * 1024 + (patched === undefined ? index.changes.length * 96 : patched.file.length));
    this.#index = index;
    this.#digests = digests;
    this.#patched = patched;
  }

  file(): Buffer {
    if (this.#patched === undefined) {
      this.raw(MAGIC);
      this.varint(VERSION);
    } else this.raw(this.#patched.file.subarray(0, -TRAILER_BYTES));
    const root = this.#folder(ROOT_PATH, this.#patched?.was);
    this.raw(root.digest);
    this.#u32(root.offset);
    this.#u32(crc32(this.take()));
    return this.take();
  }

  /**
   * Folders first, since a record names those in it by their digests.
   *
   * @param was the same folder in the file that this one begins with.
   */
  #folder(path: ImagePath, was?: FolderFacts): Written {
    const children = this.#index.children(path);
    const before = new Map(was?.names().map((one) => [one.name.toString('latin1'), one]));
    const inside = new Map<ImagePath, Written>();
    const kept = new Map<ImagePath, NameFacts>();
    for (const child of children) {
      const old = before.get(encodePath(baseName(child)).toString('latin1'));
      if (old !== undefined && this.#patched?.own.has(child) === false) {
        kept.set(child, old);
        if (old.inside !== undefined) inside.set(child, old.inside);
        continue;
      }
      const verdict = this.#index.verdict(child);
      if (verdict?.kind !== 'entry' || verdict.entry.type !== 'dir') continue;
      inside.set(child, this.#folder(child, old?.inside));
    }
    const offset = this.length;
    const holes: { readonly at: number; readonly value: number }[] = [];
    this.varint(children.length);
    for (const child of children) {
      const old = kept.get(child);
      if (old === undefined) this.#name(child);
      else this.#keep(old);
      const written = inside.get(child);
      if (written === undefined) continue;
      this.raw(written.digest);
      holes.push({ at: this.length, value: written.offset });
      this.#u32(0);
    }
    this.names += children.length;
    // Where other folders lie in the file is no fact of this one.
    const digest = hash('sha256', this.buffer.subarray(offset, this.length), 'buffer');
    for (const { at, value } of holes) this.buffer.writeUInt32LE(value, at);
    return { offset, digest };
  }

  #keep({ kind, name, facts }: NameFacts): void {
    this.u8(kind);
    this.bytes(name);
    if (kind === WHITEOUT) return;
    this.#u32(facts.length);
    this.raw(facts);
  }

  #name(path: ImagePath): void {
    const verdict = this.#index.verdict(path);
    if (verdict === undefined || verdict.kind === 'whiteout') {
      this.u8(WHITEOUT);
      this.#text(baseName(path));
      return;
    }
    const { entry } = verdict;
    this.u8(TYPES.indexOf(entry.type) | (this.#index.isOpaque(path) ? OPAQUE : 0));
    this.#text(baseName(path));
    const size = this.#holeForSize();
    this.varint(entry.mode);
    this.varint(entry.uid);
    this.varint(entry.gid);
    if (entry.type !== 'dir') this.#factsOfOther(entry);
    if (entry.xattrs !== undefined) this.#xattrs(entry.xattrs);
    this.buffer.writeUInt32LE(this.length - size - OFFSET_BYTES, size);
  }

  #factsOfOther({ path, type, mtime, size, linkTarget, device }: Entry): void {
    this.f64(mtime.sec);
    this.varint(mtime.nsec);
    if (type === 'file') {
      this.varint(size);
      const digest = this.#digests?.get(path);
      if (size === 0 || digest === undefined) this.raw(EMPTY_FILE);
      else this.#digest(digest);
    }
    if (type === 'symlink') this.#text(linkTarget ?? '');
    if (type === 'char' || type === 'block') {
      this.varint(device?.major ?? 0);
      this.varint(device?.minor ?? 0);
    }
  }

  #digest(digest: Digest): void {
    const at = this.reserve(DIGEST_BYTES);
    this.buffer.write(digestHex(digest), at, 'hex');
  }

  #xattrs(xattrs: Readonly<Record<string, Uint8Array>>): void {
    for (const [name, value] of Object.entries(xattrs).sort(([a], [b]) => (a < b ? -1 : 1))) {
      this.#text(name);
      this.bytes(value);
    }
  }

  /** The bytes of a name, with their length; there may be tens of thousands, so mostly without a buffer of their own. */
  #text(text: string): void {
    if (!text.isWellFormed()) {
      this.bytes(encodePath(text));
      return;
    }
    const size = Buffer.byteLength(text);
    this.varint(size);
    const at = this.reserve(size);
    this.buffer.write(text, at, size);
  }

  #holeForSize(): number {
    const at = this.length;
    this.#u32(0);
    return at;
  }

  #u32(value: number): void {
    const at = this.reserve(OFFSET_BYTES);
    this.buffer.writeUInt32LE(value, at);
  }
}

/** Whether two names of one kind differ in more than their time. */
export function differBesidesTime(one: NameFacts, other: NameFacts): boolean {
  if (one.facts.equals(other.facts)) return false;
  if ((one.kind & ~OPAQUE) === DIR) return true;
  const [a, b] = [timelessFacts(one), timelessFacts(other)];
  return a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid || !a.rest.equals(b.rest);
}

function timelessFacts({ facts }: NameFacts) {
  const reader = new ByteReader(facts);
  const [mode, uid, gid] = [reader.varint(), reader.varint(), reader.varint()];
  reader.f64();
  reader.varint();
  return { mode, uid, gid, rest: reader.rest() };
}

/** undefined where `file` is torn, or of another version. */
export function decodeFolders(file: Buffer): FolderFacts | undefined {
  const end = file.length - TRAILER_BYTES;
  if (end < HEADER_BYTES || !file.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  if (file[MAGIC.length] !== VERSION) return undefined;
  const body = file.length - CHECKSUM_BYTES;
  if (crc32(file.subarray(0, body)) !== file.readUInt32LE(body)) return undefined;
  return folderAt(file, file.subarray(end, end + DIGEST_BYTES), file.readUInt32LE(end + DIGEST_BYTES));
}

function folderAt(file: Buffer, digest: Buffer, offset: number): FolderFacts {
  return { digest, offset, names: () => readNames(file, offset) };
}

function readNames(file: Buffer, offset: number): readonly NameFacts[] {
  const reader = new ByteReader(file.subarray(offset));
  const names: NameFacts[] = [];
  const count = reader.varint();
  for (let at = 0; at < count; at += 1) {
    const kind = reader.u8();
    const name = reader.bytes();
    if (kind === WHITEOUT) {
      names.push({ name, kind, facts: NO_BYTES, inside: undefined });
      continue;
    }
    const facts = reader.raw(reader.raw(OFFSET_BYTES).readUInt32LE());
    const isFolder = (kind & ~OPAQUE) === DIR;
    const inside = isFolder
      ? folderAt(file, reader.raw(DIGEST_BYTES), reader.raw(OFFSET_BYTES).readUInt32LE())
      : undefined;
    names.push({ name, kind, facts, inside });
  }
  return names;
}
