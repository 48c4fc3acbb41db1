import type { HostPath, ImagePath } from './path.ts';
import type { StatRow } from './stat-row.ts';

/** Something on the machine, outside of the store, that a build looked at. */
export type HostFact =
  /** A regular file or a folder that was opened by this name, symlinks followed. */
  | { readonly kind: 'file'; readonly path: HostPath; readonly row: StatRow }
  | { readonly kind: 'absent'; readonly path: HostPath }
  | LookedTree;

/** Folders that were listed, and what lies in them. */
export interface LookedTree {
  readonly kind: 'tree';
  /** As it was named. */
  readonly path: HostPath;
  /** Where that led. */
  readonly real: HostPath;
  readonly folders: readonly LookedRows[];
}

/** A folder whose names were read, and what was looked at in it. */
export interface LookedRows {
  /** From the tree's folder, which is `''`. */
  readonly path: ImagePath;
  /** The folder itself, before its names were read. */
  readonly row: StatRow;
  readonly names: readonly string[];
  /** A row for each name. */
  readonly rows: Buffer;
}

/** Something in the store that an answer rests on. Paths are relative to the store's folder, or absolute. */
export type StoreFact =
  | { readonly kind: 'content'; readonly path: string; readonly bytes: Uint8Array }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  /** What lstat(2) says. */
  | { readonly kind: 'stored'; readonly path: string; readonly row: StatRow };
