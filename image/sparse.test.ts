import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { UnpackLimits } from './contract.ts';
import { readTar } from './tar-reader.ts';
import { DEFAULT_UNPACK_LIMITS } from './unpack-layer.ts';

let folder: string;

/** Files with data in odd places: `many` has more parts than a header has room for, `hole` has none. */
const FILES = {
  'a-file-with-a-name-of-more-than-a-hundred-bytes-which-needs-a-record-of-its-own-in-every-one-of-the-forms':
    [
      [0, 512],
      [1_003_520, 4096],
    ],
  many: Array.from({ length: 60 }, (_, at) => [at * 65_536 + 4096, 4096]),
  hole: [],
} as const satisfies Readonly<Record<string, readonly (readonly number[])[]>>;
const SIZE = 4_200_001;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-sparse-'));
  for (const [name, parts] of Object.entries(FILES)) {
    const file = openSync(join(folder, name), 'w');
    ftruncateSync(file, SIZE);
    for (const [offset = 0, length = 0] of parts)
      writeSync(file, Buffer.alloc(length, name[0]), 0, length, offset);
    closeSync(file);
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

function pack(...flags: readonly string[]): Buffer {
  const args = ['-S', '--hole-detection=raw', ...flags, '-C', folder, '-cf', '-', ...Object.keys(FILES)];
  return execFileSync('tar', args, { maxBuffer: 64 * 2 ** 20 });
}

async function* chunked(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 7777) yield bytes.subarray(at, at + 7777);
}

/** The content of each entry but the one that is `skipped`, by name. */
async function contents(tar: Uint8Array, limits: UnpackLimits = DEFAULT_UNPACK_LIMITS, skipped = '') {
  const found = new Map<string, Buffer>();
  for await (const { name, content, size } of readTar(chunked(tar), limits)) {
    if (name === skipped) continue;
    const parts: Uint8Array[] = [];
    if (content instanceof Uint8Array) parts.push(content);
    else for await (const part of content) parts.push(Buffer.from(part));
    const whole = Buffer.concat(parts);
    expect(whole.byteLength).toBe(size);
    found.set(name, whole);
  }
  return found;
}

const FORMS: readonly (readonly string[])[] = [
  ['--format=oldgnu', '-b20'],
  ['--format=gnu', '-b20'],
  ['--format=posix', '--sparse-version=0.0'],
  ['--format=posix', '--sparse-version=0.1'],
  ['--format=posix', '--sparse-version=1.0'],
];

test.each(FORMS)('files without their holes are read whole: %s %s', async (...flags) => {
  const tar = pack(...flags);
  expect(tar.byteLength).toBeLessThan(SIZE);
  const read = await contents(tar);
  expect([...read.keys()]).toEqual(Object.keys(FILES));
  for (const [name, content] of read) {
    expect(content.equals(readFileSync(join(folder, name))), `${flags.join(' ')} ${name}`).toBe(true);
  }
  expect([...(await contents(tar, DEFAULT_UNPACK_LIMITS, 'many')).keys()]).not.toContain('many');
});

describe('a sparse map is refused', () => {
  const refused = (tar: Uint8Array, limits?: UnpackLimits) =>
    expect(contents(tar, limits)).rejects.toMatchObject({ code: 'layer-refused' });

  test.each(FORMS)('where holes would fill the disk, or it is too long: %s %s', async (...flags) => {
    const tar = pack(...flags);
    await refused(tar, { ...DEFAULT_UNPACK_LIMITS, maxBytes: 2 * SIZE });
    await refused(tar, { ...DEFAULT_UNPACK_LIMITS, maxHeaderBytes: 400 });
  });

  test.each<[what: string, from: string, to: string]>([
    ['parts over each other', '\n1003520\n', '\n0000001\n'],
    ['a part behind the end', '\n1003520\n', '\n9003520\n'],
    ['more data than is stored', '\n4096\n', '\n9096\n'],
    ['a negative number', '\n1003520\n', '\n-100352\n'],
    ['an unknown version', 'sparse.major=1', 'sparse.major=2'],
    ['a size that is none', 'realsize=4200001', 'realsize=42e0001'],
    ['a size before its end', 'realsize=4200001', 'realsize=0000001'],
  ])('with %s', async (_what, from, to) => {
    const tar = pack('--format=posix', '--sparse-version=1.0');
    const at = tar.indexOf(from);
    expect(at).toBeGreaterThan(0);
    tar.write(to, at, 'latin1');
    await refused(tar);
  });

  test('with an offset and no length', async () => {
    const tar = pack('--format=posix', '--sparse-version=0.0');
    tar.write('GNU.sparse.xxxxxxxx', tar.indexOf('GNU.sparse.numbytes'), 'latin1');
    await refused(tar);
  });
});
