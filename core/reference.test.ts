import { describe, expect, test } from 'vitest';
import { familiarName, formatReference, parseReference } from './reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

describe('parseReference', () => {
  test.each([
    ['debian', 'docker.io/library/debian:latest', 'debian:latest'],
    ['debian:12', 'docker.io/library/debian:12', 'debian:12'],
    ['library/debian', 'docker.io/library/debian:latest', 'debian:latest'],
    ['docker.io/debian', 'docker.io/library/debian:latest', 'debian:latest'],
    ['index.docker.io/debian', 'docker.io/library/debian:latest', 'debian:latest'],
    ['user/app', 'docker.io/user/app:latest', 'user/app:latest'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
    ['localhost:5000/app:1', 'localhost:5000/app:1', 'localhost:5000/app:1'],
    ['ghcr.io/a/b/c:v1.2_3-4', 'ghcr.io/a/b/c:v1.2_3-4', 'ghcr.io/a/b/c:v1.2_3-4'],
    ['127.0.0.1:5000/x', '127.0.0.1:5000/x:latest', '127.0.0.1:5000/x:latest'],
    ['[::1]:5000/x', '[::1]:5000/x:latest', '[::1]:5000/x:latest'],
    ['UPPER/app', 'UPPER/app:latest', 'UPPER/app:latest'],
    ['a__b/c-d/e.f', 'docker.io/a__b/c-d/e.f:latest', 'a__b/c-d/e.f:latest'],
    ['a---b', 'docker.io/library/a---b:latest', 'a---b:latest'],
    [`debian@${DIGEST}`, `docker.io/library/debian@${DIGEST}`, `debian@${DIGEST}`],
    [`debian:12@${DIGEST}`, `docker.io/library/debian:12@${DIGEST}`, `debian:12@${DIGEST}`],
    ['x:UPPER', 'docker.io/library/x:UPPER', 'x:UPPER'],
    [`x:${'t'.repeat(128)}`, `docker.io/library/x:${'t'.repeat(128)}`, `x:${'t'.repeat(128)}`],
  ])('%s', (text, full, familiar) => {
    const parsed = parseReference(text);
    if (!parsed.ok) throw new Error(parsed.error);
    expect(formatReference(parsed.value)).toBe(full);
    expect(familiarName(parsed.value)).toBe(familiar);
    // The full form names the same image wherever it is read.
    expect(parseReference(full)).toEqual(parsed);
  });

  test.each([
    '',
    ':tag',
    '@',
    `@${DIGEST}`,
    'x@sha256:abc',
    `x@${DIGEST}@${DIGEST}`,
    `x@md5:${'a'.repeat(32)}`,
    'Upper',
    'a/Upper',
    'a//b',
    '/a',
    'a/',
    '-a',
    'a-',
    'a..b',
    'a_-b',
    'a___b',
    'x:',
    'x:.tag',
    `x:${'t'.repeat(129)}`,
    'x:a:b',
    'host:port/x',
    'ho st/x',
    'https://x.y/z',
    'a b',
    'a\n',
    `x.y/${'a'.repeat(256)}`,
  ])('refuses %j', (text) => {
    expect(parseReference(text).ok).toBe(false);
  });

  test('says so where a name has capitals', () => {
    const parsed = parseReference('MyApp');
    expect(parsed.ok ? '' : parsed.error).toContain('must be lowercase');
  });
});
