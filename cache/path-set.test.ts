import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Digest, decodePath, digestOf, type ImagePath, type Observation } from '../core/index.ts';
import {
  decodePathSet,
  decodePrograms,
  encodePrograms,
  openPathSet,
  type PathSet,
  pack,
  pathSetOf,
  programAt,
  sortObservations,
  unpack,
} from './path-set.ts';

const path = fc.oneof(
  fc
    .constantFrom('', '\x01', '\x01"a"', 'a', 'a/b', '\udc80', 'é', '"', '\ufffd')
    .map((text) => text as ImagePath),
  fc.uint8Array({ maxLength: 8 }).map((bytes) => decodePath(bytes) as ImagePath),
);
const observation: fc.Arbitrary<Observation> = fc
  .record({
    path,
    uses: fc.integer({ min: 0, max: 31 }),
    by: fc.option(fc.string({ unit: 'binary', maxLength: 3 })),
  })
  .map(({ by, ...rest }) => ({ ...rest, ...(by === null ? {} : { by }) }));

describe('sortObservations', () => {
  it('puts each path once, by bytes, with all its uses and the first program', () => {
    const seen: readonly Observation[] = [
      { path: 'b' as ImagePath, uses: 1, by: 'sh' },
      { path: '\ufffd' as ImagePath, uses: 2 },
      { path: '\u{10000}' as ImagePath, uses: 3 },
      { path: 'a' as ImagePath, uses: 1 },
      { path: 'b' as ImagePath, uses: 4, by: 'node' },
      { path: 'a' as ImagePath, uses: 8, by: 'tar' },
    ];
    expect(sortObservations(seen)).toEqual([
      { path: 'a', uses: 9, by: 'tar' },
      { path: 'b', uses: 5, by: 'sh' },
      { path: '\ufffd', uses: 2 },
      { path: '\u{10000}', uses: 3 },
    ]);
  });

  it('refuses uses that it does not know: they would be lost', () => {
    expect(() => sortObservations([{ path: 'a' as ImagePath, uses: 32 }])).toThrow('unknown uses 32');
  });
});

function readPathSet(bytes: Buffer, digest: Digest): PathSet | undefined {
  const opened = openPathSet(bytes, digest);
  return opened === undefined ? undefined : decodePathSet(opened);
}

describe('pathSetOf', () => {
  it('can be read back, with programs, whatever the names', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(observation, { maxLength: 20 }), async (list) => {
        const sorted = sortObservations(list);
        const { set, bytes, programs } = pathSetOf(sorted);
        const stored = await pack(bytes);
        const read = readPathSet(unpack(stored) ?? Buffer.alloc(0), set.digest);
        expect(read).toEqual(set);
        const who = decodePrograms(encodePrograms(programs), sorted.length);
        if (who === undefined) throw new Error('no programs');
        expect(
          sorted.map(({ path }, at) => {
            const by = programAt(who, at);
            return { path, uses: read?.uses[at], ...(by === undefined ? {} : { by }) };
          }),
        ).toEqual(sorted);
      }),
    );
  });

  it('has one digest for equal paths and uses, in any order, whoever looked; and others for others', () => {
    const withoutPrograms = (list: readonly Observation[]): string =>
      JSON.stringify(sortObservations(list).map(({ path, uses }) => [path, uses]));
    const digest = (list: readonly Observation[]): string => pathSetOf(sortObservations(list)).set.digest;
    fc.assert(
      fc.property(
        fc.array(observation, { maxLength: 4 }),
        fc.array(observation, { maxLength: 4 }),
        (a, b) => {
          expect(digest(a.map(({ path, uses }) => ({ path, uses, by: 'x' })).reverse())).toBe(digest(a));
          expect(digest(a) === digest(b)).toBe(withoutPrograms(a) === withoutPrograms(b));
        },
      ),
    );
  });

  it('is pinned for a sample', () => {
    const { set } = pathSetOf([
      { path: '' as ImagePath, uses: 3 },
      { path: 'app/\udc80' as ImagePath, uses: 31, by: 'sh' },
    ]);
    expect(set.digest).toBe('sha256:690a14f51d38575e38d3f780c314a0169bbd317ff0e8f0831ad0023ed0bd8f88');
  });

  it('is undefined for damaged bytes and for those of another set', async () => {
    const one = pathSetOf([{ path: 'a' as ImagePath, uses: 3 }]);
    const two = pathSetOf([{ path: 'b' as ImagePath, uses: 3 }]);
    expect(readPathSet(two.bytes, one.set.digest)).toBeUndefined();
    expect(readPathSet(Buffer.alloc(0), one.set.digest)).toBeUndefined();
    expect(readPathSet(Buffer.from('else'), digestOf('else'))).toBeUndefined();
    expect(decodePrograms(Buffer.from('[]'), 0)).toBeUndefined();
  });

  it.each([
    ['few', 1],
    ['many', 500],
  ])('is stored so that damage to it shows: %s paths', async (_, count) => {
    const paths = Array.from({ length: count }, (_path, at) => `folder/file-${at}` as ImagePath);
    const { set, bytes } = pathSetOf(sortObservations(paths.map((path) => ({ path, uses: 3 }))));
    const stored = await pack(bytes);
    expect(unpack(stored)).toEqual(bytes);
    for (let at = 0; at < stored.length; at += 1) {
      const damaged = Buffer.from(stored);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 0x10, at);
      const read = unpack(damaged);
      if (read !== undefined) expect(readPathSet(read, set.digest) ?? set).toEqual(set);
    }
    for (const length of [0, 1, 4, stored.length - 1])
      expect(unpack(stored.subarray(0, length))).toBeUndefined();
  });
});
