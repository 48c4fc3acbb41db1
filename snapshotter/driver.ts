import type { Change, Entry, HostPath, ImagePath, RootMount } from '../core/index.ts';
import type { MergedTree } from './merged-tree.ts';

/** The stack that a driver works on. */
export interface Stack {
  /** Diff folders, topmost first; empty for no parent. */
  readonly lowers: readonly HostPath[];
  readonly tree: MergedTree;
  /** Its root folder. */
  readonly root: Entry;
}

/** A stack whose upper diffs are to be told apart from its base when they are read. */
export interface TracedStack {
  /** Data folders of the diffs above the base, topmost first; at least one. */
  readonly traced: readonly HostPath[];
  /** Diff folders of the base, topmost first. */
  readonly lowers: readonly HostPath[];
  /** Whether one of the traced diffs sets `path`. */
  readonly sets: (path: ImagePath) => Promise<boolean>;
}

/** How a stack becomes a writable tree, and a written tree a diff. */
export interface Driver {
  readonly name: 'overlay' | 'copy';
  /**
   * Fills the empty folder `home` with what a writable tree on top of `stack` needs.
   *
   * @param traced the same stack in two parts, for a driver that can show these apart.
   */
  prepare(home: HostPath, stack: Stack, traced?: TracedStack): Promise<Writable>;
  /**
   * A tree that can be read; `home` is an empty folder for the time that it is needed.
   *
   * @param traced data folders of all its diffs, topmost first, for a driver that can have their reading told.
   */
  mountable(home: HostPath, stack: Stack, traced?: readonly HostPath[]): Promise<RootMount>;
}

export interface Writable {
  readonly root: RootMount;
  /**
   * Leaves the changes in `home`/fs in OverlayFS form, and lists them in path order, the root folder first whether or not
   * it was changed. Nobody may look at the mounted tree any more.
   *
   * @param scanned what the upper folder of an overlay holds, where it was listed since the last change.
   */
  capture(scanned?: readonly Change[]): Promise<readonly Change[]>;
  /** Removes `home`, after `fs` has been taken out of it: now, or at some time before the snapshotter is closed. */
  cleanUp(): Promise<void>;
}
