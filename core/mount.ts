import type { HostPath, ImagePath } from './path.ts';

/** How the root of a sandbox, or a tree to be changed, comes about. Plain data: whoever needs it mounts it, privately. */
export type RootMount =
  | {
      readonly type: 'overlay';
      /**
       * Diff folders, topmost first; at least one, here or in `traced`. Each is in OverlayFS form (whiteouts as 0/0
       * character devices).
       */
      readonly lowers: readonly HostPath[];
      /**
       * Diffs above `lowers`, topmost first, whose reading is to be told: data folders with `fs` and `manifest`
       * (docs/on-disk-format.md). A sandbox has them shown by varve's own file server, and where that cannot be had it mounts
       * their `fs` like the other lowers. In a mounted tree the lowers below traced diffs are empty folders: all of it is traced.
       */
      readonly traced?: readonly HostPath[];
      /** Present when the tree can be written to. `work` is an empty folder on the same file system. */
      readonly writable?: { readonly upper: HostPath; readonly work: HostPath };
      /** True: `user.overlay.*` attributes, as unprivileged mounts need; false: `trusted.overlay.*`. */
      readonly userXattrs: boolean;
    }
  | { readonly type: 'directory'; readonly path: HostPath; readonly readonly: boolean };

/** A mount on top of a sandbox's root. `target` is resolved inside the root. */
export type Mount =
  | {
      readonly type: 'bind';
      readonly source: HostPath;
      readonly target: ImagePath;
      readonly readonly: boolean;
    }
  | {
      readonly type: 'tmpfs';
      readonly target: ImagePath;
      readonly sizeBytes?: number;
      /** Absent: that of the folder that it covers, 1777 where there is none. */
      readonly mode?: number;
      /** Device nodes in it open as they do elsewhere in the sandbox; absent: none does. */
      readonly devices?: boolean;
      readonly readonly?: boolean;
    }
  /** A read-only file that lies in memory only, on no disk of the machine: secrets. */
  | {
      readonly type: 'file';
      readonly target: ImagePath;
      readonly content: Uint8Array;
      readonly mode: number;
      readonly uid: number;
      readonly gid: number;
    }
  | {
      readonly type: 'tree';
      readonly root: RootMount;
      /** What of the tree is mounted, symlinks resolved in it; absent: all. */
      readonly source?: ImagePath;
      readonly target: ImagePath;
      readonly readonly: boolean;
    };
