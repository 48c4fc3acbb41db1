import {
  baseName,
  type Entry,
  type ImagePath,
  imagePath,
  joinPath,
  ROOT_PATH,
  resolvePath,
  type SourceRange,
  type Tree,
} from '../core/index.ts';
import { compileGoPattern, hasWildcard, unescapePattern } from './go-match.ts';
import { stop } from './stop.ts';

/** A file or folder that a COPY source names, with everything in it. */
export interface SelectedRoot {
  /** As the pattern named it; its last part names the copy. */
  readonly path: ImagePath;
  /** Where it really lies, symlinks resolved. */
  readonly resolved: ImagePath;
  readonly entry: Entry;
  /** What lies in a folder, parents before children; `path` is relative to the folder. */
  readonly inside: readonly SelectedEntry[];
}

export interface SelectedEntry {
  readonly path: ImagePath;
  readonly entry: Entry;
}

/**
 * Finds what `pattern` names in `tree`: Go's wildcards, symlinks followed in the named path itself but not below it.
 * A wildcard may fit nothing (`COPY package.json yarn.lock* ./`); a plain name that is not there ends the build.
 * `where` says whose tree it is, for messages.
 */
export async function selectSources(
  tree: Tree,
  pattern: string,
  place: { readonly range: SourceRange; readonly where: string },
): Promise<readonly SelectedRoot[]> {
  const roots: SelectedRoot[] = [];
  for (const path of await matchPattern(tree, pattern, place)) {
    const found = await resolvePath(tree, path, { followLast: true });
    if (found === undefined)
      stop('too-many-symlinks', `${pattern}: too many levels of symbolic links`, { range: place.range });
    if (found.entry === undefined) missingSource(pattern, place);
    const inside = found.entry.type === 'dir' ? await listInside(tree, found.path) : [];
    roots.push({ path, resolved: found.path, entry: found.entry, inside });
  }
  return roots;
}

/** Ends the build because a source is not there. */
export function missingSource(
  pattern: string,
  place: { readonly range: SourceRange; readonly where: string },
): never {
  const climbs = pattern.split('/').includes('..');
  stop('copy-source-missing', `${JSON.stringify(pattern)} not found in ${place.where}`, {
    range: place.range,
    hint: climbs
      ? 'Paths cannot leave their root with "..": name a file inside it.'
      : 'Check the spelling, and whether .dockerignore leaves it out.',
  });
}

async function matchPattern(
  tree: Tree,
  pattern: string,
  place: { readonly range: SourceRange; readonly where: string },
): Promise<readonly ImagePath[]> {
  if (!hasWildcard(pattern)) return [imagePath(unescapePattern(pattern))];
  const parts = imagePath(pattern).split('/');
  const firstWild = parts.findIndex(hasWildcard);
  const start = await resolvePath(tree, unescapePattern(parts.slice(0, firstWild).join('/')) as ImagePath, {
    followLast: true,
  });
  const wild = compileGoPattern(parts.slice(firstWild).join('/'));
  if (!wild.ok) stop('bad-pattern', `${JSON.stringify(pattern)}: ${wild.error}`, { range: place.range });
  if (start?.entry === undefined) return [];
  return walkMatches(tree, start.path, { pattern: wild.value, depth: parts.length - firstWild });
}

interface Wild {
  readonly pattern: RegExp;
  /** Number of path parts that the pattern has: `*` stops at slashes, so nothing deeper can fit. */
  readonly depth: number;
}

async function walkMatches(tree: Tree, base: ImagePath, wild: Wild): Promise<readonly ImagePath[]> {
  const found: ImagePath[] = [];
  const visit = async (folder: ImagePath, depth: number): Promise<void> => {
    for (const entry of await tree.list(folder)) {
      const relative = base === '' ? entry.path : entry.path.slice(base.length + 1);
      if (depth === wild.depth && wild.pattern.test(relative)) found.push(entry.path);
      else if (depth < wild.depth && entry.type === 'dir') await visit(entry.path, depth + 1);
    }
  };
  await visit(base, 1);
  return found;
}

async function listInside(tree: Tree, root: ImagePath): Promise<readonly SelectedEntry[]> {
  const found: SelectedEntry[] = [];
  const visit = async (folder: ImagePath, relative: ImagePath): Promise<void> => {
    for (const entry of await tree.list(folder)) {
      const path = joinPath(relative, baseName(entry.path));
      found.push({ path, entry });
      if (entry.type === 'dir') await visit(entry.path, path);
    }
  };
  await visit(root, ROOT_PATH);
  return found;
}
