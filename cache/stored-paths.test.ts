import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  decodePath,
  digestOf,
  type ImagePath,
  joinPath,
  parentPath,
  ROOT_PATH,
  type TreeChange,
  USE,
} from '../core/index.ts';
import { pathSetOf, sortObservations } from './path-set.ts';
import { StoredPaths } from './stored-paths.ts';

const odd = fc
  .uint8Array({ minLength: 1, maxLength: 2 })
  .map((bytes) => decodePath(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 1 : byte))));
const name = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom('a', 'b', 'a.b', 'a-', 'ab', 'é', '\u{1f600}', '￿') },
  { weight: 1, arbitrary: odd },
);
const path = fc
  .array(name, { maxLength: 3 })
  .map((parts) => parts.reduce<ImagePath>((folder, part) => joinPath(folder, part), ROOT_PATH));
const observations = fc.array(fc.record({ path, uses: fc.integer({ min: 0, max: 31 }) }), { maxLength: 12 });
const change: fc.Arbitrary<TreeChange> = fc.record({ path, reach: fc.constantFrom('path', 'below') });

function storedPaths(list: readonly { readonly path: ImagePath; readonly uses: number }[]): StoredPaths {
  const { set, bytes } = pathSetOf(sortObservations(list));
  const paths = StoredPaths.open(bytes, set.digest);
  if (paths === undefined) throw new Error('not the bytes of a path set');
  expect(paths.decoded()).toEqual(set);
  return paths;
}

it('StoredPaths finds what a change reaches, as going through all paths does', () => {
  fc.assert(
    fc.property(observations, change, (list, { path: at, reach }) => {
      const isTouched = list.some(
        ({ path: one, uses }) =>
          one === at ||
          (reach === 'below' &&
            (at === ROOT_PATH ||
              one.startsWith(`${at}/`) ||
              (one === parentPath(at) && (uses & USE.LISTING) !== 0))),
      );
      const isEscaped = list.some(({ path: one }) => !one.isWellFormed() || one.startsWith('\x01'));
      const told = storedPaths(list).isTouchedBy([{ path: at, reach }]);
      // Paths in another form may lie elsewhere in the order: then nothing is told to be untouched.
      if (isEscaped || isTouched) expect(told).toBe(true);
      else if (!list.some(({ path: one }) => one.includes('\x01'))) expect(told).toBe(false);
    }),
    { numRuns: 2000 },
  );
});

it('StoredPaths takes no bytes but those of its digest', () => {
  const { bytes } = pathSetOf([]);
  expect(StoredPaths.open(bytes, digestOf('else'))).toBeUndefined();
  expect(storedPaths([]).isTouchedBy([{ path: ROOT_PATH, reach: 'below' }])).toBe(false);
  expect(storedPaths([{ path: ROOT_PATH, uses: 0 }]).isTouchedBy([{ path: ROOT_PATH, reach: 'path' }])).toBe(
    true,
  );
});
