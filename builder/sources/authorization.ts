import type { BuildSession } from '../../core/index.ts';

/**
 * The `Authorization` header that secrets of the build give for an address: for a repository `GIT_AUTH_HEADER.<host>` and
 * `GIT_AUTH_TOKEN.<host>`, then the same without a host; for a file `HTTP_AUTH_HEADER_<host>` and `HTTP_AUTH_TOKEN_<host>`
 * (https://docs.docker.com/build/building/secrets/). Undefined where none of them was given.
 */
export async function authorizationFor(
  kind: 'git' | 'http',
  url: string,
  session: Pick<BuildSession, 'secret'>,
): Promise<string | undefined> {
  const address = URL.parse(url);
  if (address === null || !/^https?:$/.test(address.protocol)) return undefined;
  const isGit = kind === 'git';
  const names = isGit
    ? [
        `GIT_AUTH_HEADER.${address.host}`,
        `GIT_AUTH_TOKEN.${address.host}`,
        'GIT_AUTH_HEADER',
        'GIT_AUTH_TOKEN',
      ]
    : [`HTTP_AUTH_HEADER_${address.hostname}`, `HTTP_AUTH_TOKEN_${address.hostname}`];
  for (const name of names) {
    const secret = await session.secret(name);
    if (secret === undefined) continue;
    const value = Buffer.from(secret).toString('utf8').trim();
    if (!name.includes('TOKEN')) return value;
    return isGit ? `basic ${Buffer.from(`x-access-token:${value}`).toString('base64')}` : `Bearer ${value}`;
  }
  return undefined;
}
