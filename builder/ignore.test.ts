import { describe, expect, test } from 'vitest';
import { imagePath } from '../core/index.ts';
import { type IgnoreRules, parseIgnoreFile } from './ignore.ts';

function rules(...lines: readonly string[]): IgnoreRules {
  const parsed = parseIgnoreFile(lines.join('\n'));
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

function ignored(lines: readonly string[], path: string): boolean {
  return rules(...lines).ignores(imagePath(path));
}

describe('IgnoreRules.ignores', () => {
  test.each<[lines: string[], path: string, expected: boolean]>([
    [[], 'a', false],
    [['*.go'], 'x.go', true],
    [['*.go'], 'dir/x.go', false],
    [['**/*.go'], 'x.go', true],
    [['**/*.go'], 'a/b/x.go', true],
    [['docs'], 'docs/deep/README.md', true],
    [['*/temp*'], 'somedir/temporary.txt', true],
    [['*/temp*'], 'somedir/sub/temporary.txt', false],
    [['*/temp*'], 'somedir/temp/x', true],
    [['docs', '!docs/README.md'], 'docs/README.md', false],
    [['docs', '!docs/README.md'], 'docs/other.md', true],
    [['docs/', '!docs/README.md'], 'docs/README.md', false],
    [['docs/*', '!docs/README.md'], 'docs/README.md', false],
    [['!docs/README.md', 'docs'], 'docs/README.md', true],
    [['*.md', '!README*.md', 'README-secret.md'], 'README-secret.md', true],
    [['*.md', 'README-secret.md', '!README*.md'], 'README-secret.md', false],
    [['**', '!util/docker/web'], 'util/docker/web/foo', false],
    [['**', '!util/docker/web', 'util/docker/web/foo'], 'util/docker/web/foo', true],
    [['*', '!src'], 'src/a/b', false],
    [['*', '!src'], 'other', true],
    [['*', '!**/*.py'], 'a/b/c.py', false],
    [['**/*.log', '!kept'], 'kept/deep/x.log', false],
    [['**/*.log', '!kept', 'kept/deep'], 'kept/deep/x.log', true],
  ])('%j on %j: %j', (lines, path, expected) => {
    expect(ignored(lines, path)).toBe(expected);
  });

  test.each(['/docs', 'docs/', './docs', 'x/../docs', '/../docs', '  docs  ', '//docs//'])(
    '%j means docs in the root',
    (pattern) => {
      expect(ignored([pattern], 'docs')).toBe(true);
      expect(ignored([pattern], 'sub/docs')).toBe(false);
    },
  );

  test.each(['.', './', '/', 'a/..', '../docs', 'a/../../docs'])('%j leaves nothing out', (pattern) => {
    expect(ignored([pattern], 'docs')).toBe(false);
    expect(ignored(['docs', `!${pattern}`], 'docs')).toBe(true);
  });

  test('the root itself is never left out', () => {
    expect(ignored(['**'], '')).toBe(false);
  });

  test('blanks between ! and the pattern are dropped', () => {
    expect(ignored(['a', '! /a'], 'a')).toBe(false);
  });
});

describe('parseIgnoreFile', () => {
  test('skips empty lines and comments, but takes # behind blanks as a name', () => {
    expect(ignored(['# a', '', '   ', 'b'], 'a')).toBe(false);
    expect(ignored([' #a'], '#a')).toBe(true);
  });

  test('reads a file with a byte order mark and CRLF line ends', () => {
    const parsed = parseIgnoreFile('\ufeffone\r\ntwo\r\n');
    expect(parsed.ok && ['one', 'two', 'two\r'].map((path) => parsed.value.ignores(imagePath(path)))).toEqual(
      [true, true, false],
    );
  });

  test.each([
    ['a\n[', 'line 2: "[": syntax error in pattern'],
    ['!', 'line 1: illegal exclusion pattern: "!"'],
    ['!  ', 'line 1: illegal exclusion pattern: "!"'],
    ['x\\', 'line 1: "x\\\\": syntax error in pattern'],
  ])('refuses %j', (text, message) => {
    expect(parseIgnoreFile(text)).toEqual({ ok: false, error: message });
  });
});

describe('IgnoreRules.mayReinclude', () => {
  test.each<[lines: string[], folder: string, expected: boolean]>([
    [['a'], 'a', false],
    [['a', '!a/b/c'], 'a', true],
    [['a', '!a/b/c'], 'a/b', true],
    [['a', '!a/b/c'], 'a/x', false],
    [['a', '!a/b/c'], 'a/b/c', false],
    [['*', '!README.md'], 'node_modules', false],
    [['*', '!src/*.ts'], 'src', true],
    [['*', '!src/*.ts'], 'lib', false],
    [['*', '!**/*.ts'], 'lib/deep', true],
    [['*', '!s\\rc/x'], 'src', true],
  ])('%j below %j: %j', (lines, folder, expected) => {
    expect(rules(...lines).mayReinclude(imagePath(folder))).toBe(expected);
  });
});
