import { describe, expect, test } from 'vitest';
import {
  baseName,
  comparePaths,
  decodePath,
  encodePath,
  fsPath,
  type HostPath,
  imagePath,
  joinHost,
  joinPath,
  parentPath,
} from './path.ts';

/** A fixed sequence of numbers 0..bound-1 (a linear congruential generator): failures come again. */
function* numbers(seed: number): Generator<(bound: number) => number> {
  let state = seed;
  const next = (bound: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
  for (;;) yield next;
}

/** Byte strings in which valid and broken UTF-8 mix. */
function byteStrings(count: number): Buffer[] {
  const [next] = numbers(42);
  if (next === undefined) throw new Error('no numbers');
  const pieces = ['a', '/', 'é', '€', '\u{1f600}', '\ufffd', '\ue000', '\uffff'].map((text) =>
    Buffer.from(text),
  );
  return Array.from({ length: count }, () => {
    const parts = Array.from({ length: next(6) }, () => {
      const piece = pieces[next(pieces.length)] ?? Buffer.alloc(0);
      // Half of them whole, the others cut short or replaced by any byte.
      return [piece, piece, piece.subarray(0, next(piece.length)), Buffer.of(next(256))][next(4)] ?? piece;
    });
    return Buffer.concat(parts);
  });
}

describe('decodePath and encodePath', () => {
  test('bring every sequence of bytes back', () => {
    for (const bytes of byteStrings(20_000)) expect(encodePath(decodePath(bytes)).equals(bytes)).toBe(true);
  });

  test('give different bytes different texts', () => {
    const all = byteStrings(20_000);
    const texts = new Set(all.map(decodePath));
    expect(texts.size).toBe(new Set(all.map((bytes) => bytes.toString('hex'))).size);
  });

  test.each([
    ['valid text', Buffer.from('é€\u{1f600}'), 'é€\u{1f600}'],
    ['the replacement character itself', Buffer.from('\ufffd'), '\ufffd'],
    ['a byte that starts nothing', Buffer.of(0x61, 0xff, 0x62), 'a\udcffb'],
    ['a sequence that is cut short', Buffer.of(0xe2, 0x82), '\udce2\udc82'],
    ['an overlong slash', Buffer.of(0xc0, 0xaf), '\udcc0\udcaf'],
    ['an encoded surrogate', Buffer.of(0xed, 0xb3, 0xbf), '\udced\udcb3\udcbf'],
    ['beyond Unicode', Buffer.of(0xf4, 0x90, 0x80, 0x80), '\udcf4\udc90\udc80\udc80'],
    ['nothing', Buffer.alloc(0), ''],
  ])('%s', (_title, bytes, text) => {
    expect(decodePath(bytes)).toBe(text);
    expect(encodePath(text).equals(bytes)).toBe(true);
  });

  test('fsPath gives bytes only where a string would not do', () => {
    expect(fsPath('plain é')).toBe('plain é');
    expect(fsPath('a\udcff')).toEqual(Buffer.of(0x61, 0xff));
  });
});

test('comparePaths orders by bytes', () => {
  const all = byteStrings(3000);
  for (let index = 1; index < all.length; index += 1) {
    const [a = Buffer.alloc(0), b = Buffer.alloc(0)] = [all[index - 1], all[index]];
    expect(Math.sign(comparePaths(decodePath(a), decodePath(b)))).toBe(Buffer.compare(a, b));
  }
  expect(comparePaths('\uffee', '\u{1f600}')).toBe(-1);
});

test.each([
  ['', '', ''],
  ['/', '', ''],
  ['.', '', ''],
  ['/a//b/', '', 'a/b'],
  ['./a/./b', '', 'a/b'],
  ['a/../b', '', 'b'],
  ['../../a', '', 'a'],
  ['/../a', '', 'a'],
  ['b', 'a', 'a/b'],
  ['../b', 'a/c', 'a/b'],
  ['/b', 'a', 'b'],
  ['.', 'a/b', 'a/b'],
  ['...', '', '...'],
])('imagePath(%j) on %j is %j', (path, base, expected) => {
  expect(imagePath(path, imagePath(base))).toBe(expected);
});

test('joinPath, parentPath and baseName fit together', () => {
  for (const [folder, name, joined] of [
    ['', 'a', 'a'],
    ['a', 'b', 'a/b'],
    ['a/b', 'c', 'a/b/c'],
  ] as const) {
    expect(joinPath(imagePath(folder), name)).toBe(joined);
    expect(parentPath(imagePath(joined))).toBe(folder);
    expect(baseName(imagePath(joined))).toBe(name);
  }
  expect(parentPath(imagePath(''))).toBe('');
});

test.each([
  ['/', ['a'], '/a'],
  ['/a', ['b', 'c'], '/a/b/c'],
  ['/a', [''], '/a'],
  ['/', [], '/'],
])('joinHost(%j, %j) is %j', (folder, parts, expected) => {
  expect(joinHost(folder as HostPath, ...parts)).toBe(expected);
});
