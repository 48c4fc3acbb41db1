import { statSync } from 'node:fs';

/**
 * Where compiled code is kept between starts. It is run: only in a place of this user's, so that nobody else can put code there, as the
 * user could for root where `sudo` leaves HOME as it is. Undefined where the environment names none.
 */
export function codeFolder(
  env: Readonly<Record<string, string | undefined>>,
  uid: number | undefined,
): string | undefined {
  const { HOME: home, XDG_CACHE_HOME: caches } = env;
  const place = caches ?? home;
  if (place === undefined || !place.startsWith('/') || !isOf(uid, place)) return undefined;
  return `${caches ?? `${home}/.cache`}/varve/code`;
}

function isOf(uid: number | undefined, folder: string): boolean {
  try {
    return statSync(folder).uid === uid;
  } catch {
    return false;
  }
}
