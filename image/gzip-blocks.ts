import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { constants, crc32, deflateRaw } from 'node:zlib';

const BLOCK_BYTES = 1024 * 1024;
/** How far back deflate looks (RFC 1951, section 2). */
const WINDOW_BYTES = 32 * 1024;
/** Node has four threads for this and for files: one is left for these. */
const MOST_AT_ONCE = 3;

/** RFC 1952, section 2.3: deflate, no name, no time, Unix. */
const HEADER = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3);

const deflate = promisify<Uint8Array, Parameters<typeof deflateRaw>[1], Buffer>(deflateRaw);

/**
 * `plain` as one gzip member. Blocks of a fixed size are deflated side by side, each with the end of the one before it as its
 * dictionary, and end at a byte: put together they are one deflate stream. The same bytes come out for the same bytes, level and
 * zlib, however many processors there are and however `plain` is cut into chunks.
 */
export async function* gzipInBlocks(
  plain: AsyncIterable<Uint8Array>,
  level: number,
): AsyncGenerator<Uint8Array> {
  const atOnce = Math.max(1, Math.min(MOST_AT_ONCE, availableParallelism()));
  const running: Promise<Uint8Array>[] = [];
  let checksum = 0;
  let size = 0;
  yield HEADER;
  for await (const { bytes, window, isLast } of blocksOf(plain)) {
    checksum = crc32(bytes, checksum);
    size += bytes.byteLength;
    const deflated = deflate(bytes, {
      level,
      finishFlush: isLast ? constants.Z_FINISH : constants.Z_SYNC_FLUSH,
      ...(window.byteLength === 0 ? {} : { dictionary: window }),
    });
    // Awaited in its turn, or by nobody where the reader has gone.
    deflated.catch(() => {});
    running.push(deflated);
    const oldest = running.length < atOnce ? undefined : running.shift();
    if (oldest !== undefined) yield await oldest;
  }
  for (const deflated of running) yield await deflated;
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(checksum, 0);
  trailer.writeUInt32LE(size % 2 ** 32, 4);
  yield trailer;
}

interface Block {
  readonly bytes: Uint8Array;
  /** What stands right before it. */
  readonly window: Uint8Array;
  readonly isLast: boolean;
}

/** All of `plain` in blocks of one size, but for the last, which is smaller, or as large, or empty where there is nothing at all. */
async function* blocksOf(plain: AsyncIterable<Uint8Array>): AsyncGenerator<Block> {
  let window: Uint8Array = new Uint8Array();
  let block = Buffer.allocUnsafe(BLOCK_BYTES);
  let used = 0;
  for await (const chunk of plain) {
    for (let at = 0; at < chunk.byteLength; ) {
      if (used === BLOCK_BYTES) {
        yield { bytes: block, window, isLast: false };
        window = block.subarray(BLOCK_BYTES - WINDOW_BYTES);
        block = Buffer.allocUnsafe(BLOCK_BYTES);
        used = 0;
      }
      const part = chunk.subarray(at, at + BLOCK_BYTES - used);
      block.set(part, used);
      used += part.byteLength;
      at += part.byteLength;
    }
  }
  yield { bytes: block.subarray(0, used), window, isLast: true };
}
