import { createHash } from 'node:crypto';
import { lstatSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type FileLooks, type HostPath, imagePath, rowAt, rowOf, STAT_ROW_BYTES } from '../core/index.ts';
import { createLookInto } from './file-looks.ts';
import { hasNativeProgram, locateNative } from './native-program.ts';
import { NativeServer } from './native-server.ts';

const native = process.env['VARVE_NATIVE'];

describe.skipIf(!hasNativeProgram(native))('FileLooks (needs the native program)', () => {
  let folder: HostPath;
  let looks: FileLooks;

  beforeEach(async () => {
    folder = (await mkdtemp(join(tmpdir(), 'varve-looks-'))) as HostPath;
    looks = createLookInto(new NativeServer(() => locateNative(native)))(folder);
  });

  afterEach(async () => {
    looks.end();
    await rm(folder, { recursive: true });
  });

  test('digests are those of SHA-256, whatever the length', async () => {
    const lengths = [
      0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000, 131_071, 131_072, 131_200, 400_000,
    ];
    const contents = lengths.map((length) =>
      Buffer.from(Array.from({ length }, (_, at) => (at * 31 + length) % 251)),
    );
    for (const [at, content] of contents.entries()) await writeFile(join(folder, `f${at}`), content);
    const read = await looks.read(
      contents.map(({ length }, at) => ({ path: imagePath(`f${at}`), size: length })),
    );
    const right = contents.map((content) => `sha256:${createHash('sha256').update(content).digest('hex')}`);
    expect(read.map((file) => file?.digest)).toEqual(right);
  });

  test('a folder is listed with rows that are as lstat has them; what cannot be listed is left to the caller', async () => {
    await mkdir(join(folder, 'sub'));
    for (const name of ['b', 'a', 'ä', 'Z']) await writeFile(join(folder, 'sub', name), name);
    await symlink('../elsewhere', join(folder, 'sub/link'));
    const [absent, sub, root, file] = await looks.list(
      ['absent', 'sub', '', 'sub/a'].map((path) => imagePath(path)),
    );
    expect([absent, file]).toEqual([undefined, undefined]);
    expect(root?.names).toEqual(['sub']);
    expect(sub?.names).toEqual(['Z', 'a', 'b', 'link', 'ä']);
    for (const [at, name] of sub?.names.entries() ?? []) {
      const stat = lstatSync(join(folder, 'sub', name), { bigint: true });
      const { rows, from } = rowAt(sub?.rows ?? Buffer.alloc(0), at);
      expect(rows.subarray(from, from + STAT_ROW_BYTES)).toEqual(rowOf(stat).rows);
    }
    expect(sub?.targets).toEqual(new Map([[3, '../elsewhere']]));
  });

  test('a folder with more names than an answer is read at once is listed whole', async () => {
    const names = Array.from({ length: 5000 }, (_, at) => `name-${String(at).padStart(5, '0')}`);
    for (const name of names) writeFileSync(join(folder, name), '');
    const [[root], [again]] = await Promise.all([looks.list([imagePath('')]), looks.list([imagePath('')])]);
    expect(root?.names).toEqual(names);
    expect(again).toEqual(root);
  });

  test('where the native program cannot be started, all is left to the caller', async () => {
    const none = createLookInto(new NativeServer(() => '/absent/program'))(folder);
    expect(await none.list([imagePath('')])).toEqual([undefined]);
    expect(await none.read([{ path: imagePath('a'), size: 1 }])).toEqual([undefined]);
    none.end();
  });
});
