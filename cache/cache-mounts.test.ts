import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostPath } from '../core/index.ts';
import { type CacheMountRequest, type CacheMounts, openCacheMounts } from './cache-mounts.ts';

const NAME = { id: 'npm', mode: 0o755, uid: 0, gid: 0 };
const PLAIN: CacheMountRequest = {
  name: { ...NAME, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
  sharing: 'shared',
};
const { signal } = new AbortController();

let root: HostPath;
let now = 1000;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'varve-mounts-')) as HostPath;
  now = 1000;
});
afterEach(() => rmSync(root, { recursive: true, force: true }));
const open = (): CacheMounts => openCacheMounts({ root, clock: () => now });

/** Holds the mount in another process until it is killed. */
async function holder(sharing: CacheMountRequest['sharing']) {
  const script = `
    const { openCacheMounts } = await import(${JSON.stringify(join(import.meta.dirname, 'cache-mounts.ts'))});
    const mounts = openCacheMounts({ root: ${JSON.stringify(root)}, clock: () => 1 });
    const request = ${JSON.stringify({ ...PLAIN, sharing })};
    const { folder } = await mounts.acquire(request, new AbortController().signal);
    console.log(folder);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [folder] = await once(child.stdout, 'data');
  const kill = async () => {
    const ended = once(child, 'close');
    child.kill('SIGKILL');
    await ended;
  };
  return { folder: String(folder).trim(), kill };
}

describe('acquire', () => {
  test('gives the same folder again, with what was left in it', async () => {
    const first = await open().acquire(PLAIN, signal);
    writeFileSync(join(first.folder, 'x'), 'kept');
    await first[Symbol.asyncDispose]();
    await using second = await open().acquire(PLAIN, signal);
    expect(readFileSync(join(second.folder, 'x'), 'utf8')).toBe('kept');
  });

  test('another id, owner, mode or first content is another folder', async () => {
    const base = `sha256:${'0'.repeat(64)}` as NonNullable<CacheMountRequest['name']['base']>;
    const names = [
      PLAIN.name,
      { ...PLAIN.name, id: 'other' },
      { ...PLAIN.name, mode: 0o700 },
      { ...PLAIN.name, base },
    ];
    const folders = new Set<string>();
    for (const name of names) {
      await using lease = await open().acquire({ ...PLAIN, name }, signal);
      expect(statSync(lease.folder).mode & 0o777).toBe(name.mode);
      folders.add(lease.folder);
    }
    expect(folders.size).toBe(names.length);
  });

  test('the first content is put in once; where that fails nothing is left of it', async () => {
    const failing = { ...PLAIN, fill: async () => Promise.reject(new Error('no')) };
    await expect(open().acquire(failing, signal)).rejects.toThrow('no');
    expect(await open().list()).toEqual([]);
    let fills = 0;
    const fill = async (folder: HostPath) => {
      fills += 1;
      writeFileSync(join(folder, 'first'), '');
    };
    for (let times = 0; times < 2; times += 1) {
      await using lease = await open().acquire({ ...PLAIN, fill }, signal);
      expect(existsSync(join(lease.folder, 'first'))).toBe(true);
    }
    expect(fills).toBe(1);
  });

  test('shared: two processes use one folder; private: the second has a copy of its own', async () => {
    const other = await holder('shared');
    await using shared = await open().acquire(PLAIN, signal);
    expect(shared.folder).toBe(other.folder);
    await using own = await open().acquire({ ...PLAIN, sharing: 'private' }, signal);
    expect(own.folder).not.toBe(other.folder);
    await other.kill();
  });

  test('locked: waits for the holder, also for one that was killed; an abort ends the waiting', async () => {
    const other = await holder('locked');
    const locked: CacheMountRequest = { ...PLAIN, sharing: 'locked' };
    const abort = new AbortController();
    const hopeless = open().acquire(locked, abort.signal);
    abort.abort(new Error('enough'));
    await expect(hopeless).rejects.toThrow('enough');
    let got = false;
    const waiting = open()
      .acquire(locked, signal)
      .then((lease) => {
        got = true;
        return lease;
      });
    // Whoever shares is let in elsewhere meanwhile, and the waiting one goes on waiting.
    await using elsewhere = await open().acquire(PLAIN, signal);
    expect([got, elsewhere.folder === other.folder]).toEqual([false, false]);
    await other.kill();
    await using lease = await waiting;
    expect(lease.folder).toBe(other.folder);
  });
});

describe('list and remove', () => {
  test('tell sizes and use; what is in use stays, in this process and in others', async () => {
    const mounts = open();
    const lease = await mounts.acquire(PLAIN, signal);
    writeFileSync(join(lease.folder, 'x'), '12345');
    const [held] = await mounts.list();
    expect(held).toMatchObject({ id: 'npm', bytes: 5, createdAtMs: 1000, lastUsedAtMs: 1000, inUse: true });
    const keys = new Set([held?.key ?? '']);
    expect(await mounts.remove(keys)).toEqual([]);
    now = 9000;
    await lease[Symbol.asyncDispose]();
    const other = await holder('shared');
    expect(await mounts.remove(keys)).toEqual([]);
    await other.kill();
    expect(await mounts.list()).toMatchObject([{ key: held?.key, inUse: false }]);
    expect(await mounts.remove(keys)).toMatchObject([{ key: held?.key, bytes: 5 }]);
    expect(await mounts.list()).toEqual([]);
    expect(readdirSync(join(root, 'mounts'))).toEqual([]);
  });
});
