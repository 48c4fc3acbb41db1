import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises';
import {
  asDigest,
  type Digest,
  digestHex,
  digestOf,
  errnoOf,
  type HostPath,
  joinHost,
  MachineError,
} from '../core/index.ts';
import type { BlobInfo, BlobStore } from './contract.ts';
import { diskError, syncFolder, temporaryName, writerOf, writeSmall } from './durable.ts';

const CHUNK_BYTES = 256 * 1024;
/** Documents, as all manifests and configurations are. */
const SMALL_BYTES = 1024 * 1024;
const HEX = /^[0-9a-f]{64}$/;

interface Expected {
  readonly digest?: Digest;
  readonly size?: number;
}

/**
 * Blobs below `root`: `blobs/sha256/<hex>` are whole and verified, as in an OCI image layout (image-layout.md,
 * "Blobs"); `blobs/ingest/` holds what is being written. Any number of processes may use one folder: two that put the same
 * blob both write it, and the later rename replaces equal bytes with equal bytes.
 */
export function createBlobStore({ root }: { readonly root: HostPath }): BlobStore {
  const folder = joinHost(root, 'blobs', 'sha256');
  const ingest = joinHost(root, 'blobs', 'ingest');
  const pathOf = (digest: Digest): HostPath => joinHost(folder, digestHex(digest));

  function sizeNow(digest: Digest): number | undefined {
    try {
      return statSync(pathOf(digest), { throwIfNoEntry: false })?.size;
    } catch (error) {
      throw diskError(error, `looking for blob ${digest}`);
    }
  }

  const size = async (digest: Digest): Promise<number | undefined> => sizeNow(digest);

  async function put(
    bytes: AsyncIterable<Uint8Array> | Uint8Array,
    expected: Expected = {},
  ): Promise<BlobInfo> {
    makeFolders([folder, ingest]);
    const temporary = joinHost(ingest, temporaryName());
    try {
      const isSmall = bytes instanceof Uint8Array && bytes.byteLength <= SMALL_BYTES;
      const info = await (isSmall
        ? writeDocument(temporary, bytes, expected)
        : write(temporary, bytes, expected));
      const existed = sizeNow(info.digest) === info.size;
      // Also where it existed: its new age keeps a prune that began before from taking it.
      renameSync(temporary, pathOf(info.digest));
      await syncFolder(folder);
      return { ...info, existed };
    } catch (error) {
      throw diskError(error, `storing ${expected.digest ?? 'a blob'}`);
    } finally {
      rmSync(temporary, { force: true });
    }
  }

  return {
    has: async (digest) => sizeNow(digest) !== undefined,
    size,
    open: (digest) => openVerified(pathOf(digest), digest),
    isWhole: (digest) => isWhole(pathOf(digest), digest),
    read: (digest) => readVerified(pathOf(digest), digest),
    put,
    remove: (digest) => rm(pathOf(digest), { force: true }),
    list: () => listBlobs(folder),
    pathOf,
    sweep: (isAlive) => sweepIngest(ingest, isAlive),
  };
}

function makeFolders(folders: readonly HostPath[]): void {
  try {
    for (const folder of folders) mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw diskError(error, `making the blob store's folders`);
  }
}

