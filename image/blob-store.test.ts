import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf, type HostPath } from '../core/index.ts';
import { createBlobStore } from './blob-store.ts';
import type { BlobStore } from './contract.ts';

const HELLO = Buffer.from('hello');
const DIGEST = digestOf(HELLO);

let root: HostPath;
let blobs: BlobStore;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'varve-blobs-')) as HostPath;
  blobs = createBlobStore({ root });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

async function* stream(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield Buffer.from(part);
}

const leftovers = (): string[] => readdirSync(join(root, 'blobs/ingest'));

describe('createBlobStore', () => {
  it('put gives digest and size, and tells whether the blob was there', async () => {
    expect(await blobs.put(stream('hel', 'lo'))).toEqual({ digest: DIGEST, size: 5, existed: false });
    expect(await blobs.put(HELLO)).toEqual({ digest: DIGEST, size: 5, existed: true });
    expect(readFileSync(blobs.pathOf(DIGEST), 'utf8')).toBe('hello');
    expect(await blobs.size(DIGEST)).toBe(5);
    expect(await blobs.has(DIGEST)).toBe(true);
    expect(await blobs.list()).toMatchObject([{ digest: DIGEST, size: 5 }]);
    expect(leftovers()).toEqual([]);
  });

  it.each([
    ['another digest', { digest: digestOf('other') }],
    ['more bytes than expected', { size: 4 }],
    ['fewer bytes than expected', { size: 6 }],
  ])('put keeps nothing of %s', async (_what, expected) => {
    await expect(blobs.put(stream('hello'), expected)).rejects.toMatchObject({ code: 'digest-mismatch' });
    expect(await blobs.list()).toEqual([]);
    expect(leftovers()).toEqual([]);
  });

  it('put keeps nothing of a stream that fails, and fails with its error', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield HELLO;
      throw new Error('line is dead');
    }
    await expect(blobs.put(broken())).rejects.toThrow('line is dead');
    expect(await blobs.list()).toEqual([]);
    expect(leftovers()).toEqual([]);
  });

  it('put of the same blob many times at once leaves one whole blob', async () => {
    const infos = await Promise.all(Array.from({ length: 20 }, () => blobs.put(stream('hello'))));
    expect(new Set(infos.map((info) => info.digest))).toEqual(new Set([DIGEST]));
    expect(Buffer.from(await blobs.read(DIGEST))).toEqual(HELLO);
    expect(leftovers()).toEqual([]);
  });

  it('put replaces a blob that was cut short by a crash of the disk', async () => {
    await blobs.put(HELLO);
    writeFileSync(blobs.pathOf(DIGEST), 'hel');
    await blobs.put(HELLO);
    expect(Buffer.from(await blobs.read(DIGEST))).toEqual(HELLO);
  });

  it('sweep takes what a killed process left, and nothing of one that lives', async () => {
    const module = JSON.stringify(new URL('./blob-store.ts', import.meta.url).href);
    const script = `
      const { createBlobStore } = await import(${module});
      await createBlobStore({ root: process.argv[1] }).put((async function* () {
        yield Buffer.alloc(1000);
        process.kill(process.pid, 'SIGKILL');
        await new Promise(() => {});
      })());`;
    expect(() => execFileSync(process.execPath, ['--input-type=module', '-e', script, root])).toThrow(
      'SIGKILL',
    );
    expect(leftovers()).toHaveLength(1);
    expect(await blobs.list()).toEqual([]);
    expect(await blobs.sweep(() => true)).toBe(0);
    expect(await blobs.sweep((pid) => pid === process.pid)).toBe(1000);
    expect(leftovers()).toEqual([]);
  });

  it('open and read fail at the end of a damaged blob', async () => {
    await blobs.put(HELLO);
    writeFileSync(blobs.pathOf(DIGEST), 'hellO');
    await expect(blobs.read(DIGEST)).rejects.toMatchObject({ code: 'blob-corrupt' });
  });

  it('open fails for a blob that is not there; size and remove do not', async () => {
    await expect(blobs.read(DIGEST)).rejects.toMatchObject({ code: 'blob-missing' });
    expect(await blobs.size(DIGEST)).toBeUndefined();
    await blobs.remove(DIGEST);
    expect(await blobs.list()).toEqual([]);
  });
});

describe.skipIf(process.getuid?.() !== 0)('createBlobStore on a full disk (needs root)', () => {
  it('put fails with disk-full and leaves nothing behind', async () => {
    const disk = join(root, 'disk');
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]);
    try {
      const small = createBlobStore({ root: disk as HostPath });
      await small.put(HELLO);
      await expect(small.put(Buffer.alloc(1024 * 1024))).rejects.toMatchObject({ code: 'disk-full' });
      expect(await small.list()).toHaveLength(1);
      expect(readdirSync(join(disk, 'blobs/ingest'))).toEqual([]);
    } finally {
      execFileSync('umount', [disk]);
    }
  });
});
