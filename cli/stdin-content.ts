import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { decodePath, type HostPath, UsageError } from '../core/index.ts';
import { isArchiveHead } from '../image/index.ts';
import type { StdinContent } from './argv/build-options.ts';

/** A Dockerfile longer than this is none (and an archive is told by its first block). */
const MAX_TEXT_BYTES = 16 * 2 ** 20;
const TAR_BLOCK = 512;

/**
 * Reads standard input to its end and tells what it holds, as `docker build -` does: a tar, plain or compressed, is
 * spooled to `folder`; anything else is the text of a Dockerfile.
 *
 * @throws UsageError where nothing comes, or a text is too long.
 */
export async function readStdin(
  stdin: AsyncIterable<Uint8Array>,
  folder: string,
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
    const path = join(folder, 'context.tar') as HostPath;
    const rest = async function* (): AsyncGenerator<Uint8Array> {
      yield head;
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) yield next.value;
    };
    await pipeline(
      Readable.from(rest(), { objectMode: false }),
      createWriteStream(path, { flags: 'wx', mode: 0o600 }),
      { signal },
    );
    return { kind: 'archive', path };
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
