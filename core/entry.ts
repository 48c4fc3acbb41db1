import type { ImagePath } from './path.ts';

export type FileType = 'file' | 'dir' | 'symlink' | 'char' | 'block' | 'fifo' | 'socket';

/** A moment as Linux keeps it: whole seconds since 1970 (may be negative) and nanoseconds 0..999_999_999. */
export interface Time {
  readonly sec: number;
  readonly nsec: number;
}

/**
 * The time that folders get which no source gives one: 1980-01-02, since zip archives hold none before 1980 in any time zone.
 * A folder's own time moves with every name that comes or goes in it; if steps could see that, each would depend on names
 * that it never looked at.
 */
export const FOLDER_TIME: Time = { sec: 315_619_200, nsec: 0 };

/** One name in a tree of files with what `lstat` and `listxattr` say of it. */
export interface Entry {
  readonly path: ImagePath;
  readonly type: FileType;
  /** Permission, set-id and sticky bits: 0..0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content; 0 for everything but files. */
  readonly size: number;
  readonly mtime: Time;
  /** Target of a symlink, as stored. */
  readonly linkTarget?: string;
  /** Another path of the same tree, earlier in path order, that is the same file (a hard link to it). */
  readonly hardlinkTo?: ImagePath;
  /** Major and minor number of a device node. */
  readonly device?: { readonly major: number; readonly minor: number };
  /** Extended attributes by full name (`security.capability`, `user.note`); absent means none. */
  readonly xattrs?: Readonly<Record<string, Uint8Array>>;
}

export function isSameTime(a: Time, b: Time): boolean {
  return a.sec === b.sec && a.nsec === b.nsec;
}

/** The mode as the kernel shows it: it gives every symlink 0777 and never looks at that (symlink(7)). */
export function shownMode({ type, mode }: Pick<Entry, 'type' | 'mode'>): number {
  return type === 'symlink' ? 0o777 : mode;
}

/**
 * One line of a diff (OCI image-spec, layer.md, "Change Types"). `set` adds or replaces a name; `whiteout` says that a
 * name of the parent is gone; `opaque` says that everything which the parent holds in that folder is gone.
 * A diff is a list of changes in path order; an `opaque` comes right after the `set` of its folder.
 */
export type Change =
  | { readonly kind: 'set'; readonly entry: Entry }
  | { readonly kind: 'whiteout'; readonly path: ImagePath }
  | { readonly kind: 'opaque'; readonly path: ImagePath };

export function changePath(change: Change): ImagePath {
  return change.kind === 'set' ? change.entry.path : change.path;
}
