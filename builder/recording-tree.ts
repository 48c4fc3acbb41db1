import {
  comparePaths,
  type Digest,
  type Entry,
  type HostPath,
  type ImagePath,
  type Observation,
  parentPath,
  ROOT_PATH,
  type Soon,
  soon,
  type Tree,
  USE,
} from '../core/index.ts';

/**
 * A tree that remembers what it was asked: what varve's own steps (COPY, ADD, WORKDIR) observe of their parent.
 *
 * Of a folder its mode, owner and attributes count, since the overlay takes them over into the diff as soon as something
 * below it changes; of a symlink its target; of anything else that it is there, of that type, as long as nobody reads it.
 */
export class RecordingTree implements Tree {
  readonly #tree: Tree;
  readonly #uses = new Map<ImagePath, number>();
  readonly #absent = new Set<ImagePath>();
  /** A folder that is absent, or lies in one that is. */
  #gone: ImagePath | undefined;

  constructor(tree: Tree) {
    this.#tree = tree;
  }

  lstat(path: ImagePath): Soon<Entry | undefined> {
    // That says all: a copy asks of tens of thousands of names in one new folder.
    if (this.#isBelowAbsent(path)) return undefined;
    return soon(this.#tree.lstat(path), (entry) => {
      this.#note(path, entry);
      return entry;
    });
  }

  async list(path: ImagePath): Promise<readonly Entry[]> {
    const entries = await this.#tree.list(path);
    this.#add(path, USE.LISTING);
    for (const entry of entries) this.#note(entry.path, entry);
    return entries;
  }

  digest(path: ImagePath): Promise<Digest> {
    this.#add(path, USE.CONTENT);
    return this.#tree.digest(path);
  }

  hostPath(path: ImagePath): Soon<HostPath> {
    this.#add(path, USE.CONTENT);
    return this.#tree.hostPath(path);
  }

  /** Notes a path that an operation changes, with all folders above it: the overlay copies those up. */
  touch(path: ImagePath): Soon<void> {
    if (this.#uses.has(path) || this.#isBelowAbsent(path)) return;
    return soon(this.lstat(path), () => (path === ROOT_PATH ? undefined : this.touch(parentPath(path))));
  }

  /** In path order. What lies below a path that is absent is absent too, and left out. */
  observations(): readonly Observation[] {
    return [...this.#uses]
      .filter(([path]) => path === ROOT_PATH || !this.#isBelowAbsent(path))
      .map(([path, uses]) => ({ path, uses }))
      .sort((a, b) => comparePaths(a.path, b.path));
  }

  #isBelowAbsent(path: ImagePath): boolean {
    const folder = parentPath(path);
    if (folder === this.#gone) return true;
    for (let at = folder; at !== ROOT_PATH; at = parentPath(at)) {
      if (!this.#absent.has(at)) continue;
      this.#gone = folder;
      return true;
    }
    return false;
  }

  #note(path: ImagePath, entry: Entry | undefined): void {
    if (entry === undefined) this.#absent.add(path);
    this.#add(path, entry?.type === 'dir' ? USE.METADATA : entry?.type === 'symlink' ? USE.TARGET : 0);
  }

  #add(path: ImagePath, uses: number): void {
    this.#uses.set(path, (this.#uses.get(path) ?? 0) | uses);
  }
}
