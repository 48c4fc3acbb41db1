import type { Change, Entry, HostPath, RootMount } from '../core/index.ts';
import type { MergedTree } from './merged-tree.ts';

/** The stack that a driver works on. */
export interface Stack {
  /** Diff folders, topmost first; empty for no parent. */
  readonly lowers: readonly HostPath[];
  readonly tree: MergedTree;
  /** Its root folder. */
  readonly root: Entry;
}

/** How a stack becomes a writable tree, and a written tree a diff. */
export interface Driver {
  readonly name: 'overlay' | 'copy';
  /** Fills the empty folder `home` with what a writable tree on top of `stack` needs. */
  prepare(home: HostPath, stack: Stack): Promise<Writable>;
  /** A tree that can be read; `home` is an empty folder for the time that it is needed. */
  mountable(home: HostPath, stack: Stack): Promise<RootMount>;
}

export interface Writable {
  readonly root: RootMount;
  /**
   * Leaves the changes in `home`/fs in OverlayFS form, and lists them in path order, the root folder first whether or not
   * it was changed. Nobody may have the tree mounted.
   */
  capture(): Promise<readonly Change[]>;
  /** Removes `home`, after `fs` has been taken out of it. */
  cleanUp(): Promise<void>;
}
