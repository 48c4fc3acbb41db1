import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import {
  type FileHandle,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf, idOf, MachineError, UsageError } from '../core/index.ts';
import { renderBuildFailure, renderError } from './render-failure.ts';
import { metadataContent, writeAtomically } from './result-files.ts';
import { openNameless, readStdin } from './stdin-content.ts';
import { COLOR_STYLE, NO_STYLE } from './style.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'varve-files-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function tarOf(name: string, content: string): Buffer {
  const source = join(folder, 'source');
  mkdirSync(source, { recursive: true });
  writeFileSync(join(source, name), content);
  const tar = execFileSync('tar', ['-cf', '-', '-C', source, name]);
  rmSync(source, { recursive: true });
  return tar;
}

describe('readStdin', () => {
  const { signal } = new AbortController();
  let spool: FileHandle;
  beforeEach(async () => {
    spool = await openNameless(folder);
  });
  afterEach(async () => {
    await spool.close();
    // However a process ends, what it spooled is gone with it.
    expect(await readdir(folder)).toEqual([]);
  });

  test.each([1, 7, 511, 512, 65_536])('spools a tar that comes in pieces of %i bytes', async (size) => {
    const tar = tarOf('Dockerfile', 'FROM scratch\n');
    const content = await readStdin(inPieces(tar, size), spool, signal);
    if (content.kind !== 'archive') throw new Error('not an archive');
    expect(await readFile(content.path)).toEqual(tar);
  });

  test('knows a compressed tar, an old one without magic, and an empty one', async () => {
    const tar = tarOf('Dockerfile', 'FROM scratch\n');
    const old = Buffer.from(tar);
    old.fill(0, 257, 265);
    let sum = 8 * 0x20;
    for (let at = 0; at < 512; at += 1) if (at < 148 || at >= 156) sum += old[at] ?? 0;
    old.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    for (const bytes of [gzipSync(tar), old, Buffer.alloc(1024)]) {
      expect((await readStdin(inPieces(bytes, 100), spool, signal)).kind).toBe('archive');
    }
  });

  test.each(['F', 'FROM scratch\n', `# ${'ü'.repeat(2000)}\nFROM a\n`])(
    'takes anything else as a Dockerfile',
    async (text) => {
      expect(await readStdin(inPieces(Buffer.from(text), 3), spool, signal)).toEqual({ kind: 'text', text });
    },
  );

  test('refuses nothing at all, and a text without end', async () => {
    await expect(readStdin(inPieces(new Uint8Array(), 1), spool, signal)).rejects.toThrow('empty');
    const endless = async function* (): AsyncGenerator<Uint8Array> {
      for (;;) yield Buffer.alloc(2 ** 20, 'a');
    };
    await expect(readStdin(endless(), spool, signal)).rejects.toThrow('16 MiB');
  });
});

describe('writeAtomically', () => {
  test('replaces what was there and leaves nothing beside it', async () => {
    const file = join(folder, 'iid');
    await writeFile(file, 'a much longer text than the new one');
    await writeAtomically(file, 'new', 'the image ID file');
    expect(await readFile(file, 'utf8')).toBe('new');
    expect(await readdir(folder)).toEqual(['iid']);
  });

  test('follows a symlink instead of replacing it', async () => {
    const [file, link] = [join(folder, 'real'), join(folder, 'link')];
    await writeFile(file, '');
    await symlink('real', link);
    await writeAtomically(link, 'new', 'x');
    expect(await readlink(link)).toBe('real');
    expect(await readFile(file, 'utf8')).toBe('new');
  });

  test('writes to a device without replacing it', async () => {
    await writeAtomically('/dev/null', 'x', 'x');
    expect((await stat('/dev/null')).isCharacterDevice()).toBe(true);
  });

  test('names file and reason where it cannot', async () => {
    const file = join(folder, 'none', 'iid');
    await expect(writeAtomically(file, 'x', 'the image ID file')).rejects.toThrow(
      `cannot write the image ID file ${file}: ENOENT`,
    );
  });
});

