import { type ImagePath, UsageError } from '../core/index.ts';
import { compileGoPattern, hasWildcard, unescapePattern } from './go-match.ts';

/**
 * Files that differ in every run of the programs that write them, whatever these did: logs with the time of day, caches
 * that hold time stamps and inode numbers.
 */
export const USUAL_NOISE: readonly string[] = [
  '/tmp/node-compile-cache',
  '/var/cache/ldconfig/aux-cache',
  '/var/log/alternatives.log',
  '/var/log/apt/eipp.log.xz',
  '/var/log/apt/history.log',
  '/var/log/apt/term.log',
  '/var/log/bootstrap.log',
  '/var/log/dpkg.log',
  '/var/log/lastlog',
  '/root/.npm/_logs',
  '/root/.npm/_update-notifier-last-checked',
  '/home/*/.npm/_logs',
  '/home/*/.npm/_update-notifier-last-checked',
];

/** What fits `pattern`: an absolute path in the image with Go's wildcards; undefined where it is none. */
export function compileNoise(pattern: string): RegExp | undefined {
  if (!pattern.startsWith('/') || pattern.length === 1) return undefined;
  const compiled = compileGoPattern(pattern.slice(1));
  return compiled.ok ? compiled.value : undefined;
}

/** Ends what was asked for at a pattern that would silently fit nothing. @throws UsageError */
export function checkNoise(patterns: readonly string[]): void {
  const wrong = patterns.find((pattern) => compileNoise(pattern) === undefined);
  if (wrong === undefined) return;
  throw new UsageError(
    `--cache-noise: ${JSON.stringify(wrong)} is no absolute path in the image`,
    'Write a path with wildcards, such as "/var/log/*.log".',
  );
}

/** Tells of paths in the image whether they, or a folder above them, fit one of `patterns` or the usual noise. */
export function noiseFilter(patterns: readonly string[]): (path: ImagePath) => boolean {
  const all = [...USUAL_NOISE, ...patterns];
  const compiled = all.flatMap((pattern) => compileNoise(pattern) ?? []);
  const fits = (path: string): boolean => compiled.some((pattern) => pattern.test(path));
  const firsts = all.map((pattern) => pattern.split('/')[1] ?? '');
  // Most diffs have no file in any of these folders, and may have tens of thousands elsewhere.
  const tops = firsts.some(hasWildcard) ? undefined : new Set(firsts.map(unescapePattern));
  return (path) => {
    const slash = path.indexOf('/');
    if (tops?.has(slash === -1 ? path : path.slice(0, slash)) === false) return false;
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
      if (fits(path.slice(0, end))) return true;
    }
    return false;
  };
}
