import { describe, expect, test } from 'vitest';
import type { SourceRange } from '../core/index.ts';
import { selectSources } from './copy-selection.ts';
import { link, memoryTree } from './testing/memory-tree.ts';
import { stopped } from './testing/stopped.ts';

const RANGE: SourceRange = {
  start: { line: 3, column: 6, offset: 30 },
  end: { line: 3, column: 9, offset: 33 },
};
const PLACE = { range: RANGE, where: 'the build context' };

const TREE = memoryTree({
  'a.txt': 'A',
  'b.txt': 'B',
  'name[1].txt': 'brackets',
  'star*.md': 'star',
  'src/z.ts': 'z',
  'src/a.ts': 'a',
  'src/deep/b.ts': 'b',
  'other/deep/b.ts': 'ob',
  empty: { type: 'dir' },
  toFile: link('src/a.ts'),
  toFolder: link('/src'),
  climbing: link('../../src/a.ts'),
  dangling: link('nowhere'),
  loop: link('loop'),
});

async function select(pattern: string) {
  const roots = await selectSources(TREE, pattern, PLACE);
  return roots.map(({ path, resolved, entry, inside }) => ({
    path,
    resolved,
    type: entry.type,
    inside: inside.map((one) => one.path),
  }));
}

describe('selectSources', () => {
  test.each(['a.txt', '/a.txt', './a.txt', 'src/../a.txt', '../a.txt', '/../../a.txt', 'a.txt/'])(
    '%j names a.txt of the root',
    async (pattern) => {
      expect(await select(pattern)).toEqual([{ path: 'a.txt', resolved: 'a.txt', type: 'file', inside: [] }]);
    },
  );

  test.each(['src', 'src/', './src/.'])(
    '%j takes in everything below, parents first, in path order',
    async (pattern) => {
      expect(await select(pattern)).toEqual([
        { path: 'src', resolved: 'src', type: 'dir', inside: ['a.ts', 'deep', 'deep/b.ts', 'z.ts'] },
      ]);
    },
  );

  test.each(['.', '/', '', '..'])('%j is the whole tree', async (pattern) => {
    const [root] = await select(pattern);
    expect(root).toMatchObject({ path: '', type: 'dir' });
    expect(root?.inside).toContain('src/deep/b.ts');
  });

  test('a wildcard gives every match in path order, and folders with their content', async () => {
    expect((await select('*.txt')).map((root) => root.path)).toEqual(['a.txt', 'b.txt', 'name[1].txt']);
    expect((await select('s*')).map((root) => root.path)).toEqual(['src', 'star*.md']);
    expect((await select('*/deep')).map((root) => root.path)).toEqual(['other/deep', 'src/deep']);
    expect((await select('src/*.ts')).map((root) => root.path)).toEqual(['src/a.ts', 'src/z.ts']);
  });

  test('a wildcard may fit nothing', async () => {
    expect(await select('yarn.lock*')).toEqual([]);
    expect(await select('nofolder/*.ts')).toEqual([]);
    expect(await select('a.txt/*')).toEqual([]);
  });

  test('escaped wildcards are plain characters', async () => {
    expect((await select('name\\[1].txt')).map((root) => root.path)).toEqual(['name[1].txt']);
    expect((await select('name[[]1].txt')).map((root) => root.path)).toEqual(['name[1].txt']);
    expect((await select('star\\*.md')).map((root) => root.path)).toEqual(['star*.md']);
  });

  test('a named symlink is followed inside the root and keeps its own name', async () => {
    expect(await select('toFile')).toEqual([
      { path: 'toFile', resolved: 'src/a.ts', type: 'file', inside: [] },
    ]);
    expect(await select('climbing')).toEqual([
      { path: 'climbing', resolved: 'src/a.ts', type: 'file', inside: [] },
    ]);
    expect((await select('toFolder'))[0]?.inside).toContain('deep/b.ts');
    expect((await select('toFolder/deep'))[0]?.resolved).toBe('src/deep');
    expect((await select('toFolder/*.ts')).map((root) => root.resolved)).toEqual(['src/a.ts', 'src/z.ts']);
  });

  test('symlinks below a folder stay symlinks', async () => {
    const [root] = await selectSources(TREE, '.', PLACE);
    expect(root?.inside.find(({ path }) => path === 'toFolder')?.entry.type).toBe('symlink');
    expect(root?.inside.some(({ path }) => path.startsWith('toFolder/'))).toBe(false);
  });

  test.each(['missing', 'a.txt/below', '../outside', 'src/missing.ts'])(
    'a plain name that is not there ends the build: %j',
    async (pattern) => {
      const failure = await stopped(() => select(pattern));
      expect(failure).toMatchObject({ code: 'copy-source-missing', range: RANGE });
      expect(failure.message).toBe(`${JSON.stringify(pattern)} not found in the build context`);
    },
  );

  test.each([
    ['dangling', 'dangling', 'nowhere'],
    ['d*g', 'dangling', 'nowhere'],
    ['toFolder/a.tx', 'toFolder/a.tx', 'src/a.tx'],
  ])('a symlink that leads nowhere ends the build: %j', async (pattern, named, path) => {
    const { message } = await stopped(() => select(pattern));
    expect(message).toBe(`"${named}" leads to /${path}, which is not found in the build context`);
  });

  test.each([
    ['a.tx', 'a.txt'],
    ['toFolder/a.t', 'src/a.ts'],
    ['scr/a.ts', 'src/a.ts'],
    ['src/deep/bb.ts', 'src/deep/b.ts'],
  ])('the hint for %j names %j', async (pattern, near) => {
    expect((await stopped(() => select(pattern))).hint).toBe(`Did you mean ${near}?`);
  });

  test('the hint for a name that an ignore file leaves out says so', async () => {
    const place = { ...PLACE, leavesOut: async (path: string) => path === 'b.tx' };
    expect((await stopped(() => selectSources(TREE, 'b.tx', place))).hint).toContain('.dockerignore');
  });

  test('a climbing name that is not there gets a hint of its own', async () => {
    expect((await stopped(() => select('../outside'))).hint).toContain('".."');
  });

  test('symlinks in a circle end the build', async () => {
    expect(await stopped(() => select('loop'))).toMatchObject({ code: 'too-many-symlinks', range: RANGE });
  });

  test('a malformed pattern ends the build', async () => {
    expect(await stopped(() => select('src/[a'))).toMatchObject({ code: 'bad-pattern', range: RANGE });
  });
});

