import { describe, expect, test } from 'vitest';
import { compileGoPattern, compileIgnorePattern, hasWildcard, unescapePattern } from './go-match.ts';

type Case = readonly [pattern: string, name: string, fits: boolean];

/** The cases that Go tests `filepath.Match` with (src/path/filepath/match_test.go). */
const GO_CASES: readonly Case[] = [
  ['abc', 'abc', true],
  ['*', 'abc', true],
  ['*c', 'abc', true],
  ['a*', 'a', true],
  ['a*', 'abc', true],
  ['a*', 'ab/c', false],
  ['a*/b', 'abc/b', true],
  ['a*/b', 'a/c/b', false],
  ['a*b*c*d*e*/f', 'axbxcxdxe/f', true],
  ['a*b*c*d*e*/f', 'axbxcxdxexxx/f', true],
  ['a*b*c*d*e*/f', 'axbxcxdxe/xxx/f', false],
  ['a*b*c*d*e*/f', 'axbxcxdxexxx/fff', false],
  ['a*b?c*x', 'abxbbxdbxebxczzx', true],
  ['a*b?c*x', 'abxbbxdbxebxczzy', false],
  ['ab[c]', 'abc', true],
  ['ab[b-d]', 'abc', true],
  ['ab[e-g]', 'abc', false],
  ['ab[^c]', 'abc', false],
  ['ab[^b-d]', 'abc', false],
  ['ab[^e-g]', 'abc', true],
  ['a\\*b', 'a*b', true],
  ['a\\*b', 'ab', false],
  ['a?b', 'a☺b', true],
  ['a[^a]b', 'a☺b', true],
  ['a???b', 'a☺b', false],
  ['a[^a][^a][^a]b', 'a☺b', false],
  ['[a-ζ]*', 'α', true],
  ['*[a-ζ]', 'A', false],
  ['a?b', 'a/b', false],
  ['a*b', 'a/b', false],
  ['[\\]a]', ']', true],
  ['[\\-]', '-', true],
  ['[x\\-]', 'x', true],
  ['[x\\-]', '-', true],
  ['[x\\-]', 'z', false],
  ['[\\-x]', 'x', true],
  ['[\\-x]', '-', true],
  ['[\\-x]', 'a', false],
  ['*x', 'xxx', true],
];

const MALFORMED = [
  '[]a]',
  '[-]',
  '[x-]',
  '[-x]',
  '\\',
  '[a-b-c]',
  '[',
  '[^',
  '[^bc',
  'a[',
  'a/b[',
  '[]',
  'x[a\\',
  'a\\',
];

function fits(compiled: ReturnType<typeof compileGoPattern>, name: string): boolean {
  if (!compiled.ok) throw new Error(compiled.error);
  return compiled.value.test(name);
}

describe('compileGoPattern', () => {
  test.each(GO_CASES)('%j on %j: %j', (pattern, name, expected) => {
    expect(fits(compileGoPattern(pattern), name)).toBe(expected);
  });

  test.each(MALFORMED)('refuses the malformed %j', (pattern) => {
    expect(compileGoPattern(pattern)).toEqual({ ok: false, error: 'syntax error in pattern' });
  });

  test.each<Case>([
    ['[b-a]', 'a', false],
    ['[^b-a]', 'a', true],
    ['[\u{1f600}-\u{1f64f}]', '\u{1f610}', true],
    ['[\ue000-\u{1f600}]', '\uffee', true],
    ['?', '\u{1f610}', true],
    ['a?c', 'a\udcffc', true],
    ['**', 'abc', true],
    ['**', 'a/b', false],
    ['a.c', 'abc', false],
    ['a+(b|c){2}$', 'a+(b|c){2}$', true],
    ['*\n*', 'a\nb', true],
    ['*', 'a\nb', true],
    ['*', '', true],
    ['?', '', false],
  ])('%j on %j: %j', (pattern, name, expected) => {
    expect(fits(compileGoPattern(pattern), name)).toBe(expected);
  });
});

/** The cases that moby tests its pattern matcher with, matches of a parent folder left to the rules. */
const MOBY_CASES: readonly Case[] = [
  ['**', 'file', true],
  ['**', 'dir/file', true],
  ['**/**', 'dir/file', true],
  ['dir/**', 'dir/file', true],
  ['dir/**', 'dir/dir2/file', true],
  ['**/dir', 'dir', true],
  ['**/dir', 'dir/file', false],
  ['**/dir2/*', 'dir/dir2/file', true],
  ['**/dir2/**', 'dir/dir2/dir3/file', true],
  ['**file', 'file', true],
  ['**file', 'dir/file', true],
  ['**file', 'dir/myfile', true],
  ['**file', 'dir/file2', false],
  ['**/file', 'dir/file', true],
  ['**/file', 'myfile', false],
  ['**/file', 'dir/myfile', false],
  ['**/file*', 'dir/dir/file.txt', true],
  ['**/file*txt', 'dir/dir/file.txt', true],
  ['**/file*.txt', 'dir/dir/file.txt', true],
  ['**/file*.txt*', 'dir/dir/file.txt', true],
  ['**/**/*.txt', 'dir/dir/file.txt', true],
  ['**/**/*.txt2', 'dir/dir/file.txt', false],
  ['**/*.txt', 'file.txt', true],
  ['**/**/*.txt', 'file.txt', true],
  ['a**/*.txt', 'a/file.txt', true],
  ['a**/*.txt', 'a/dir/dir/file.txt', true],
  ['a/*.txt', 'a/dir/file.txt', false],
  ['a/*.txt', 'a/file.txt', true],
  ['a/*.txt**', 'a/file.txt', true],
  ['a[b-d]e', 'ae', false],
  ['a[b-d]e', 'ace', true],
  ['a[b-d]e', 'aae', false],
  ['a[^b-d]e', 'aze', true],
  ['.*', '.foo', true],
  ['.*', 'foo', false],
  ['abc.def', 'abcdef', false],
  ['abc.def', 'abc.def', true],
  ['abc.def', 'abcZdef', false],
  ['abc?def', 'abcZdef', true],
  ['abc?def', 'abcdef', false],
  ['a\\\\', 'a\\', true],
  ['a\\*b', 'a*b', true],
  ['**/foo/bar', 'foo/bar', true],
  ['**/foo/bar', 'dir/dir2/foo/bar', true],
  ['abc/**', 'abc', false],
  ['abc/**', 'abc/def/ghi', true],
  ['**/.foo', '.foo', true],
  ['**/.foo', 'bar.foo', false],
  ['a(b)c/def', 'a(b)c/def', true],
  ['a(b)c/def', 'a(b)c/xyz', false],
  ['a.|)$(}+{bc', 'a.|)$(}+{bc', true],
  ['dist/*.whl', 'dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl', true],
];

describe('compileIgnorePattern', () => {
  test.each(MOBY_CASES)('%j on %j: %j', (pattern, name, expected) => {
    expect(fits(compileIgnorePattern(pattern), name)).toBe(expected);
  });

  test.each(MALFORMED)('refuses the malformed %j', (pattern) => {
    expect(compileIgnorePattern(pattern)).toEqual({ ok: false, error: 'syntax error in pattern' });
  });
});

test.each([
  ['a*', true],
  ['a?', true],
  ['a[b]', true],
  ['a\\*b', false],
  ['a\\\\*', true],
  ['plain/name', false],
])('hasWildcard(%j) is %j', (text, expected) => {
  expect(hasWildcard(text)).toBe(expected);
});

test('unescapePattern drops backslashes and keeps what they escape', () => {
  expect(unescapePattern('a\\*b\\\\c')).toBe('a*b\\c');
});
