import { describe, expect, test } from 'vitest';
import { digestOf } from './digest.ts';
import type { Entry } from './entry.ts';
import { type HostPath, type ImagePath, imagePath, parentPath } from './path.ts';
import { resolvePath, type Tree } from './tree.ts';

/** A tree of folders (`null`) and symlinks. */
function treeOf(links: Readonly<Record<string, string | null>>): Tree {
  const entries = new Map<ImagePath, Entry>();
  const add = (path: ImagePath, linkTarget: string | null): void => {
    const type = linkTarget === null ? 'dir' : 'symlink';
    const entry = { path, type, mode: 0o755, uid: 0, gid: 0, size: 0, mtime: { sec: 0, nsec: 0 } } as const;
    entries.set(path, linkTarget === null ? entry : { ...entry, linkTarget });
  };
  add(imagePath(''), null);
  for (const [path, target] of Object.entries(links)) add(imagePath(path), target);
  return {
    lstat: async (path) => entries.get(path),
    list: async (path) => [...entries.values()].filter((entry) => parentPath(entry.path) === path),
    digest: async () => digestOf(''),
    hostPath: async () => '/' as HostPath,
  };
}

const TREE = treeOf({
  usr: null,
  'usr/lib': null,
  lib: 'usr/lib',
  absolute: '/usr/lib',
  climbing: '../../../usr',
  'usr/up': '../lib',
  self: 'self',
  ping: 'pong',
  pong: 'ping',
  dangling: 'not/there',
  empty: '',
  'usr/lib/dots': './/../lib/.',
});

async function resolve(path: string, followLast = true): Promise<string> {
  const found = await resolvePath(TREE, path as ImagePath, { followLast });
  return found === undefined
    ? 'loop'
    : `${found.path}${found.entry === undefined ? ' (absent)' : ` (${found.entry.type})`}`;
}

describe('resolvePath', () => {
  test.each([
    ['', ' (dir)'],
    ['usr/lib', 'usr/lib (dir)'],
    ['lib', 'usr/lib (dir)'],
    ['absolute', 'usr/lib (dir)'],
    ['climbing/lib', 'usr/lib (dir)'],
    ['usr/up', 'usr/lib (dir)'],
    ['usr/lib/dots', 'usr/lib (dir)'],
    ['lib/..', 'usr (dir)'],
    ['../../usr', 'usr (dir)'],
    ['lib/new/deep', 'usr/lib/new/deep (absent)'],
    ['missing/../x', 'x (absent)'],
    ['dangling', 'not/there (absent)'],
    ['dangling/more', 'not/there/more (absent)'],
    ['self', 'loop'],
    ['ping/x', 'loop'],
  ])('%j is %j', async (path, expected) => {
    expect(await resolve(path)).toBe(expected);
  });

  test('leaves a symlink in the last part alone where it is told so', async () => {
    expect(await resolve('lib', false)).toBe('lib (symlink)');
    expect(await resolve('climbing/up', false)).toBe('usr/up (symlink)');
    expect(await resolve('self', false)).toBe('self (symlink)');
  });

  test('follows 40 symlinks and no more', async () => {
    const chain = (length: number): Tree =>
      treeOf(
        Object.fromEntries([
          ['end', null],
          ...Array.from({ length }, (_, at) => [`l${at}`, at === 0 ? 'end' : `l${at - 1}`]),
        ]),
      );
    const last = { followLast: true };
    expect((await resolvePath(chain(40), imagePath('l39'), last))?.path).toBe('end');
    expect(await resolvePath(chain(41), imagePath('l40'), last)).toBeUndefined();
  });
});
