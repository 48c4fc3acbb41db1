/**
 * Where compiled code is kept between starts: a folder of this user's, so that nobody else can put code there. Undefined where the
 * environment names none.
 */
export function codeFolder(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const base = env['XDG_CACHE_HOME'] ?? (env['HOME'] === undefined ? undefined : `${env['HOME']}/.cache`);
  return base?.startsWith('/') ? `${base}/varve/code` : undefined;
}
