import type { Digest, Entry, ImagePath, Time, Tree } from '../../core/index.ts';

/**
 * The times that copied files get. A file that lies where the last copy of the same step put one, with the same type and bytes,
 * keeps the time that it had there; any other has the time of its source. A fresh checkout, which has new
 * times for everything, then changes nothing that a later step could see, while an edited file is still newer than what
 * was built from it.
 */
export class StickyTimes {
  /** The digests of the copied files by where they went, as far as they were asked for. */
  readonly digests = new Map<ImagePath, Digest>();
  readonly #previous: readonly Tree[];

  /** @param previous the diffs of earlier copies; the first one that has the same file decides. */
  constructor(previous: readonly Tree[]) {
    this.#previous = previous;
  }

  /** @param file an entry of `tree` and where it is copied to. */
  async timeOf(file: {
    readonly entry: Entry;
    readonly tree: Tree;
    readonly target: ImagePath;
  }): Promise<Time> {
    const { entry, tree, target } = file;
    const digest = entry.type === 'file' ? await tree.digest(entry.path) : undefined;
    if (digest !== undefined) this.digests.set(target, digest);
    if (entry.type === 'dir') return entry.mtime;
    for (const previous of this.#previous) {
      const before = await previous.lstat(target);
      if (before === undefined || before.type !== entry.type || before.size !== entry.size) continue;
      if (before.linkTarget !== entry.linkTarget) continue;
      if (digest === undefined || (await previous.digest(target)) === digest) return before.mtime;
    }
    return entry.mtime;
  }
}
