import {
  type Digest,
  type Entry,
  type ImagePath,
  isSameTime,
  type Soon,
  soon,
  type Time,
  type Tree,
  type TreeOp,
} from '../../core/index.ts';

interface CopiedFile {
  readonly entry: Entry;
  readonly tree: Tree;
  readonly target: ImagePath;
}

/**
 * The times that copied files get. A file that lies where the last copy of the same step put one, with the same type and bytes,
 * keeps the time that it had there; any other has the time of its source. A fresh checkout, which has new
 * times for everything, then changes nothing that a later step could see, while an edited file is still newer than what
 * was built from it.
 */
export class StickyTimes {
  /** The digests of the files that {@link following} saw copied, by where they went. */
  readonly digests = new Map<ImagePath, Digest>();
  /** Of files that no operation was seen of yet: their digests, by where they go. */
  readonly #asked = new Map<ImagePath, Digest>();
  readonly #previous: readonly Tree[];
  readonly #learnt = new Map<Tree, Map<ImagePath, Digest>>();

  /** @param previous the diffs of earlier copies; the first one that has the same file decides. */
  constructor(previous: readonly Tree[]) {
    this.#previous = previous;
  }

  /** Asks for the digests of files that are about to be copied, all at once. */
  async learn(tree: Tree, entries: readonly Entry[]): Promise<void> {
    if (tree.digests === undefined) return;
    const paths = entries.flatMap(({ type, path }) => (type === 'file' ? [path] : []));
    const digests = await tree.digests(paths);
    const learnt = this.#learnt.get(tree) ?? new Map<ImagePath, Digest>();
    this.#learnt.set(tree, learnt);
    for (const [at, path] of paths.entries()) {
      const digest = digests[at];
      if (digest !== undefined) learnt.set(path, digest);
    }
  }

  /** @param file an entry of `tree` and where it is copied to. */
  timeOf(file: CopiedFile): Soon<Time> {
    const { entry, tree, target } = file;
    const digest =
      entry.type === 'file'
        ? (this.#learnt.get(tree)?.get(entry.path) ?? tree.digest(entry.path))
        : undefined;
    return soon(digest, (known) => {
      if (known === undefined) this.#asked.delete(target);
      else this.#asked.set(target, known);
      return entry.type === 'dir' ? entry.mtime : this.#timeIn(this.#previous, file, known);
    });
  }

  #timeIn([previous, ...others]: readonly Tree[], file: CopiedFile, digest: Digest | undefined): Soon<Time> {
    const { entry, target } = file;
    if (previous === undefined) return entry.mtime;
    return soon(previous.lstat(target), (before) => {
      const isAlike =
        before !== undefined &&
        before.type === entry.type &&
        before.size === entry.size &&
        before.linkTarget === entry.linkTarget;
      if (!isAlike) return this.#timeIn(others, file, digest);
      if (isSameTime(before.mtime, entry.mtime)) return entry.mtime;
      if (digest === undefined) return before.mtime;
      return soon(previous.digest(target), (was) =>
        was === digest ? before.mtime : this.#timeIn(others, file, digest),
      );
    });
  }

  /** `ops` with an eye on which digests hold: a name that is made again has the digest of what was made last. */
  async *following(ops: AsyncIterable<readonly TreeOp[]>): AsyncGenerator<TreeOp> {
    for await (const some of ops) {
      for (const op of some) {
        this.follow(op);
        yield op;
      }
    }
  }

  /** The same for one operation at a time. */
  follow(op: TreeOp): void {
    const asked = this.#asked.get(op.path);
    this.#asked.delete(op.path);
    if (op.op === 'file' && asked !== undefined) this.digests.set(op.path, asked);
    else this.digests.delete(op.path);
  }
}