describe('selectSources with --parents', () => {
  const inside = async (pattern: string): Promise<readonly string[]> => {
    const roots = await selectSources(TREE, pattern, PLACE, { parents: true });
    return roots.flatMap((root) =>
      root.inside.map((one) => `${root.path}: ${one.path}${one.implied === true ? ' (implied)' : ''}`),
    );
  };

  test.each<[pattern: string, expected: readonly string[]]>([
    ['src/a.ts', [': src (implied)', ': src/a.ts']],
    ['./src/deep/', [': src (implied)', ': src/deep', ': src/deep/b.ts']],
    ['/src/deep/.', [': src (implied)', ': src/deep', ': src/deep/b.ts']],
    ['src/./deep/b.ts', ['src: deep (implied)', 'src: deep/b.ts']],
    ['./src/./*.ts', ['src: a.ts', 'src: z.ts']],
    ['o*/./deep/./b.ts', ['other: deep (implied)', 'other: deep/b.ts']],
    [
      'src/**/*.ts',
      [': src (implied)', ': src/a.ts', ': src/deep (implied)', ': src/deep/b.ts', ': src/z.ts'],
    ],
    [
      '**/b.ts',
      [
        ': other (implied)',
        ': other/deep (implied)',
        ': other/deep/b.ts',
        ': src (implied)',
        ': src/deep (implied)',
        ': src/deep/b.ts',
      ],
    ],
    ['src/deep/./.', ['src/deep: b.ts']],
    ['toFolder/./deep/b.ts', ['toFolder: deep (implied)', 'toFolder: deep/b.ts']],
    ['toFile', [': toFile']],
    ['none*/x', []],
  ])('%j', async (pattern, expected) => {
    expect(await inside(pattern)).toEqual(expected);
  });

  test.each(['src/none', 'none/./a', 'src/./none', 'toFolder/a.ts'])(
    'a plain name that is not there ends the build: %j',
    async (pattern) => {
      expect(await stopped(() => inside(pattern))).toMatchObject({ code: 'copy-source-missing' });
    },
  );

  test('a malformed pattern ends the build', async () => {
    expect(await stopped(() => inside('src/[a'))).toMatchObject({ code: 'bad-pattern' });
  });
});
