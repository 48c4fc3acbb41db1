import { expect, test } from 'vitest';
import { type Change, digestOf, type Entry, type ImagePath, imagePath } from '../core/index.ts';
import { DiffIndex } from './diff-index.ts';
import { decodeFolders, encodeFolders, type FolderFacts } from './folder-facts.ts';
import { surelyDiffer } from './stack-changes.ts';

const attributes = { mode: 0o755, uid: 0, gid: 0, mtime: { sec: 5, nsec: 0 } };

function entry(path: string, more: Partial<Entry> = {}): Change {
  return { kind: 'set', entry: { path: imagePath(path), type: 'file', size: 1, ...attributes, ...more } };
}

const dir = (path: string, more: Partial<Entry> = {}) => entry(path, { type: 'dir', size: 0, ...more });

/** @param other files that have another content than their path. */
function factsOf(changes: readonly Change[], other: readonly string[] = []): FolderFacts {
  const digests = new Map(
    changes.flatMap((change): readonly (readonly [ImagePath, ReturnType<typeof digestOf>])[] =>
      change.kind === 'set'
        ? [[change.entry.path, digestOf(`${change.entry.path} ${other.includes(change.entry.path)}`)]]
        : [],
    ),
  );
  const facts = decodeFolders(encodeFolders(new DiffIndex(changes), digests) ?? Buffer.alloc(0));
  if (facts === undefined) throw new Error('no facts');
  return facts;
}

const TARGET = { type: 'symlink', size: 0, linkTarget: 'a' } as const;
const FILES = [dir('d'), entry('d/a'), entry('d/b'), entry('l', TARGET), dir('noise'), entry('noise/n')];

/** {@link FILES} with another one for each of the same path. */
function edited(...changes: readonly Change[]): readonly Change[] {
  const pathOf = (change: Change) => (change.kind === 'set' ? change.entry.path : change.path);
  return FILES.map((was) => changes.find((change) => pathOf(change) === pathOf(was)) ?? was);
}

test.each<[boolean, string, readonly Change[], readonly string[]]>([
  [false, 'nothing', FILES, []],
  [false, 'the time of a file', edited(entry('d/a', { mtime: { sec: 6, nsec: 1 } })), []],
  [false, 'the time of a symlink', edited(entry('l', { ...TARGET, mtime: { sec: 6, nsec: 1 } })), []],
  [false, 'the time of a folder', edited(dir('d', { mtime: { sec: 6, nsec: 1 } })), []],
  [false, 'noise', edited(entry('noise/n', { size: 2 })), []],
  [false, 'noise that is gone', FILES.slice(0, -1), []],
  [true, 'content', FILES, ['d/a']],
  [true, 'content and time', edited(entry('d/a', { mtime: { sec: 6, nsec: 1 } })), ['d/a']],
  [true, 'a mode', edited(entry('d/a', { mode: 0o700 })), []],
  [true, 'the mode of a folder', edited(dir('d', { mode: 0o700 })), []],
  [true, 'an owner', edited(entry('d/a', { uid: 1 })), []],
  [true, 'a group', edited(entry('d/a', { gid: 1 })), []],
  [true, 'an attribute', edited(entry('d/a', { xattrs: { 'user.a': Buffer.from('a') } })), []],
  [true, "a symlink's target", edited(entry('l', { ...TARGET, linkTarget: 'b' })), []],
  [true, 'a type', edited(entry('l')), []],
  [true, 'a whiteout', edited({ kind: 'whiteout', path: imagePath('l') }), []],
  [true, 'an opaque folder', [...FILES, { kind: 'opaque', path: imagePath('d') }], []],
  [true, 'a name that is gone', FILES.slice(0, -2), []],
  [true, 'a name that has come', [...FILES, entry('z')], []],
])('surely differ: %s, where the difference is %s', (expected, _, changes, other) => {
  const isNoise = (path: ImagePath) => path === 'noise/n';
  const [was, is] = [factsOf(FILES), factsOf(changes, other)];
  expect(surelyDiffer(was, is, isNoise)).toBe(expected);
  expect(surelyDiffer(is, was, isNoise)).toBe(expected);
});
