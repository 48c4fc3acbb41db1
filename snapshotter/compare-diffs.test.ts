import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Change,
  changePath,
  comparePaths,
  type Entry,
  type HostPath,
  imagePath,
} from '../core/index.ts';
import { type DiffContent, firstDifference } from './compare-diffs.ts';

const RAN = { fromMs: 10_000, toMs: 20_000 };
/** Made long before any step ran. */
const OLD = { sec: 5, nsec: 7 };

let temp: string;
beforeEach(() => {
  temp = mkdtempSync(join(tmpdir(), 'varve-compare-'));
});
afterEach(() => rmSync(temp, { recursive: true }));

type Part = Partial<Omit<Entry, 'path'>> & { readonly bytes?: string };

function entry(path: string, part: Part = {}): Change {
  const { bytes, ...rest } = part;
  const size = bytes?.length ?? 0;
  return {
    kind: 'set',
    entry: { path: imagePath(path), type: 'file', mode: 0o644, uid: 1, gid: 2, size, mtime: OLD, ...rest },
  };
}

const whiteout = (path: string): Change => ({ kind: 'whiteout', path: imagePath(path) });
const opaque = (path: string): Change => ({ kind: 'opaque', path: imagePath(path) });
const folder = (path: string, part: Part = {}): Change => entry(path, { type: 'dir', ...part });

/** A diff of these changes; `contents` are the bytes of its files. */
function diff(changes: readonly Change[], contents: Readonly<Record<string, string>> = {}): DiffContent {
  const home = mkdtempSync(join(temp, 'd')) as HostPath;
  for (const [path, text] of Object.entries(contents)) {
    mkdirSync(dirname(join(home, path)), { recursive: true });
    writeFileSync(join(home, path), text);
  }
  const sorted = changes.toSorted((a, b) => comparePaths(changePath(a), changePath(b)));
  return { changes: sorted, folder: home, ran: RAN };
}

function compare(left: DiffContent, right: DiffContent, noise: readonly string[] = []) {
  return firstDifference(left, right, { isNoise: (path) => noise.includes(path) });
}

describe('two diffs are the same', () => {
  test('when all they set, take away and hide is the same', async () => {
    const changes = [
      folder('d'),
      opaque('d'),
      entry('d/f', { bytes: 'text', xattrs: { 'user.a': Buffer.from('1') } }),
      entry('d/g', { bytes: 'text', hardlinkTo: imagePath('d/f') }),
      entry('l', { type: 'symlink', linkTarget: 'd' }),
      entry('null', { type: 'char', device: { major: 1, minor: 3 } }),
      whiteout('w'),
    ];
    const make = () => diff(changes, { 'd/f': 'text', 'd/g': 'text' });
    expect(await compare(make(), make())).toBeUndefined();
    expect(await compare(diff([]), diff([]))).toBeUndefined();
  });

  test('when they are one diff: its files are not read', async () => {
    const one = diff([entry('absent', { bytes: 'x' })]);
    expect(await compare(one, one)).toBeUndefined();
    await expect(compare(one, diff([entry('absent', { bytes: 'x' })]))).rejects.toMatchObject({
      code: 'store-io',
    });
  });
});

