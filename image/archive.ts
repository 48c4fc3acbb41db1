import { once } from 'node:events';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Pack } from 'tar-stream';
import { errnoOf, type HostPath } from '../core/index.ts';
import { diskError, syncFolder, temporaryName } from './durable.ts';

/** One file of an archive to be written. Archives are planned as lists of these, then become a tar or a folder. */
export interface ArchiveFile {
  /** Relative to the archive's root, plain ASCII. */
  readonly path: string;
  readonly size: number;
  open(): AsyncIterable<Uint8Array>;
}

const EPOCH = new Date(0);

export function bytesFile(path: string, bytes: Uint8Array): ArchiveFile {
  async function* open(): AsyncGenerator<Uint8Array> {
    yield bytes;
  }
  return { path, size: bytes.byteLength, open };
}

/** The files as a tar, the same bytes for the same files: their order as given, time 0, owner 0, mode 0644; folders first. */
export async function* tarOf(files: readonly ArchiveFile[]): AsyncGenerator<Uint8Array> {
  // Loaded when an archive is written: most builds write none.
  // Of a CommonJS package, a bundle has the default export alone.
  const { default: tarStream } = await import('tar-stream');
  const pack = tarStream.pack();
  const filling = fill(pack, files).catch((error: unknown) => {
    pack.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    for await (const chunk of pack as AsyncIterable<Uint8Array>) yield chunk;
    await filling;
  } finally {
    pack.destroy();
  }
}

async function fill(pack: Pack, files: readonly ArchiveFile[]): Promise<void> {
  const common = { uid: 0, gid: 0, mtime: EPOCH };
  for (const folder of foldersOf(files))
    pack.entry({ ...common, name: `${folder}/`, type: 'directory', mode: 0o755 });
  for (const { path, size, open: read } of files) {
    const written = Promise.withResolvers<void>();
    const header = { ...common, name: path, size, type: 'file', mode: 0o644 } as const;
    const entry = pack.entry(header, (error) => (error ? written.reject(error) : written.resolve()));
    entry.on('error', written.reject);
    written.promise.catch(() => {});
    for await (const chunk of read()) {
      if (!entry.write(chunk)) await Promise.race([once(entry, 'drain'), written.promise]);
    }
    entry.end(undefined);
    await written.promise;
  }
  pack.finalize();
}

function foldersOf(files: readonly ArchiveFile[]): readonly string[] {
  const folders = new Set<string>();
  for (const { path } of files) {
    const parts = path.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth += 1) folders.add(parts.slice(0, depth).join('/'));
  }
  return [...folders].sort();
}

/** Writes the files below `folder`; each appears whole. Files of an earlier export stay (blobs are shared by digest). */
export async function writeArchiveFolder(files: readonly ArchiveFile[], folder: HostPath): Promise<void> {
  for (const file of files) await writeStreamTo(join(folder, file.path) as HostPath, file.open());
}

/**
 * Writes a stream to `file`, which appears whole or not at all. What exists and is no regular file (a pipe, a device) is
 * written to as it is. @throws MachineError `disk-full`, `store-io`.
 */
export async function writeStreamTo(file: HostPath, stream: AsyncIterable<Uint8Array>): Promise<void> {
  const direct = await isSpecial(file);
  const target = direct ? file : join(dirname(file), `.${temporaryName()}`);
  try {
    await mkdir(dirname(file), { recursive: true });
    const handle = await open(target, direct ? 'w' : 'wx', 0o644);
    try {
      for await (const chunk of stream) {
        let at = 0;
        while (at < chunk.byteLength) at += (await handle.write(chunk, at)).bytesWritten;
      }
      if (!direct) await handle.sync();
    } finally {
      await handle.close();
    }
    if (direct) return;
    await rename(target, file);
    await syncFolder(dirname(file));
  } catch (error) {
    if (!direct) await rm(target, { force: true });
    throw diskError(error, `writing ${file}`);
  }
}

async function isSpecial(file: HostPath): Promise<boolean> {
  try {
    const info = await stat(file);
    return !info.isFile() && !info.isDirectory();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw diskError(error, `looking at ${file}`);
  }
}
