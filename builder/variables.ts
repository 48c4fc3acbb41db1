import type { Platform } from '../core/index.ts';
import { formatPlatform } from '../image/index.ts';

/** Build arguments that need no ARG, reach RUN, and are no part of keys or history. */
export const PROXY_ARGS: readonly string[] = [
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'FTP_PROXY',
  'NO_PROXY',
  'ALL_PROXY',
].flatMap((name) => [name, name.toLowerCase()]);

/** The build argument that makes time stamps reproducible; needs no ARG. */
export const SOURCE_DATE_EPOCH = 'SOURCE_DATE_EPOCH';

/** The PATH of images that set none, as Docker has it. */
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The platform arguments of the global scope: https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope. */
export function platformArgs(build: Platform, target: Platform): ReadonlyMap<string, string> {
  const entries: [string, string][] = [];
  for (const [prefix, platform] of [
    ['BUILD', build],
    ['TARGET', target],
  ] as const) {
    entries.push([`${prefix}PLATFORM`, formatPlatform(platform)]);
    entries.push([`${prefix}OS`, platform.os], [`${prefix}ARCH`, platform.architecture]);
    entries.push([`${prefix}VARIANT`, platform.variant ?? '']);
  }
  return new Map(entries);
}

/** `NAME=value` lines as a map; a later line wins. */
export function readEnvironment(lines: readonly string[]): Map<string, string> {
  const environment = new Map<string, string>();
  for (const line of lines) {
    const equals = line.indexOf('=');
    if (equals > 0) environment.set(line.slice(0, equals), line.slice(equals + 1));
  }
  return environment;
}

export function formatEnvironment(environment: Iterable<readonly [string, string]>): string[] {
  return [...environment].map(([name, value]) => `${name}=${value}`);
}
