import fc from 'fast-check';
import { imagePath, type TreeOp } from '../core/index.ts';

/** Few names, so that operations meet. */
export const NAMES = ['a', 'b', 'a.b', 'c'] as const;

const name = fc.constantFrom(...NAMES);
export const randomPath = fc
  .array(name, { minLength: 1, maxLength: 3 })
  .map((parts) => imagePath(parts.join('/')));
const attributes = fc.record({
  mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o1777),
  uid: fc.constantFrom(0, 1000),
  gid: fc.constantFrom(0, 5),
  mtime: fc.record({ sec: fc.constantFrom(1, 1_000_000_000), nsec: fc.constantFrom(0, 999_999_999) }),
});

/** Any operation that makes, replaces or removes something. */
export const randomOp: fc.Arbitrary<TreeOp> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('dir'), path: randomPath, attributes }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('file'),
      path: randomPath,
      attributes,
      content: fc
        .constantFrom('', 'x', 'yy')
        .map((text) => ({ kind: 'bytes' as const, bytes: Buffer.from(text) })),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('symlink'),
      path: randomPath,
      attributes,
      target: fc.constantFrom('a', '/b', '../c'),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('remove'), path: randomPath }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('clear'), path: randomPath }) },
);
