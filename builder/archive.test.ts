import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostPath, TreeOp } from '../core/index.ts';
import { archiveOps, isArchive } from './archive.ts';

const NOISE = randomBytes(400_000);
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-archive-'));
  mkdirSync(join(folder, 'in/dir'), { recursive: true });
  writeFileSync(join(folder, 'in/dir/.wh.kept'), 'a name like any other');
  writeFileSync(join(folder, 'in/dir/file'), 'content', { mode: 0o640 });
  symlinkSync('dir/file', join(folder, 'in/link'));
  execFileSync('tar', [
    '-cf',
    join(folder, 'a.tar'),
    '--sort=name',
    '--owner=7',
    '--group=8',
    '-C',
    join(folder, 'in'),
    '.',
  ]);
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, bytes: Uint8Array | string): HostPath {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name) as HostPath;
}

describe('isArchive', () => {
  test('knows a tar by its content, plain or compressed, whatever its name', async () => {
    const tar = readFileSync(join(folder, 'a.tar'));
    expect(await isArchive(write('plain.txt', tar))).toBe(true);
    expect(await isArchive(write('zipped', gzipSync(tar)))).toBe(true);
    expect(await isArchive(write('packed', zstdCompressSync(tar)))).toBe(true);
  });

  test.each([
    ['a text named .tar', 'no archive'],
    ['nothing', ''],
    ['zeros', Buffer.alloc(2048)],
    ['a compressed text', gzipSync('no archive')],
    ['a cut gzip', gzipSync(Buffer.alloc(100_000, 'x')).subarray(0, 12)],
  ])('takes %s for a file', async (_what, bytes) => {
    expect(await isArchive(write('x.tar', bytes))).toBe(false);
  });

  test('knows a tar that bzip2 or xz has compressed; what only begins like these is a file', async () => {
    for (const program of ['bzip2', 'xz']) {
      const packed = execFileSync(program, ['-c', join(folder, 'a.tar')]);
      expect(await isArchive(write('packed', packed))).toBe(true);
      expect(await isArchive(write('text', execFileSync(program, ['-c'], { input: 'no archive' })))).toBe(
        false,
      );
      expect(await isArchive(write('cut', packed.subarray(0, 20)))).toBe(false);
    }
  });
});

describe('archiveOps', () => {
  test.each(['cat', 'gzip', 'bzip2', 'xz', 'zstd'])(
    'gives what the archive holds, through %s, and takes no name for a whiteout',
    async (program) => {
      const tar = readFileSync(join(folder, 'a.tar'));
      const packed = program === 'zstd' ? zstdCompressSync(tar) : execFileSync(program, { input: tar });
      const ops: TreeOp[] = [];
      for await (const op of archiveOps(write('packed', packed))) {
        ops.push(op);
        if (op.op === 'file' && op.content.kind === 'stream') for await (const _ of op.content.chunks);
      }
      expect(ops.map(({ op, path }) => `${op} ${path}`)).toEqual([
        'dir ',
        'dir dir',
        'file dir/.wh.kept',
        'file dir/file',
        'symlink link',
      ]);
      expect(ops[3]).toMatchObject({ attributes: { mode: 0o640, uid: 7, gid: 8 } });
    },
  );

  test.each(['bzip2', 'xz'])('refuses an archive whose %s form is cut short', async (program) => {
    const packed = execFileSync(program, {
      input: Buffer.concat([readFileSync(join(folder, 'a.tar')), NOISE]),
    });
    const cut = archiveOps(write('cut', packed.subarray(0, packed.length - 100)));
    await expect(Array.fromAsync(cut)).rejects.toMatchObject({ code: 'layer-refused' });
  });
});