describe('a difference', () => {
  const cases: readonly (readonly [string, Part, Part])[] = [
    ['type', { type: 'fifo' }, { type: 'socket' }],
    ['mode', {}, { mode: 0o600 }],
    ['owner', {}, { uid: 9 }],
    ['owner', {}, { gid: 9 }],
    ['xattrs', {}, { xattrs: { 'user.a': Buffer.from('1') } }],
    ['xattrs', { xattrs: { 'user.a': Buffer.from('1') } }, { xattrs: { 'user.a': Buffer.from('2') } }],
    ['link-target', { type: 'symlink', linkTarget: 'a' }, { type: 'symlink', linkTarget: 'b' }],
    [
      'device',
      { type: 'char', device: { major: 1, minor: 3 } },
      { type: 'char', device: { major: 1, minor: 5 } },
    ],
    [
      'device',
      { type: 'block', device: { major: 1, minor: 3 } },
      { type: 'block', device: { major: 2, minor: 3 } },
    ],
    ['size', { bytes: 'a' }, { bytes: 'ab' }],
    ['time', {}, { mtime: { sec: 5, nsec: 8 } }],
    ['time', {}, { mtime: { sec: 6, nsec: 7 } }],
  ];
  test.each(cases)('of %s is told, either way: %o %o', async (what, one, other) => {
    const make = (part: Part) => diff([entry('a'), entry('f', part), entry('z')]);
    expect(await compare(make(one), make(other))).toEqual({ path: 'f', what });
    expect(await compare(make(other), make(one))).toEqual({ path: 'f', what });
  });

  test('of names tells what the right side has more or less', async () => {
    const [none, file, gone] = [diff([]), diff([entry('f')]), diff([whiteout('f')])];
    const told = async (left: DiffContent, right: DiffContent) => (await compare(left, right))?.what;
    expect(await told(none, file)).toBe('added');
    expect(await told(file, none)).toBe('removed');
    expect(await told(none, gone)).toBe('removed');
    expect(await told(gone, none)).toBe('added');
    expect(await told(gone, file)).toBe('added');
    expect(await told(file, gone)).toBe('removed');
    expect(await told(gone, diff([whiteout('f')]))).toBeUndefined();
  });

  test('of opaque folders and of hard links is told', async () => {
    expect(await compare(diff([folder('d')]), diff([folder('d'), opaque('d')]))).toEqual({
      path: 'd',
      what: 'opaque',
    });
    const apart = diff([entry('a'), entry('b')]);
    const joined = diff([entry('a'), entry('b', { hardlinkTo: imagePath('a') })]);
    expect(await compare(apart, joined)).toEqual({ path: 'b', what: 'hard-link' });
    const [left, right] = ['a', 'b'].map((first) =>
      diff([entry('a'), entry('b'), entry('c', { hardlinkTo: imagePath(first) })]),
    );
    if (left === undefined || right === undefined) throw new Error('two were made');
    expect(await compare(left, right)).toEqual({ path: 'c', what: 'hard-link' });
  });

  test('is the first in path order by bytes, and one of content only where nothing else differs', async () => {
    const make = (texts: Readonly<Record<string, string>>, mode = 0o644) => {
      const changes = Object.entries(texts).map(([path, bytes]) => entry(path, { bytes }));
      return diff([...changes, folder('a'), entry('z', { mode })], texts);
    };
    const texts = { 'a.b': '1', 'a/b': '2', b: '3' };
    expect(await compare(make(texts), make({ ...texts, 'a/b': 'x', b: 'y' }))).toEqual({
      path: 'a/b',
      what: 'content',
    });
    expect(await compare(make(texts), make({ ...texts, 'a.b': 'w', 'a/b': 'x' }))).toEqual({
      path: 'a.b',
      what: 'content',
    });
    expect(await compare(make(texts), make({ ...texts, 'a.b': 'x' }, 0o600))).toEqual({
      path: 'z',
      what: 'mode',
    });
  });

  test('of content is found at any place of a file, among many files', async () => {
    const long = 'x'.repeat(300_000);
    const names = Array.from({ length: 100 }, (_, i) => `f${`${i}`.padStart(3, '0')}`);
    const make = (changed: Readonly<Record<string, string>>) => {
      const texts = Object.fromEntries(
        names.map((name, i) => [name, i % 10 === 0 ? long : `${i}`.padEnd(3)]),
      );
      const all = { ...texts, ...changed };
      return diff(
        Object.entries(all).map(([path, bytes]) => entry(path, { bytes })),
        all,
      );
    };
    expect(await compare(make({}), make({}))).toBeUndefined();
    const late = { f050: `${long.slice(0, -1)}y`, f051: '?  ', f099: '!  ' };
    expect(await compare(make({}), make(late))).toEqual({ path: 'f050', what: 'content' });
    const early = { f049: '!  ', f050: `y${long.slice(1)}` };
    expect(await compare(make({}), make(early))).toEqual({ path: 'f049', what: 'content' });
    expect(await compare(make({}), make({ f099: '!  ' }))).toEqual({ path: 'f099', what: 'content' });
  });

  test('of content is taken for granted where a path is too long to be opened', async () => {
    const path = Array.from({ length: 21 }, () => 'n'.repeat(200)).join('/');
    const make = () => diff([entry(path, { bytes: 'x' })]);
    expect(await compare(make(), make())).toEqual({ path, what: 'content' });
  });

  test('of content is found where a file is shorter than its entry says', async () => {
    const changes = [entry('f', { bytes: 'long' })];
    expect(await compare(diff(changes, { f: 'long' }), diff(changes, { f: 'lo' }))).toEqual({
      path: 'f',
      what: 'content',
    });
  });
});

