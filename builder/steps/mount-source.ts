import { fingerprint, NO_FACTS, type Selection, type TreeInput } from '../../cache/index.ts';
import {
  type Digest,
  type Entry,
  type ImagePath,
  joinPath,
  ROOT_PATH,
  resolvePath,
  type Tree,
} from '../../core/index.ts';
import { listInside, missingSource } from '../copy-selection.ts';
import type { BindMount, CacheMount, TreeRef } from '../graph.ts';
import type { Standing } from '../standing.ts';
import { stop } from '../stop.ts';

/** The files that a `from` means. */
export interface SourceTree {
  readonly tree: Tree;
  /** How to call it in messages. */
  readonly where: string;
  /** Absent: the build context, which lies in no snapshot. */
  readonly standing?: Standing;
}

const CONTEXT_MODE = 0o755;

export type SourceFor = (from: TreeRef) => Promise<SourceTree>;

/** What a mount takes of a tree: a file, or a folder with all in it. */
export interface MountSource extends SourceTree {
  /** Where it lies, symlinks resolved. */
  readonly path: ImagePath;
  readonly entry: Entry;
  /** What lies in it, parents first; a snapshot that is taken as a whole is listed only when it is asked for. */
  readonly inside: () => Promise<readonly Entry[]>;
  readonly input: TreeInput;
}

/**
 * Finds what a mount takes, and sums it up as an input of the step. The whole of a stage or an image is named by its ChainID: it
 * need not be read for that.
 */
export async function findMountSource(
  mount: BindMount | CacheMount,
  sourceFor: SourceFor,
  signal: AbortSignal,
): Promise<MountSource> {
  const source = await sourceFor(mount.from);
  const { tree, standing } = source;
  const place = { range: mount.range, where: source.where };
  const found = await resolvePath(tree, mount.source, { followLast: true });
  if (found === undefined)
    stop('too-many-symlinks', `${mount.source}: too many levels of symbolic links`, { range: mount.range });
  const { path } = found;
  if (found.entry === undefined) return missingSource(tree, { path, pattern: mount.source }, place);
  const isContext = standing === undefined && path === ROOT_PATH;
  // The folder that somebody builds from has the mode that his machine gave it; no context brings that along.
  const entry = isContext ? { ...found.entry, mode: CONTEXT_MODE } : found.entry;
  const name = `${source.where}, mounted at /${mount.target}`;
  const known = { ...source, path, entry };
  if (standing !== undefined && path === ROOT_PATH) {
    const id = (await standing.committed)?.id;
    const digest = id as string | undefined as Digest | undefined;
    const inside = async () => (await listInside(tree, path)).map((one) => one.entry);
    if (digest !== undefined) return { ...known, inside, input: { name, digest, facts: NO_FACTS } };
  }
  const inside = entry.type === 'dir' ? await listInside(tree, path) : [];
  const selections: Selection[] = [
    ...(isContext ? [] : [{ tree, from: path, to: ROOT_PATH }]),
    ...inside.map(({ path: to, entry: { path: from } }) => ({ tree, from, to })),
  ];
  const input = await fingerprint(name, selections, { signal });
  return { ...known, inside: async () => inside.map((one) => one.entry), input };
}

/** The path of `entry` below the source that holds it. */
export function pathInside(source: MountSource, entry: Entry): ImagePath {
  const prefix = source.path === ROOT_PATH ? 0 : source.path.length + 1;
  return joinPath(ROOT_PATH, entry.path.slice(prefix));
}
