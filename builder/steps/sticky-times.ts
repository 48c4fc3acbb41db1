import type { Digest, Entry, ImagePath, Time, Tree, TreeOp } from '../../core/index.ts';

/**
 * The times that copied files get. A file that lies where the last copy of the same step put one, with the same type and bytes,
 * keeps the time that it had there; any other has the time of its source. A fresh checkout, which has new
 * times for everything, then changes nothing that a later step could see, while an edited file is still newer than what
 * was built from it.
 */
export class StickyTimes {
  /** The digests of the files that {@link following} saw copied, by where they went. */
  readonly digests = new Map<ImagePath, Digest>();
  #asked: { readonly target: ImagePath; readonly digest: Digest } | undefined;
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
  async timeOf(file: {
    readonly entry: Entry;
    readonly tree: Tree;
    readonly target: ImagePath;
  }): Promise<Time> {
    const { entry, tree, target } = file;
    const digest =
      entry.type === 'file'
        ? (this.#learnt.get(tree)?.get(entry.path) ?? (await tree.digest(entry.path)))
        : undefined;
    this.#asked = digest === undefined ? undefined : { target, digest };
    if (entry.type === 'dir') return entry.mtime;
    for (const previous of this.#previous) {
      const before = await previous.lstat(target);
      if (before === undefined || before.type !== entry.type || before.size !== entry.size) continue;
      if (before.linkTarget !== entry.linkTarget) continue;
      if (sameTime(before.mtime, entry.mtime)) return entry.mtime;
      if (digest === undefined || (await previous.digest(target)) === digest) return before.mtime;
    }
    return entry.mtime;
  }

  /** `ops` with an eye on which digests hold: a name that is made again has the digest of what was made last. */
  async *following(ops: AsyncIterable<TreeOp>): AsyncGenerator<TreeOp> {
    for await (const op of ops) {
      this.follow(op);
      yield op;
    }
  }

  /** The same for one operation at a time. */
  follow(op: TreeOp): void {
    const asked = this.#asked;
    this.#asked = undefined;
    if (op.op === 'file' && asked?.target === op.path) this.digests.set(op.path, asked.digest);
    else this.digests.delete(op.path);
  }
}

function sameTime(a: Time, b: Time): boolean {
  return a.sec === b.sec && a.nsec === b.nsec;
}
