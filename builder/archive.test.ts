import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostPath, TreeOp } from '../core/index.ts';
import { archiveOps, isArchive } from './archive.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import { stopped } from './testing/stopped.ts';

const range = { start: { line: 1, column: 1, offset: 0 }, end: { line: 1, column: 2, offset: 1 } };
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

  test.each([
    ['bzip2', Buffer.from('BZh91AY&SY')],
    ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
  ])('says that %s is not supported yet instead of copying the archive', async (what, bytes) => {
    const failure = await stopped(() => isArchive(write('x', bytes)));
    expect(failure).toMatchObject({ code: 'unsupported-archive', message: expect.stringContaining(what) });
  });
});

describe('archiveOps', () => {
  test('lays everything into the destination with the owners of the archive, and takes no name for a whiteout', async () => {
    const ops: TreeOp[] = [];
    const placement = { destination: '/opt/app', range };
    for await (const op of archiveOps(EMPTY_TREE, join(folder, 'a.tar') as HostPath, placement)) {
      ops.push(op);
      if (op.op === 'file' && op.content.kind === 'stream') for await (const _ of op.content.chunks);
    }
    expect(ops.map(({ op, path }) => `${op} ${path}`)).toEqual([
      'ensureDir opt/app',
      'dir opt/app/dir',
      'file opt/app/dir/.wh.kept',
      'file opt/app/dir/file',
      'symlink opt/app/link',
    ]);
    expect(ops[3]).toMatchObject({ attributes: { mode: 0o640, uid: 7, gid: 8 } });
  });
});
