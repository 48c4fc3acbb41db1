import { promisify } from 'node:util';
import { constants, crc32, zstdCompress, zstdDecompressSync } from 'node:zlib';
import { comparePaths, type Digest, digestOf, type ImagePath, type Observation, USE } from '../core/index.ts';

const compress = promisify(zstdCompress);

/** Paths that were looked at, with what was used of each; sorted by bytes, each path once. */
export interface PathSet {
  /** SHA-256 over paths and uses. */
  readonly digest: Digest;
  readonly paths: readonly ImagePath[];
  /** Bits of `USE`, in the order of the paths. */
  readonly uses: Uint8Array;
}

/** Who looked at the paths of a set first. */
export interface Programs {
  readonly names: readonly string[];
  /** In the order of the paths: 0 for nobody, else the place in `names` counted from 1. */
  readonly of: Uint16Array;
}

const ALL_USES = Object.values(USE).reduce((all, use) => all | use, 0);
const MAX_PROGRAMS = 65_535;

/** First bytes of the text that a set's digest is taken of. Raised with every change of the format. */
const MAGIC = Buffer.from('varve paths 1\0', 'latin1');
const HEADER_BYTES = MAGIC.length + 4;

/** Puts observations in order; what was seen of one path several times is joined, and the first program is kept. */
export function sortObservations(observations: readonly Observation[]): readonly Observation[] {
  const joined = new Map<ImagePath, Observation>();
  for (const observation of observations) {
    const { path, uses } = observation;
    if ((uses & ~ALL_USES) !== 0) throw new Error(`unknown uses ${uses} of ${JSON.stringify(path)}`);
    const known = joined.get(path);
    if (known === undefined) joined.set(path, observation);
    else {
      const by = known.by ?? observation.by;
      joined.set(path, { path, uses: known.uses | uses, ...(by === undefined ? {} : { by }) });
    }
  }
  return [...joined.values()].sort((a, b) => comparePaths(a.path, b.path));
}

/** The set of sorted observations, its bytes as {@link openPathSet} reads them, and the programs. */
export function pathSetOf(observations: readonly Observation[]): {
  readonly set: PathSet;
  readonly bytes: Buffer;
  readonly programs: Programs;
} {
  const paths = observations.map(({ path }) => path);
  const uses = Uint8Array.from(observations, (observation) => observation.uses);
  const bytes = encodePathSet(paths, uses);
  return { set: { digest: digestOf(bytes), paths, uses }, bytes, programs: programsOf(observations) };
}

/**
 * A set as bytes, the same for equal sets:
 *
 *     "varve paths 1" NUL  u32 (little-endian) number of paths
 *     one byte of uses for each path
 *     paths, UTF-8, NUL between them
 *
 * A path with NUL or lone surrogates stands as U+0001 and its JSON form, as does one that begins with U+0001.
 */
function encodePathSet(paths: readonly ImagePath[], uses: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(paths.length, MAGIC.length);
  const names = paths.map((path) => (isPlain(path) ? path : `\x01${JSON.stringify(path)}`));
  return Buffer.concat([header, uses, Buffer.from(names.join('\0'), 'utf8')]);
}

function isPlain(path: string): boolean {
  return path.isWellFormed() && !path.startsWith('\x01') && !path.includes('\0');
}

/** A set as {@link encodePathSet} wrote it. */
export interface PathSetBytes {
  readonly digest: Digest;
  readonly count: number;
  /** One for each path. */
  readonly uses: Buffer;
  readonly names: Buffer;
}

/** The bytes whose digest is `digest`; undefined for any others. */
export function openPathSet(bytes: Buffer, digest: Digest): PathSetBytes | undefined {
  if (digestOf(bytes) !== digest || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const count = bytes.readUInt32LE(MAGIC.length);
  const namesAt = HEADER_BYTES + count;
  return { digest, count, uses: bytes.subarray(HEADER_BYTES, namesAt), names: bytes.subarray(namesAt) };
}

export function decodePathSet(opened: PathSetBytes): PathSet {
  const { digest, count } = opened;
  const uses = new Uint8Array(opened.uses);
  const names = count === 0 ? [] : opened.names.toString('utf8').split('\0');
  const paths = names.map((name) =>
    name.startsWith('\x01') ? String(JSON.parse(name.slice(1))) : name,
  ) as readonly string[] as readonly ImagePath[];
  return { digest, paths, uses };
}

function programsOf(observations: readonly Observation[]): Programs {
  const places = new Map<string, number>();
  const of = new Uint16Array(observations.length);
  for (const [at, { by }] of observations.entries()) {
    if (by === undefined) continue;
    let place = places.get(by);
    if (place === undefined && places.size < MAX_PROGRAMS) {
      place = places.size + 1;
      places.set(by, place);
    }
    of[at] = place ?? 0;
  }
  return { names: [...places.keys()], of };
}

/** Programs as bytes: JSON of the names, and NUL, and the places as u16 (little-endian). */
export function encodePrograms({ names, of }: Programs): Buffer {
  const places = Buffer.alloc(of.length * 2);
  for (const [at, place] of of.entries()) places.writeUInt16LE(place, at * 2);
  return Buffer.concat([Buffer.from(`${JSON.stringify(names)}\0`, 'utf8'), places]);
}

/** Reads what {@link encodePrograms} wrote for `count` paths; undefined for anything else. */
export function decodePrograms(bytes: Buffer, count: number): Programs | undefined {
  const end = bytes.indexOf(0);
  if (end === -1 || bytes.length !== end + 1 + count * 2) return undefined;
  const names: readonly string[] = JSON.parse(bytes.toString('utf8', 0, end));
  const of = new Uint16Array(count);
  for (let at = 0; at < count; at += 1) of[at] = bytes.readUInt16LE(end + 1 + at * 2);
  return { names, of };
}

export function programAt({ names, of }: Programs, at: number): string | undefined {
  return names[(of[at] ?? 0) - 1];
}

/** First byte of what is stored as it is, behind its CRC-32 as u32 (little-endian); no frame of zstd begins so. */
const PLAIN = 0;
const PLAIN_HEADER_BYTES = 5;

/** The state of one compression has megabytes, and takes longer to make than all else of a small step's record. */
const MOST_PLAIN_BYTES = 2048;

/** Bytes as they are stored, with a checksum: few as they are, more as zstd. */
export async function pack(bytes: Uint8Array): Promise<Buffer> {
  if (bytes.length > MOST_PLAIN_BYTES)
    return compress(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
  const header = Buffer.alloc(PLAIN_HEADER_BYTES, PLAIN);
  header.writeUInt32LE(crc32(bytes), 1);
  return Buffer.concat([header, bytes]);
}

/** Larger pieces than zlib's own: most sets then come out in one or two. */
const UNPACK_CHUNK = 256 * 1024;

/** What {@link pack} was given; undefined where the stored bytes are damaged. */
export function unpack(stored: Uint8Array): Buffer | undefined {
  if (stored[0] === PLAIN) return unpackPlain(Buffer.from(stored.buffer, stored.byteOffset, stored.length));
  try {
    return zstdDecompressSync(stored, { chunkSize: UNPACK_CHUNK });
  } catch {
    return undefined;
  }
}

function unpackPlain(stored: Buffer): Buffer | undefined {
  if (stored.length < PLAIN_HEADER_BYTES) return undefined;
  const bytes = stored.subarray(PLAIN_HEADER_BYTES);
  return crc32(bytes) === stored.readUInt32LE(1) ? bytes : undefined;
}