describe('times', () => {
  const at = (ms: number) => ({ sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1_000_000 });
  const make = (ms: number, ran = RAN, type: 'file' | 'dir' = 'file'): DiffContent => ({
    ...diff([entry('f', { mtime: at(ms), type })]),
    ran,
  });

  test('within the run of the own step are equal, each by its own run', async () => {
    const later = { fromMs: 900_000, toMs: 901_000 };
    for (const type of ['file', 'dir'] as const) {
      expect(await compare(make(10_000, RAN, type), make(901_000, later, type))).toBeUndefined();
      expect(await compare(make(9_980, RAN, type), make(901_020, later, type))).toBeUndefined();
      expect(await compare(make(9_979, RAN, type), make(901_000, later, type))).toMatchObject({
        what: 'time',
      });
      expect(await compare(make(10_000, RAN, type), make(901_021, later, type))).toMatchObject({
        what: 'time',
      });
      expect(await compare(make(10_000, RAN, type), make(10_001, later, type))).toMatchObject({
        what: 'time',
      });
    }
  });

  test('that are equal are equal whenever they are', async () => {
    expect(await compare(make(5), make(5))).toBeUndefined();
  });
});

test('times from SOURCE_DATE_EPOCH on are equal, those before it are not', async () => {
  const of = (sec: number) => diff([entry('a', { mtime: { sec, nsec: 3 } })]);
  const rules = { isNoise: () => false, sourceDateEpoch: 100 };
  expect(await firstDifference(of(100), of(200), rules)).toBeUndefined();
  expect(await firstDifference(of(99), of(200), rules)).toMatchObject({ what: 'time' });
  expect(await firstDifference(of(100), of(200), { isNoise: () => false })).toMatchObject({ what: 'time' });
});

describe('noise', () => {
  test('is left out on both sides, with what lies below it', async () => {
    const left = diff([folder('log'), entry('log/a'), entry('log/a.b'), folder('x')]);
    const right = diff([folder('log', { mode: 0o700 }), whiteout('log/b'), folder('x')]);
    expect(await compare(left, right)).toEqual({ path: 'log', what: 'mode' });
    expect(await compare(left, right, ['log'])).toBeUndefined();
    expect(await compare(diff([folder('x')]), left, ['log'])).toBeUndefined();
    // The root folder is never noise.
    expect(await compare(diff([folder('x')]), diff([]), [''])).toEqual({ path: 'x', what: 'removed' });
    // A path that only begins with the same letters is none of it.
    expect(await compare(diff([entry('log2')]), diff([]), ['log'])).toEqual({
      path: 'log2',
      what: 'removed',
    });
    expect(
      await compare(diff([folder('d'), folder('d/n'), entry('d/n/f')]), diff([folder('d')]), ['d/n']),
    ).toBe(undefined);
  });

  test('excuses the time of the folder that it lies in, and nothing else', async () => {
    const make = (time: number, mode = 0o755) =>
      diff([folder('d', { mtime: { sec: time, nsec: 0 }, mode }), entry('d/n', { mode: time })]);
    expect(await compare(make(1), make(2), ['d/n'])).toBeUndefined();
    expect(await compare(make(1), make(2, 0o700), ['d/n'])).toEqual({ path: 'd', what: 'mode' });
    const deep = (time: number) =>
      diff([folder('a', { mtime: { sec: time, nsec: 0 } }), folder('a/d'), entry('a/d/n')]);
    expect(await compare(deep(1), deep(2), ['a/d/n'])).toEqual({ path: 'a', what: 'time' });
  });

  test('that is the first name of a file leaves the other names to be compared', async () => {
    const make = (text: string, noise: readonly Change[]) =>
      diff(
        [
          ...noise,
          entry('b', { bytes: text, hardlinkTo: imagePath('a') }),
          entry('c', { bytes: text, hardlinkTo: imagePath('a') }),
        ],
        {
          b: text,
          c: text,
        },
      );
    const first = [entry('a', { bytes: '1' })];
    expect(await compare(make('1', first), make('1', first), ['a'])).toBeUndefined();
    expect(await compare(make('1', first), make('2', first), ['a'])).toEqual({ path: 'b', what: 'content' });
    const alone = diff([entry('b', { bytes: '1' }), entry('c', { bytes: '1', hardlinkTo: imagePath('b') })], {
      b: '1',
      c: '1',
    });
    expect(await compare(make('1', first), alone, ['a'])).toBeUndefined();
  });
});

test('a comparison that is aborted says so', async () => {
  const controller = new AbortController();
  const make = () => diff([entry('f', { bytes: 'x' })], { f: 'x' });
  controller.abort(new Error('enough'));
  const rules = { isNoise: () => false, signal: controller.signal };
  await expect(firstDifference(make(), make(), rules)).rejects.toThrow('enough');
});
