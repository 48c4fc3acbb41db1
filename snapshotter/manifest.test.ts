import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Change, decodePath, type Entry, type ImagePath, imagePath, ROOT_PATH } from '../core/index.ts';
import { decodeHeader, decodeManifest, encodeManifest } from './manifest.ts';

const path = fc
  .uint8Array({ minLength: 1, maxLength: 300 })
  .map((bytes) => decodePath(bytes.map((byte) => byte || 1)) as ImagePath);
const whole = fc.nat({ max: 0xffff_ffff });
const common = {
  path,
  mode: fc.nat({ max: 0o7777 }),
  uid: whole,
  gid: whole,
  mtime: fc.record({ sec: fc.maxSafeInteger(), nsec: fc.nat({ max: 999_999_999 }) }),
};
const xattrs = fc.option(
  fc.dictionary(fc.string({ minLength: 1, maxLength: 20 }), fc.uint8Array({ maxLength: 40 }), {
    minKeys: 1,
    maxKeys: 3,
    noNullPrototype: true,
  }),
  { nil: undefined },
);
const entry: fc.Arbitrary<Entry> = fc
  .oneof(
    fc.record({
      ...common,
      type: fc.constant('file' as const),
      size: fc.maxSafeInteger().map(Math.abs),
      xattrs,
      hardlinkTo: fc.option(path, { nil: undefined }),
    }),
    fc.record({
      ...common,
      type: fc.constantFrom('dir' as const, 'fifo' as const, 'socket' as const),
      size: fc.constant(0),
      xattrs,
    }),
    fc.record({
      ...common,
      type: fc.constant('symlink' as const),
      size: fc.constant(0),
      linkTarget: path.map(String),
      xattrs,
    }),
    fc.record({
      ...common,
      type: fc.constantFrom('char' as const, 'block' as const),
      size: fc.constant(0),
      device: fc.record({ major: whole, minor: whole }),
      xattrs,
    }),
  )
  .map((value) => withoutAbsent(value));
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), entry }),
  fc.record({ kind: fc.constantFrom('whiteout' as const, 'opaque' as const), path }),
);

/** Drops keys whose value is undefined, as the exact optional types ask for. */
function withoutAbsent<T extends object>(value: T): Entry {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Entry;
}

const root: Entry = {
  path: ROOT_PATH,
  type: 'dir',
  mode: 0o755,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: { sec: 0, nsec: 0 },
};

describe('a manifest', () => {
  test('comes back from its bytes as it was', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), (changes) => {
        const manifest = { createdAtMs: 1_700_000_000_000, root, changes };
        expect(decodeManifest(encodeManifest(manifest))).toEqual(manifest);
      }),
      { numRuns: 200 },
    );
  });

  test('that is torn anywhere is none', () => {
    const bytes = encodeManifest({
      createdAtMs: 5,
      root,
      changes: [{ kind: 'whiteout', path: imagePath('a/b') }],
    });
    for (let length = 0; length < bytes.length; length++) {
      expect(decodeManifest(bytes.subarray(0, length))).toBeUndefined();
    }
    for (let at = 0; at < bytes.length; at++) {
      const flipped = Buffer.from(bytes);
      flipped[at] = (flipped[at] ?? 0) ^ 0x10;
      expect(decodeManifest(flipped)).toBeUndefined();
    }
  });

  test('has a header that its start tells', () => {
    const file: Entry = { ...root, path: imagePath('f'), type: 'file', size: 7 };
    const link: Entry = { ...file, path: imagePath('g'), hardlinkTo: imagePath('f') };
    const changes: Change[] = [
      { kind: 'set', entry: file },
      { kind: 'set', entry: link },
    ];
    const bytes = encodeManifest({ createdAtMs: 5, root, changes });
    expect(decodeHeader(bytes)).toEqual({ createdAtMs: 5, bytes: 7, count: 2, root, changesRoot: false });
    const changed = encodeManifest({
      createdAtMs: 5,
      root,
      changes: [{ kind: 'set', entry: root }, ...changes],
    });
    expect(decodeHeader(changed)?.changesRoot).toBe(true);
    expect(decodeHeader(bytes.subarray(0, 12))).toBeUndefined();
    expect(decodeHeader(Buffer.from('something else entirely'))).toBeUndefined();
  });
});
