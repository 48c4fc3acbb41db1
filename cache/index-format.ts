import { createHash } from 'node:crypto';
import { type Digest, digestHex, digestOf, encodePath, type FileMark, type HostPath } from '../core/index.ts';

/** What the index remembers of one file. */
export interface IndexEntry {
  /** xxh64 of the stat tuple, 16 hex digits. */
  readonly mark: FileMark;
  readonly digest: Digest;
  /** Savings since a build last asked for the file. */
  readonly age: number;
}

const MAGIC = Buffer.from('varveidx', 'latin1');
const VERSION = 1;
const CHECKSUM_BYTES = 32;
const HEADER_BYTES = MAGIC.length + 3 * 4 + 32;
/** Mark, digest, age. */
const ROW_BYTES = 8 + 32 + 1;
const OLDEST = 255;

/** The name of a context folder's index file: a digest of its path. */
export function indexName(context: HostPath): string {
  return digestHex(contextDigest(context));
}

function contextDigest(context: HostPath): Digest {
  return digestOf(encodePath(context));
}

/**
 * One folder's index as bytes. Numbers are little-endian:
 *
 *     "varveidx"  u32 version  u32 rows  u32 bytes of paths  sha256 of the context's path
 *     rows x { mark 8, sha256 32, u8 age }
 *     paths in the order of the rows, UTF-8, NUL between them
 *     sha256 of everything before
 *
 * A path with lone surrogates stands as U+0001 and its JSON form, as does one that begins with U+0001.
 */
export function encodeIndex(context: HostPath, entries: ReadonlyMap<string, IndexEntry>): Buffer {
  const names: string[] = [];
  const rows = Buffer.alloc(entries.size * ROW_BYTES);
  let at = 0;
  for (const [path, { mark, digest, age }] of entries) {
    names.push(path.isWellFormed() && !path.startsWith('\x01') ? path : `\x01${JSON.stringify(path)}`);
    rows.write(mark, at, 'hex');
    rows.write(digestHex(digest), at + 8, 'hex');
    rows.writeUInt8(Math.min(age, OLDEST), at + 40);
    at += ROW_BYTES;
  }
  const paths = Buffer.from(names.join('\0'), 'utf8');
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(entries.size, 12);
  header.writeUInt32LE(paths.length, 16);
  header.write(indexName(context), 20, 'hex');
  const body = Buffer.concat([header, rows, paths]);
  return Buffer.concat([body, checksum(body)]);
}

/** Reads what {@link encodeIndex} wrote; undefined for anything else, however little it differs, and for another context's. */
export function decodeIndex(context: HostPath, bytes: Buffer): Map<string, IndexEntry> | undefined {
  if (bytes.length < HEADER_BYTES + CHECKSUM_BYTES) return undefined;
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC) || bytes.readUInt32LE(8) !== VERSION) return undefined;
  const count = bytes.readUInt32LE(12);
  const pathsAt = HEADER_BYTES + count * ROW_BYTES;
  if (pathsAt + bytes.readUInt32LE(16) !== body.length) return undefined;
  if (body.toString('hex', 20, HEADER_BYTES) !== indexName(context)) return undefined;
  if (!bytes.subarray(-CHECKSUM_BYTES).equals(checksum(body))) return undefined;
  // One hex text for all rows: a slice of it costs next to nothing, a call for each digest would not.
  const hex = body.toString('hex', HEADER_BYTES, pathsAt);
  const names = count === 0 ? [] : body.toString('utf8', pathsAt).split('\0');
  const entries = new Map<string, IndexEntry>();
  for (const [row, name] of names.entries()) {
    const at = row * ROW_BYTES * 2;
    entries.set(name.startsWith('\x01') ? String(JSON.parse(name.slice(1))) : name, {
      mark: hex.slice(at, at + 16) as FileMark,
      digest: `sha256:${hex.slice(at + 16, at + 80)}` as Digest,
      age: body.readUInt8(HEADER_BYTES + row * ROW_BYTES + 40),
    });
  }
  return entries.size === count ? entries : undefined;
}

function checksum(body: Buffer): Buffer {
  return createHash('sha256').update(body).digest();
}
