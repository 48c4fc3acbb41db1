import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { errnoOf, MachineError, unreachable } from '../core/index.ts';
import { refused } from './byte-source.ts';
import { type ProgramCompression, throughProgram } from './decompress-program.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

/** What an archive that a user gives may be compressed with. Layers never are with the latter two. */
export type ArchiveCompression = Compression | ProgramCompression;

const CHUNK_BYTES = 128 * 1024;

export interface DecompressLimits {
  /** Most bytes that may come out. */
  readonly maxBytes: number;
  /** Most bytes out for each byte in, once more than `ratioFromBytes` came out. */
  readonly maxRatio: number;
  readonly ratioFromBytes: number;
}

/** gzip cannot reach more than 1032:1, so the ratio stops what only zstd can do; for gzip the size limit holds. */
export const DEFAULT_DECOMPRESS_LIMITS: DecompressLimits = {
  maxBytes: 32 * 1024 ** 3,
  maxRatio: 1100,
  ratioFromBytes: 1024 ** 3,
};

/** By the first bytes: RFC 1952 section 2.3.1; RFC 8878 sections 3.1.1 and 3.1.2. */
export function compressionOf(head: Uint8Array): Compression {
  const [a, b, c, d] = head;
  if (a === 0x1f && b === 0x8b) return 'gzip';
  const zstdTail = b === 0xb5 && c === 0x2f && d === 0xfd;
  if (a === 0x28 && zstdTail) return 'zstd';
  const skippable = a !== undefined && (a & 0xf0) === 0x50 && b === 0x2a && c === 0x4d && d === 0x18;
  return skippable ? 'zstd' : 'none';
}

/** As {@link compressionOf}, and by the magic numbers of bzip2 and of the .xz file format (section 2.1.1.1). */
export function archiveCompressionOf(head: Uint8Array): ArchiveCompression {
  const startsWith = (magic: readonly number[]): boolean => magic.every((byte, at) => head[at] === byte);
  if (startsWith(BZIP2_MAGIC)) return 'bzip2';
  return startsWith(XZ_MAGIC) ? 'xz' : compressionOf(head);
}

const BZIP2_MAGIC = [0x42, 0x5a, 0x68];
const XZ_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
/** As many bytes as tell every compression. */
const HEAD_BYTES = 6;

/**
 * The plain bytes of a stream that is plain, gzip (of one or more members) or zstd (of one or more frames), told by its first bytes.
 *
 * @throws MachineError `layer-refused` where the stream is damaged or gives more than the limits.
 */
export function decompress(
  stream: AsyncIterable<Uint8Array>,
  limits: DecompressLimits = DEFAULT_DECOMPRESS_LIMITS,
): AsyncGenerator<Uint8Array> {
  return expand(stream, limits, compressionOf);
}

/**
 * As {@link decompress}, for archives that users give: bzip2 and xz too, by the programs of these names.
 *
 * @throws MachineError also `program-missing` where the program is not installed.
 */
export function decompressArchive(
  stream: AsyncIterable<Uint8Array>,
  limits: DecompressLimits = DEFAULT_DECOMPRESS_LIMITS,
): AsyncGenerator<Uint8Array> {
  return expand(stream, limits, archiveCompressionOf);
}

async function* expand(
  stream: AsyncIterable<Uint8Array>,
  limits: DecompressLimits,
  tell: (head: Uint8Array) => ArchiveCompression,
): AsyncGenerator<Uint8Array> {
  const counter = { in: 0, out: 0 };
  const { head, rest } = await peek(count(stream, counter));
  const kind = tell(head);
  const plain = plainBytes(rest, kind);
  for await (const chunk of plain) {
    counter.out += chunk.byteLength;
    if (counter.out > limits.maxBytes) throw refused(`the archive holds more than ${limits.maxBytes} bytes`);
    const swollen = counter.out > limits.ratioFromBytes && counter.out / counter.in > limits.maxRatio;
    if (kind !== 'none' && swollen) throw refused('the archive is a decompression bomb');
    yield chunk;
  }
}

function plainBytes(stream: AsyncIterable<Uint8Array>, kind: ArchiveCompression): AsyncIterable<Uint8Array> {
  switch (kind) {
    case 'none':
      return stream;
    case 'gzip':
    case 'zstd':
      return inflate(stream, kind);
    case 'bzip2':
    case 'xz':
      return throughProgram(stream, kind);
    default:
      return unreachable(kind);
  }
}

async function* count(
  stream: AsyncIterable<Uint8Array>,
  counter: { in: number },
): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    counter.in += chunk.byteLength;
    yield chunk;
  }
}

/** The first bytes (fewer where there are no more), and the whole stream. */
async function peek(
  stream: AsyncGenerator<Uint8Array>,
): Promise<{ readonly head: Uint8Array; readonly rest: AsyncIterable<Uint8Array> }> {
  let head: Uint8Array = new Uint8Array();
  while (head.byteLength < HEAD_BYTES) {
    const next = await stream.next();
    if (next.done === true) break;
    head = head.byteLength === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  async function* rest(): AsyncGenerator<Uint8Array> {
    try {
      if (head.byteLength > 0) yield head;
      yield* stream;
    } finally {
      await stream.return(undefined);
    }
  }
  return { head, rest: rest() };
}

async function* inflate(
  stream: AsyncIterable<Uint8Array>,
  kind: 'gzip' | 'zstd',
): AsyncGenerator<Uint8Array> {
  const options = { chunkSize: CHUNK_BYTES };
  const codec: Transform = kind === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
  const flowing = pipeline(Readable.from(stream, { objectMode: true }), codec);
  // The reader below sees the same error; this keeps it from being reported as unhandled as well.
  flowing.catch(() => {});
  try {
    for await (const chunk of codec as AsyncIterable<Uint8Array>) yield chunk;
    await flowing;
  } catch (error) {
    if (isCodecError(error)) throw refused(`the archive's ${kind} compression is damaged`, error);
    throw error;
  } finally {
    codec.destroy();
  }
}

/** zlib and zstd errors carry `code` such as `Z_DATA_ERROR`; those of the source come through as they are. */
function isCodecError(error: unknown): boolean {
  if (error instanceof MachineError || errnoOf(error) !== undefined || !(error instanceof Error))
    return false;
  return 'code' in error && typeof error.code === 'string' && /^Z(?:STD)?_/i.test(error.code);
}