describe('renderBuildFailure', () => {
  const range = { start: { line: 2, column: 1, offset: 5 }, end: { line: 2, column: 4, offset: 8 } };
  const format = (one: { message: string }, { file }: { file: string }): string => `${file}: ${one.message}`;
  const dockerfile = { file: 'Dockerfile', text: 'FROM\nRNU x\n' };

  test('tells every diagnostic of a Dockerfile that cannot be parsed', () => {
    const one = { severity: 'error', code: 'x', range } as const;
    const diagnostics = [
      { ...one, message: 'first' },
      { ...one, message: 'second' },
    ];
    const failure = { kind: 'build-failure', code: 'parse', message: 'm', diagnostics } as const;
    expect(renderBuildFailure(failure, { dockerfile, format, style: NO_STYLE })).toBe(
      'Dockerfile: first\n\nDockerfile: second\n',
    );
  });

  test('without the text, names the line; without a place, the message; with the hint', () => {
    const failure = { kind: 'build-failure', code: 'x', message: 'no such file', hint: 'Look.' } as const;
    expect(renderBuildFailure({ ...failure, range }, { format, style: NO_STYLE })).toBe(
      'ERROR: no such file (Dockerfile:2)\nhint: Look.\n',
    );
    expect(renderBuildFailure(failure, { format, style: NO_STYLE })).toBe(
      'ERROR: no such file\nhint: Look.\n',
    );
  });
});

describe('renderError', () => {
  const context = { command: 'build', debug: false, style: NO_STYLE };

  test('a ring of causes comes to an end', () => {
    const a = new MachineError('a', 'first');
    const b = new MachineError('b', 'second', { cause: a });
    Object.assign(a, { cause: b });
    expect(renderError(a, { ...context, debug: true }).match(/caused by/g)?.length).toBe(1);
  });

  test('a file name with escape sequences cannot reach the terminal', () => {
    const name = 'a\x1b[2J\x1b]0;x\x07b';
    for (const error of [new MachineError('x', `no ${name}`, { hint: name }), new UsageError(name)]) {
      expect(renderError(error, context)).not.toContain('\x1b');
    }
  });

  test('colours only where the style has them', () => {
    expect(renderError(new UsageError('m'), context)).not.toContain('\x1b');
    expect(renderError(new UsageError('m'), { ...context, style: COLOR_STYLE })).toContain('\x1b[31m');
  });

  test('what is thrown and is no Error is a bug too', () => {
    expect(renderError('oops', context)).toContain('thrown: oops');
  });
});

test('metadataContent has the warnings in the shape that buildx writes them in, where they are asked for', () => {
  const place = { line: 2, column: 1, offset: 12 };
  const range = { start: place, end: place };
  const warning = { severity: 'warning', code: 'StageNameCasing', message: 'm', range, url: 'u' } as const;
  const dockerfile = { file: 'Dockerfile', text: 'FROM scratch' };
  const content = JSON.parse(metadataContent({ steps: [], dockerfile }, [warning]));
  const [told] = content['buildx.build.warnings'];
  expect(Buffer.from(told.short, 'base64').toString()).toBe('StageNameCasing: m (line 2)');
  expect(told).toMatchObject({ level: 1, url: 'u', range: [{ start: { line: 2 }, end: { line: 2 } }] });
  expect(told.sourceInfo).toMatchObject({ filename: 'Dockerfile', language: 'Dockerfile' });
  expect(JSON.parse(metadataContent({ steps: [] }, []))).toEqual({ 'varve.steps': [] });
});

test('metadataContent names an index by its descriptor, and no configuration', () => {
  const digest = digestOf('index');
  const descriptor = { mediaType: 'application/vnd.oci.image.index.v1+json', digest, size: 2 };
  const image = { manifestDigest: digest, descriptor, names: ['app'] };
  expect(JSON.parse(metadataContent({ image, steps: [] }))).toEqual({
    'containerimage.descriptor': descriptor,
    'containerimage.digest': digest,
    'image.name': 'docker.io/library/app:latest',
    'varve.steps': [],
  });
  expect(idOf(image)).toBe(digest);
});