/** Writes and syncs `bytes`; what is not as expected fails before anything has a final name. */
async function write(
  file: HostPath,
  bytes: AsyncIterable<Uint8Array> | Uint8Array,
  expected: Expected,
): Promise<{ digest: Digest; size: number }> {
  const hash = createHash('sha256');
  let size = 0;
  const handle = await open(file, 'wx', 0o644);
  try {
    for await (const chunk of bytes instanceof Uint8Array ? [bytes] : bytes) {
      size += chunk.byteLength;
      if (expected.size !== undefined && size > expected.size) {
        throw new MachineError('digest-mismatch', `more than the expected ${expected.size} bytes arrived`);
      }
      hash.update(chunk);
      await writeAll(handle, chunk);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  const info = { digest: asDigest(`sha256:${hash.digest('hex')}`), size };
  checkExpected(info, expected);
  return info;
}

async function writeDocument(file: HostPath, bytes: Uint8Array, expected: Expected) {
  const info = { digest: digestOf(bytes), size: bytes.byteLength };
  checkExpected(info, expected);
  await writeSmall(file, bytes);
  return info;
}

function checkExpected(
  { digest, size }: { readonly digest: Digest; readonly size: number },
  expected: Expected,
): void {
  if (expected.size !== undefined && size !== expected.size) {
    throw new MachineError('digest-mismatch', `${size} bytes arrived where ${expected.size} were expected`);
  }
  if (expected.digest !== undefined && digest !== expected.digest) {
    throw new MachineError(
      'digest-mismatch',
      `the content is ${digest} where ${expected.digest} was expected`,
      {
        hint: 'the source is damaged or was tampered with; nothing of it was kept',
      },
    );
  }
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  let at = 0;
  while (at < chunk.byteLength) at += (await handle.write(chunk, at)).bytesWritten;
}

async function isWhole(file: HostPath, digest: Digest): Promise<boolean> {
  try {
    for await (const _ of openVerified(file, digest));
    return true;
  } catch (error) {
    // One that is gone was removed by another process meanwhile.
    if (error instanceof MachineError && error.code === 'blob-missing') return true;
    if (error instanceof MachineError && error.code === 'blob-corrupt') return false;
    throw error;
  }
}

async function* openVerified(file: HostPath, digest: Digest): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES });
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      hash.update(chunk);
      yield chunk;
    }
  } catch (error) {
    throw readError(error, digest);
  }
  await dropUnless(digest, { file, found: `sha256:${hash.digest('hex')}` });
}

/** What is read as a whole is a document of a few kilobytes: to hand that over to another thread takes longer than it does. */
async function readVerified(file: HostPath, digest: Digest): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw readError(error, digest);
  }
  await dropUnless(digest, { file, found: digestOf(bytes) });
  return bytes;
}

function readError(error: unknown, digest: Digest): unknown {
  return errnoOf(error) === 'ENOENT'
    ? new MachineError('blob-missing', `blob ${digest} is not in the store`, { cause: error })
    : diskError(error, `reading blob ${digest}`);
}

/** @throws MachineError `blob-corrupt` where what was `found` in the file is not what its name says. */
async function dropUnless(
  digest: Digest,
  { file, found }: { readonly file: HostPath; readonly found: string },
): Promise<void> {
  if (found === digest) return;
  // Whoever wants it next finds it missing, and gets it anew where that is possible.
  await rm(file, { force: true });
  throw new MachineError('blob-corrupt', `blob ${digest} was damaged on the disk: its content is ${found}`, {
    hint: 'it was removed: try again, and pull or build the image again where that does not help',
  });
}

async function listBlobs(
  folder: HostPath,
): Promise<{ readonly digest: Digest; readonly size: number; readonly modifiedAtMs: number }[]> {
  const found: { digest: Digest; size: number; modifiedAtMs: number }[] = [];
  for (const name of await namesIn(folder)) {
    if (!HEX.test(name)) continue;
    try {
      const info = await stat(joinHost(folder, name));
      found.push({ digest: asDigest(`sha256:${name}`), size: info.size, modifiedAtMs: info.mtimeMs });
    } catch (error) {
      // Removed by another process since the folder was read.
      if (errnoOf(error) !== 'ENOENT') throw diskError(error, 'listing blobs');
    }
  }
  return found;
}

/** Temporary names carry their writer's process id; one that was given to another process since is swept next time. */
async function sweepIngest(ingest: HostPath, isAlive: (pid: number) => boolean): Promise<number> {
  let freed = 0;
  for (const name of await namesIn(ingest)) {
    const pid = writerOf(name);
    if (pid === undefined || isAlive(pid)) continue;
    try {
      const { size } = await stat(joinHost(ingest, name));
      await rm(joinHost(ingest, name));
      freed += size;
    } catch (error) {
      // Swept by another process at the same time.
      if (errnoOf(error) !== 'ENOENT') throw diskError(error, 'sweeping the blob store');
    }
  }
  return freed;
}

/** The names in a folder, sorted; none where there is no such folder yet. */
export async function namesIn(folder: HostPath): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw diskError(error, `reading the folder ${folder}`);
  }
}
