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
import { nearest } from '../parser/index.ts';
import { compileGoPattern, hasWildcard, unescapePattern } from './go-match.ts';
import { type IgnoreRules, ignoreRulesOf } from './ignore.ts';
import { stop } from './stop.ts';

/** A file or folder that a COPY source names, with everything in it that is copied. */
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
  /** A folder that no pattern names, taken for what is copied below it: where it exists, its owner stays. */
  readonly implied?: true;
}

/** Whose files a pattern is about, for messages. */
export interface SourcePlace {
  readonly range: SourceRange;
  /** `the build context`, `stage build`. */
  readonly where: string;
  /** Does an ignore file leave out what lies at a path? */
  readonly leavesOut?: (path: ImagePath) => Promise<boolean>;
}

export interface SelectionOptions {
  /** `--parents`: folders on the way are kept, from the `/./` in the pattern on. */
  readonly parents?: boolean;
  /** `--exclude`: what is left out, by paths within a folder that is copied, or by the name of a file that is. */
  readonly exclude?: IgnoreRules;
}

/**
 * Finds what `pattern` names in `tree`: Go's wildcards, symlinks followed in the named path itself but not below it.
 * A wildcard may fit nothing (`COPY package.json yarn.lock* ./`); a plain name that is not there ends the build.
 */
export async function selectSources(
  tree: Tree,
  pattern: string,
  place: SourcePlace,
  options: SelectionOptions = {},
): Promise<readonly SelectedRoot[]> {
  if (options.parents === true) return selectWithParents(tree, pattern, { ...options, place });
  const { exclude } = options;
  const roots: SelectedRoot[] = [];
  for (const { path, name } of await matchPattern(tree, pattern, place)) {
    const { path: resolved, entry } = await follow(tree, { path, pattern }, place);
    if (entry.type === 'dir') {
      roots.push({ path, resolved, entry, inside: await listInside(tree, resolved, options) });
    } else if (!(exclude?.ignores(name) ?? false)) roots.push({ path, resolved, entry, inside: [] });
  }
  return roots;
}

/** The entry at a path that a pattern led to, or the end of the build. */
async function follow(
  tree: Tree,
  { path, pattern }: { readonly path: ImagePath; readonly pattern: string },
  place: SourcePlace,
): Promise<{ readonly path: ImagePath; readonly entry: Entry }> {
  const found = await resolvePath(tree, path, { followLast: true });
  if (found === undefined)
    stop('too-many-symlinks', `${pattern}: too many levels of symbolic links`, { range: place.range });
  const { entry } = found;
  if (entry === undefined) return missingSource(tree, { path: found.path, named: path, pattern }, place);
  return { path: found.path, entry };
}

const PIVOT = '/./';

/**
 * What fits the part of `pattern` behind its pivot, in the folders that the part before it names (the whole tree where there is
 * none). Behind the pivot, `**` stands for any number of folders and no symlink is followed.
 */
async function selectWithParents(
  tree: Tree,
  pattern: string,
  { place, exclude }: SelectionOptions & { readonly place: SourcePlace },
): Promise<readonly SelectedRoot[]> {
  const pivot = pattern.indexOf(PIVOT);
  const above = pivot === -1 ? '/' : pattern.slice(0, pivot);
  const wanted = imagePath(pivot === -1 ? pattern : pattern.slice(pivot + PIVOT.length));
  const include = wanted === '' ? undefined : includeRules(wanted, place);
  const roots: SelectedRoot[] = [];
  let isThere = hasWildcard(above) || hasWildcard(wanted);
  for (const { path } of await matchPattern(tree, above, place)) {
    const { path: resolved, entry } = await follow(tree, { path, pattern }, place);
    isThere ||= (await tree.lstat(imagePath(unescapePattern(wanted), resolved))) !== undefined;
    const inside = entry.type === 'dir' ? await listInside(tree, resolved, { include, exclude }) : [];
    roots.push({ path, resolved, entry, inside });
  }
  if (!isThere) await missingSource(tree, { path: imagePath(unescapePattern(pattern)), pattern }, place);
  return roots;
}

/** Rules that ignore everything but `wanted` and what lies below it. */
function includeRules(wanted: string, place: SourcePlace): IgnoreRules {
  const rules = ignoreRulesOf(['**', `!${wanted}`]);
  return rules.ok ? rules.value : stop('bad-pattern', rules.error, { range: place.range });
}

