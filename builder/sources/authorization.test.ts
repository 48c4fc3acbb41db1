import { expect, test } from 'vitest';
import { authorizationFor } from './authorization.ts';

function session(secrets: Readonly<Record<string, string>>) {
  return {
    secret: async (id: string) => (Object.hasOwn(secrets, id) ? Buffer.from(secrets[id] ?? '') : undefined),
  };
}

test.each([
  ['git', { GIT_AUTH_TOKEN: 't\n' }, `basic ${Buffer.from('x-access-token:t').toString('base64')}`],
  ['git', { GIT_AUTH_TOKEN: 't', 'GIT_AUTH_HEADER.h:8080': 'basic x' }, 'basic x'],
  ['git', { HTTP_AUTH_TOKEN_h: 't' }, undefined],
  ['http', { HTTP_AUTH_TOKEN_h: 't' }, 'Bearer t'],
  ['http', { HTTP_AUTH_HEADER_h: 'Digest x', HTTP_AUTH_TOKEN_h: 't' }, 'Digest x'],
  ['http', { HTTP_AUTH_TOKEN_other: 't', GIT_AUTH_TOKEN: 't' }, undefined],
] as const)('authorizationFor %s with %j', async (kind, secrets, expected) => {
  expect(await authorizationFor(kind, 'https://h:8080/a.git', session(secrets))).toBe(expected);
});

test('authorizationFor sends no secret where nobody protects it', async () => {
  const given = session({ GIT_AUTH_TOKEN: 't' });
  expect(await authorizationFor('git', 'git://h/a.git', given)).toBeUndefined();
  expect(await authorizationFor('git', 'git@h:a.git', given)).toBeUndefined();
});
