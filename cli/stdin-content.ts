import { constants, createWriteStream } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { decodePath, errnoOf, type HostPath, UsageError } from '../core/index.ts';
import { isArchiveHead } from '../image/index.ts';
import type { StdinContent } from './argv/build-options.ts';

/** A Dockerfile longer than this is none (and an archive is told by its first block). */
const MAX_TEXT_BYTES = 16 * 2 ** 20;
const TAR_BLOCK = 512;

/** open(2), O_TMPFILE: a file of the folder's file system without a name. */
const NAMELESS = 0o20000000 | constants.O_DIRECTORY;
/** File systems and kernels that know no such file. */
const UNKNOWN: ReadonlySet<string> = new Set(['EOPNOTSUPP', 'EISDIR', 'ENOENT', 'EINVAL']);

/** A file in `folder` that nobody finds and that is gone with this process, however that ends. */
export async function openNameless(folder: string): Promise<FileHandle> {
  try {
    return await open(folder, constants.O_RDWR | NAMELESS, 0o600);
  } catch (error) {
    if (!UNKNOWN.has(errnoOf(error) ?? '')) throw error;
    const own = await mkdtemp(join(folder, 'varve-stdin-'));
    try {
      return await open(join(own, 'spool'), 'wx+', 0o600);
    } finally {
      await rm(own, { recursive: true, force: true });
    }
  }
}

/**
 * Reads standard input to its end and tells what it holds, as `docker build -` does: a tar, plain or compressed, is
 * written to `spool` and can be read by the path in the result while that is open; anything else is the text of a Dockerfile.
 *
 * @throws UsageError where nothing comes, or a text is too long.
 */
export async function readStdin(
  stdin: AsyncIterable<Uint8Array>,
  spool: FileHandle,
  signal: AbortSignal,
): Promise<StdinContent> {
  const chunks = stdin[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  let ended = false;
  const more = async (): Promise<void> => {
    const next = await chunks.next();
    signal.throwIfAborted();
    if (next.done === true) ended = true;
    else head = Buffer.concat([head, next.value]);
  };
  while (!ended && head.length < TAR_BLOCK) await more();
  if (head.length === 0)
    throw new UsageError('standard input is empty: it should hold a Dockerfile or a tar');
  if (isArchiveHead(head)) {
    const rest = async function* (): AsyncGenerator<Uint8Array> {
      yield head;
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) yield next.value;
    };
    // By its number: a stream of the handle's own would hold its end up.
    const file = createWriteStream('', { fd: spool.fd, autoClose: false });
    await pipeline(Readable.from(rest(), { objectMode: false }), file, { signal });
    return { kind: 'archive', path: `/proc/self/fd/${spool.fd}` as HostPath };
  }
  const parts = [head];
  let size = head.length;
  while (!ended) {
    const next = await chunks.next();
    signal.throwIfAborted();
    if (next.done === true) break;
    parts.push(Buffer.from(next.value));
    size += next.value.length;
    if (size > MAX_TEXT_BYTES)
      throw new UsageError('standard input is neither a tar nor a Dockerfile: it is over 16 MiB');
  }
  return { kind: 'text', text: decodePath(Buffer.concat(parts)) };
}