/** Ends the build because a source is not there: `path`, where symlinks led from `named`, which fits `pattern`. */
export async function missingSource(
  tree: Tree,
  {
    path,
    named = path,
    pattern,
  }: { readonly path: ImagePath; readonly named?: ImagePath; readonly pattern: string },
  { range, where, leavesOut }: SourcePlace,
): Promise<never> {
  const hint =
    (await leavesOut?.(path)) === true
      ? 'It is there, but .dockerignore leaves it out.'
      : await hintFor(tree, path, pattern);
  const what =
    named === path
      ? `${JSON.stringify(pattern)} not found in ${where}`
      : `${JSON.stringify(named)} leads to /${path}, which is not found in ${where}`;
  return stop('copy-source-missing', what, { range, hint });
}

async function hintFor(tree: Tree, path: ImagePath, pattern: string): Promise<string> {
  const near = await nearestPath(tree, path);
  if (near !== undefined) return `Did you mean ${near}?`;
  return pattern.split('/').includes('..')
    ? 'Paths cannot leave their root with "..": name a file inside it.'
    : 'Check the spelling.';
}

/** `path` with its first part that is not there exchanged for the nearest name that is, as far as that leads somewhere. */
async function nearestPath(tree: Tree, path: ImagePath): Promise<string | undefined> {
  const parts = path.split('/');
  let folder = ROOT_PATH;
  for (const [index, part] of parts.entries()) {
    const next = joinPath(folder, part);
    if ((await tree.lstat(next)) === undefined) {
      const names = (await tree.list(folder)).map((entry) => baseName(entry.path));
      const near = nearest(part, names);
      if (near === undefined) return undefined;
      const guess = imagePath([near, ...parts.slice(index + 1)].join('/'), folder);
      return (await tree.lstat(guess)) === undefined ? undefined : guess;
    }
    folder = next;
  }
  return undefined;
}

interface Match {
  readonly path: ImagePath;
  /** Without the folders that the pattern names before its first wildcard; a plain path's last part. */
  readonly name: ImagePath;
}

async function matchPattern(tree: Tree, pattern: string, place: SourcePlace): Promise<readonly Match[]> {
  if (!hasWildcard(pattern)) {
    const path = imagePath(unescapePattern(pattern));
    return [{ path, name: imagePath(baseName(path)) }];
  }
  const parts = imagePath(pattern).split('/');
  const firstWild = parts.findIndex(hasWildcard);
  const start = await resolvePath(tree, imagePath(unescapePattern(parts.slice(0, firstWild).join('/'))), {
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

async function walkMatches(tree: Tree, base: ImagePath, wild: Wild): Promise<readonly Match[]> {
  const found: Match[] = [];
  const visit = async (folder: ImagePath, depth: number): Promise<void> => {
    for (const entry of await tree.list(folder)) {
      const name = imagePath(base === '' ? entry.path : entry.path.slice(base.length + 1));
      if (depth === wild.depth && wild.pattern.test(name)) found.push({ path: entry.path, name });
      else if (depth < wild.depth && entry.type === 'dir') await visit(entry.path, depth + 1);
    }
  };
  await visit(base, 1);
  return found;
}

interface InsideRules {
  /** What it ignores is not copied for its own sake. */
  readonly include?: IgnoreRules | undefined;
  readonly exclude?: IgnoreRules | undefined;
}

/**
 * What lies in the folder `root` and is neither left out nor passed over, with the folders that lead to it: parents before children,
 * paths relative to the folder.
 */
export async function listInside(
  tree: Tree,
  root: ImagePath,
  { include, exclude }: InsideRules = {},
): Promise<readonly SelectedEntry[]> {
  const found: SelectedEntry[] = [];
  // Folders that are taken as soon as something below them is.
  const waiting: SelectedEntry[] = [];
  const visit = async (folder: ImagePath, relative: ImagePath): Promise<void> => {
    for (const entry of await tree.list(folder)) {
      // The same text where all of the tree is taken: there may be hundreds of thousands.
      const path = root === ROOT_PATH ? entry.path : joinPath(relative, baseName(entry.path));
      const isPassedOver = include?.ignores(path) ?? false;
      const isExcluded = exclude?.ignores(path) ?? false;
      const isTaken = !isPassedOver && !isExcluded;
      if (isTaken) found.push(...waiting.splice(0), { path, entry });
      if (entry.type !== 'dir') continue;
      if (isPassedOver && include?.mayReinclude(path) !== true) continue;
      if (isExcluded && exclude?.mayReinclude(path) !== true) continue;
      if (!isTaken) waiting.push({ path, entry, implied: true });
      await visit(entry.path, path);
      if (waiting.at(-1)?.path === path) waiting.pop();
    }
  };
  await tree.readAhead?.(root);
  await visit(root, ROOT_PATH);
  return found;
}
