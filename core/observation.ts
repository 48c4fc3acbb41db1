import type { Digest } from './digest.ts';
import type { Entry, FileType } from './entry.ts';
import { type ImagePath, ROOT_PATH } from './path.ts';

/**
 * What was used of one path, as bits. That something lies there, or nothing, and of which type, always counts.
 *
 * `METADATA`: mode, owner, extended attributes; of a folder also whether it hides what lies below the traced diffs.
 * `ATTRIBUTES`: size, time of change, number of names, the first of these names, device number; nothing of a folder.
 * `CONTENT`: the bytes of a file. `LISTING`: the names in a folder with their types. `TARGET`: of a symlink.
 */
export const USE = { METADATA: 1, ATTRIBUTES: 2, CONTENT: 4, LISTING: 8, TARGET: 16 } as const;

/** A path that a step looked at, whether or not anything was there. */
export interface Observation {
  /** Of the root, or of a mount: see {@link mountedPath}. */
  readonly path: ImagePath;
  /** Of {@link USE}. */
  readonly uses: number;
  /** The program that read it, or looked at it first, for people: no part of any key. */
  readonly by?: string;
}

/**
 * The path of what lies at `path` in the tree that is mounted at `target`, among observations: NUL, target, NUL, and, but for the mount's
 * own root, `/` and the path. No path of an image holds NUL, so none can be taken for the other.
 */
export function mountedPath(target: ImagePath, path: ImagePath): ImagePath {
  return `\0${target}\0${path === ROOT_PATH ? '' : `/${path}`}` as ImagePath;
}

/** The parts of a {@link mountedPath}; undefined for a path of the root. */
export function splitMounted(
  path: ImagePath,
): { readonly target: ImagePath; readonly path: ImagePath } | undefined {
  if (!path.startsWith('\0')) return undefined;
  const end = path.indexOf('\0', 1);
  return { target: path.slice(1, end) as ImagePath, path: path.slice(end + 2) as ImagePath };
}

/** An observed path as the step saw it, without the leading slash. */
export function seenPath(path: ImagePath): ImagePath {
  return path.replaceAll('\0', '') as ImagePath;
}

/**
 * What a stack of diffs, taken by itself, says of a path: what an overlay would ask of it. What lies below the stack (a
 * base image) is not part of it: `absent` lets it through, `whiteout` hides it.
 */
export type PathState =
  | { readonly kind: 'absent' }
  | { readonly kind: 'whiteout' }
  | {
      readonly kind: 'present';
      /** `hardlinkTo` names the first other name that this stack shows. */
      readonly entry: Entry;
      /** Names of the file that this stack shows; 1 for folders. */
      readonly links: number;
      /** A folder that hides what lies below the stack. */
      readonly opaque: boolean;
    };

/** Where two trees may differ. `path`: in what they say of the path itself. `below`: of all that lies below it too, and of its folder's names. */
export interface TreeChange {
  readonly path: ImagePath;
  readonly reach: 'path' | 'below';
}

/** What a tree is made of, by which it is compared with what another one was made of. */
export interface ComparedStack {
  /** Trees of this machine's store with the same name say the same of every path. */
  readonly name: string;
  /**
   * Everywhere that this tree may say something else than the one of that name did, in no order; more may be told than differs. Undefined
   * where it is not known.
   */
  changesSince(name: string): readonly TreeChange[] | undefined;
}

/** The upper part of a snapshot, as observations are compared with it: in memory, without touching a mount. */
export interface ObservedTree {
  /**
   * No diff holds an extended attribute, a whiteout or an opaque folder. The file server then has no attributes at all, which a
   * program can tell from a file without any (EOPNOTSUPP, ENODATA).
   */
  readonly isPlain: boolean;
  state(path: ImagePath): PathState;
  /** The names in a folder, whiteouts among them, sorted by bytes; empty where `path` is no folder. */
  list(path: ImagePath): readonly { readonly name: string; readonly type: FileType | 'whiteout' }[];
  /**
   * The digest of a regular file's bytes; files are read once, and what is known is told at once: trees are large.
   * @throws Error, or rejects with it, where `path` is no regular file.
   */
  digest(path: ImagePath): Digest | Promise<Digest>;
  /** Absent where the tree is not that of a stack of diffs alone. */
  readonly stack?: ComparedStack;
}

/** What is known of the reading of a sandboxed process when it has ended. */
export type TraceReport =
  /** The root folder is always among them: its mode and owner are given to the upper folder before the process starts. */
  | { readonly kind: 'traced'; readonly observations: readonly Observation[] }
  /** The root was mounted as it is: nothing is known of what was read. `reason` for people. */
  | { readonly kind: 'untraced'; readonly reason: string };
