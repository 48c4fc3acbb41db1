import type { Digest } from './digest.ts';
import type { Change, Entry, FileType, Time } from './entry.ts';
import type { RootMount } from './mount.ts';
import type { HostPath, ImagePath } from './path.ts';
import type { DiffFolders } from './snapshot.ts';

/** What an operation gives to the file that it makes. Absent `mtime`: the time of making. */
export interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime?: Time;
  readonly xattrs?: Readonly<Record<string, Uint8Array>>;
}

/**
 * One change to a tree. Paths are resolved inside the tree: symlinks on the way are followed as if the tree were `/`
 * (openat2(2), RESOLVE_IN_ROOT), so nothing outside can be reached; the last part is never followed.
 * Folders missing on the way are made with mode 0755 and owner 0:0.
 */
export type TreeOp =
  /** Makes the folder, or gives an existing one these attributes; anything else at `path` is replaced. */
  | { readonly op: 'dir'; readonly path: ImagePath; readonly attributes: Attributes }
  /** Makes the folder only where nothing lies at `path`; an existing folder, or link to one, keeps its attributes. */
  | { readonly op: 'ensureDir'; readonly path: ImagePath; readonly attributes: Attributes }
  /** Makes or replaces a regular file. `content` is the bytes, or a file on the host whose bytes are copied. */
  | {
      readonly op: 'file';
      readonly path: ImagePath;
      readonly attributes: Attributes;
      readonly content: FileContent;
    }
  | {
      readonly op: 'symlink';
      readonly path: ImagePath;
      readonly attributes: Attributes;
      readonly target: string;
    }
  /** A second name for the file at `target` (resolved inside the tree). */
  | { readonly op: 'hardlink'; readonly path: ImagePath; readonly target: ImagePath }
  | {
      readonly op: 'node';
      readonly path: ImagePath;
      readonly attributes: Attributes;
      readonly type: Extract<FileType, 'char' | 'block' | 'fifo' | 'socket'>;
      readonly device: { readonly major: number; readonly minor: number };
    }
  /** Removes what lies at `path`, with all below it; nothing there is no error. */
  | { readonly op: 'remove'; readonly path: ImagePath }
  /** Removes everything in the folder that was not made by this same call. */
  | { readonly op: 'clear'; readonly path: ImagePath };

export type FileContent =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** `size` bytes in chunks; a stream that ends early or late is an error. Holes are made of long runs of zeros. */
  | { readonly kind: 'stream'; readonly size: number; readonly chunks: AsyncIterable<Uint8Array> }
  /** The last part of `path` is not followed where it is a symlink. */
  | { readonly kind: 'host'; readonly path: HostPath };

/**
 * What Node has no calls for, done in bulk by the native program: one process per call, never one per file.
 * Both methods throw `MachineError` (`disk-full` for ENOSPC/EDQUOT, `tree-io` for the rest, naming path and errno).
 */
export interface TreeOps {
  /**
   * Applies `ops` in order to the tree that `root` describes, mounted privately for the time of the call. Times of
   * folders are set last, so that they hold. On error or abort the tree is left half-changed: callers discard it.
   */
  apply(root: RootMount, ops: Iterable<TreeOp> | AsyncIterable<TreeOp>, signal?: AbortSignal): Promise<void>;
  /**
   * Lists a diff folder in OverlayFS form (`userXattrs` as in RootMount) as changes in path order: whiteouts and opaque
   * folders become their changes, `*.overlay.*` attributes are left out, hard links are found by inode.
   */
  scanDiff(
    folder: HostPath,
    options: { readonly userXattrs: boolean },
    signal?: AbortSignal,
  ): Promise<Change[]>;
  /** Lists every entry of a plain folder (the root itself first, path `''`) in path order, on one file system. */
  scanTree(folder: HostPath, signal?: AbortSignal): Promise<Entry[]>;
  /** Removes folders with all below them, whatever their modes; what does not exist is no error. */
  removeAll(folders: readonly HostPath[]): Promise<void>;
}

/** Part of a layer's tar. */
export type TarPiece =
  /** Bytes as they are, good until the next piece is asked for. */
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** The content of a regular file, and zeros up to the end of its last block. */
  | { readonly kind: 'file'; readonly path: ImagePath; readonly size: number };

export interface HashedTar {
  readonly digest: Digest;
  readonly size: number;
}

/**
 * SHA-256 of a tar whose files lie in `folders`, read and hashed by the native program beside this process.
 *
 * @throws MachineError `layer-source-changed` where a file is not the regular file of its size; what `pieces` throws.
 */
export type HashTar = (
  folders: DiffFolders,
  pieces: Iterable<TarPiece>,
  signal?: AbortSignal,
) => Promise<HashedTar>;
