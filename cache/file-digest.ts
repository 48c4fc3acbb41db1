import { createHash } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Digest, fsPath, type HostPath } from '../core/index.ts';

/** Up to this size a file is read in one go: handing every small file to a thread and back costs several times the reading. */
const SMALL_BYTES = 256 * 1024;
const CHUNK_BYTES = 64 * 1024;

/** How many files and bytes are read in one go before the event loop gets its turn. */
const TURN_FILES = 64;
const TURN_BYTES = 4 * 1024 * 1024;

// A symlink or a pipe that took the file's place is refused, and nobody waits for a writer.
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** SHA-256 of a file that should hold `size` bytes. Reads at most one byte more, to notice that it grew. */
export type DigestFile = (file: HostPath, size: number) => Promise<Digest>;

/** A {@link DigestFile} that lets the event loop run in between. Fails with Node's own errors. */
export function fileDigester(): DigestFile {
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let files = 0;
  let bytes = 0;
  return async (file, size) => {
    if (size > SMALL_BYTES) return digestLarge(file, size);
    files += 1;
    bytes += size;
    if (files > TURN_FILES || bytes > TURN_BYTES) {
      files = 0;
      bytes = 0;
      await nextTurn();
    }
    return digestSmall(file, size, chunk);
  };
}

function digestSmall(file: HostPath, size: number, chunk: Buffer): Digest {
  const hash = createHash('sha256');
  const descriptor = openSync(fsPath(file), FLAGS);
  try {
    let left = size + 1;
    while (left > 0) {
      const count = readSync(descriptor, chunk, 0, Math.min(left, chunk.length), null);
      if (count === 0) break;
      hash.update(chunk.subarray(0, count));
      left -= count;
    }
  } finally {
    closeSync(descriptor);
  }
  return `sha256:${hash.digest('hex')}` as Digest;
}

async function digestLarge(file: HostPath, size: number): Promise<Digest> {
  const hash = createHash('sha256');
  await using handle = await open(fsPath(file), FLAGS);
  const stream = handle.createReadStream({ end: size, highWaterMark: 1024 * 1024, autoClose: false });
  for await (const chunk of stream) hash.update(chunk);
  return `sha256:${hash.digest('hex')}` as Digest;
}
