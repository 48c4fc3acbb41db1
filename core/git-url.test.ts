import { describe, expect, test } from 'vitest';
import { isHttpUrl, parseGitUrl, withoutCredentials } from './git-url.ts';

const HEX = '0123456789abcdef0123456789abcdef01234567';

describe('parseGitUrl', () => {
  test.each([
    ['https://h/a.git', { remote: 'https://h/a.git' }],
    ['http://h:80/a.git#main', { remote: 'http://h:80/a.git', ref: 'main' }],
    ['https://h/a.git#main:docs/x', { remote: 'https://h/a.git', ref: 'main', subdir: 'docs/x' }],
    ['https://h/a.git#:docs', { remote: 'https://h/a.git', subdir: 'docs' }],
    ['https://h/a.git#feat%2Fx', { remote: 'https://h/a.git', ref: 'feat/x' }],
    ['ssh://git@h:22/a', { remote: 'ssh://git@h:22/a' }],
    ['git://h/a#v1', { remote: 'git://h/a', ref: 'v1' }],
    ['git@h:a/b.git#v1:d', { remote: 'git@h:a/b.git', ref: 'v1', subdir: 'd' }],
    ['https://h/a.git?tag=v1', { remote: 'https://h/a.git', ref: 'refs/tags/v1' }],
    [
      'https://h/a.git?branch=main&subdir=d',
      { remote: 'https://h/a.git', ref: 'refs/heads/main', subdir: 'd' },
    ],
    ['https://h/a.git?ref=pull/42/head', { remote: 'https://h/a.git', ref: 'pull/42/head' }],
    [`https://h/a.git?commit=${HEX}`, { remote: 'https://h/a.git', ref: HEX, checksum: HEX }],
    [
      'https://h/a.git?tag=v1&checksum=0123',
      { remote: 'https://h/a.git', ref: 'refs/tags/v1', checksum: '0123' },
    ],
    [
      'https://h/a.git?keep-git-dir&submodules=false&mtime=checkout&fetch-by-commit=true',
      { remote: 'https://h/a.git', keepGitDir: true, submodules: false, mtime: 'checkout' },
    ],
    ['https://h/a.git?keep-git-dir=0#main', { remote: 'https://h/a.git', ref: 'main', keepGitDir: false }],
  ])('reads %s', (text, expected) => {
    expect(parseGitUrl(text)).toEqual({ ok: true, value: { likeAPath: false, ...expected } });
  });

  test('takes github.com/… for a repository that could be a path', () => {
    const value = { remote: 'https://github.com/a/b', ref: 'x', likeAPath: true };
    expect(parseGitUrl('github.com/a/b#x')).toEqual({ ok: true, value });
  });

  test.each([
    'https://h/a.tar.gz',
    'https://h/',
    'a/b.git',
    './git@h:x',
    '../a.git',
    'ftp://h/a.git',
    'file:///a.git',
    'ext::sh -c true',
    'C:/x',
    '.',
  ])('sees no repository in %s', (text) => {
    expect(parseGitUrl(text)).toEqual({ ok: true, value: undefined });
  });

  test.each([
    ['https://h/a.git?what=1', 'unexpected query "what"'],
    ['https://h/a.git?ref=', 'query "ref" has no value'],
    ['https://h/a.git?ref=a&ref=b', 'query "ref" has multiple values'],
    ['https://h/a.git?ref=a#b', 'ref conflicts: "b" vs "a"'],
    ['https://h/a.git?subdir=a#b:c', 'subdir conflicts: "c" vs "a"'],
    ['https://h/a.git?tag=a&branch=b', 'branch conflicts with tag'],
    ['https://h/a.git?tag=a#b', 'ref conflicts: "b" vs "refs/tags/a"'],
    ['https://h/a.git?checksum=xyz', 'invalid checksum "xyz", expected hex commit hash'],
    ['https://h/a.git?submodules=maybe', 'invalid submodules value: "maybe"'],
    ['https://h/a.git?mtime=now', 'invalid mtime value: "now"'],
    ['https://h/a.git#--upload-pack=x', '"--upload-pack=x" is no valid name of a branch, tag or commit'],
    ['https://h/a.git#a..b', '"a..b" is no valid name of a branch, tag or commit'],
    ['https://h/a.git#a*', '"a*" is no valid name of a branch, tag or commit'],
    ['git@-oProxyCommand=x:a', undefined],
    ['git@-h:a', '"git@-h:a" has no valid host'],
    ['git@h:-a', '"git@h:-a" has no valid path'],
    ['ssh://-h/a', '"ssh://-h/a" has no valid host'],
  ])('refuses %s', (text, error) => {
    const result = parseGitUrl(text);
    expect(result.ok ? undefined : result.error).toBe(error);
  });
});

test('withoutCredentials takes passwords and tokens out, and leaves the rest', () => {
  expect(withoutCredentials('https://token@h/a.git')).toBe('https://h/a.git');
  expect(withoutCredentials('https://u:p@h/a')).toBe('https://h/a');
  expect(withoutCredentials('ssh://git:p@h/a')).toBe('ssh://git@h/a');
  expect(withoutCredentials('git@h:a/b')).toBe('git@h:a/b');
  expect(withoutCredentials('https://h/a@b')).toBe('https://h/a@b');
});

test('isHttpUrl', () => {
  expect(['http://h', 'https://h', 'ftp://h', 'h'].map(isHttpUrl)).toEqual([true, true, false, false]);
});
