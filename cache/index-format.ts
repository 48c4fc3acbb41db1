import { createHash } from 'node:crypto';
import { type Digest, digestHex, digestOf, encodePath, type HostPath } from '../core/index.ts';
import { IndexTable, ROW_BYTES } from './index-table.ts';

const MAGIC = Buffer.from('varveidx', 'latin1');
const VERSION = 1;
const CHECKSUM_BYTES = 32;
const HEADER_BYTES = MAGIC.length + 3 * 4 + 32;

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
 * The mark's highest byte comes first. A path with lone surrogates stands as U+0001 and its JSON form, as does one that begins with U+0001.
 */
export function encodeIndex(context: HostPath, table: IndexTable): Buffer {
  const { rows, paths, count } = table.bytes();
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(VERSION, 8);
  header.writeUInt32LE(count, 12);
  header.writeUInt32LE(paths.length, 16);
  header.write(indexName(context), 20, 'hex');
  const sum = createHash('sha256').update(header).update(rows).update(paths).digest();
  return Buffer.concat([header, rows, paths, sum]);
}

/** Reads what {@link encodeIndex} wrote; undefined for anything else, however little it differs, and for another context's. */
export function decodeIndex(context: HostPath, bytes: Buffer): IndexTable | undefined {
  if (bytes.length < HEADER_BYTES + CHECKSUM_BYTES) return undefined;
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC) || bytes.readUInt32LE(8) !== VERSION) return undefined;
  const count = bytes.readUInt32LE(12);
  const pathsAt = HEADER_BYTES + count * ROW_BYTES;
  if (pathsAt + bytes.readUInt32LE(16) !== body.length) return undefined;
  if (body.toString('hex', 20, HEADER_BYTES) !== indexName(context)) return undefined;
  if (!bytes.subarray(-CHECKSUM_BYTES).equals(createHash('sha256').update(body).digest())) return undefined;
  return new IndexTable({
    count,
    rows: body.subarray(HEADER_BYTES, pathsAt),
    paths: body.subarray(pathsAt),
  });
}
