import {
  comparePaths,
  type Digest,
  type Entry,
  type HostPath,
  type ImagePath,
  ROOT_PATH,
  type Soon,
  soon,
  type Tree,
} from '../core/index.ts';
import { type Found, foundIn, MergedView, rootOf, type TreeLayer } from './merged-view.ts';

/** The merged view of a stack of diffs as a tree, read from their manifests when it is first asked. */
export class MergedTree implements Tree {
  readonly #layers: readonly TreeLayer[];
  readonly #emptyRoot: Entry;
  #view: Soon<MergedView> | undefined;

  /** @param layers topmost first. @param emptyRoot the root folder where there are no diffs. */
  constructor(layers: readonly TreeLayer[], emptyRoot: Entry) {
    this.#layers = layers;
    this.#emptyRoot = emptyRoot;
  }

  lstat(path: ImagePath): Soon<Entry | undefined> {
    if (path === ROOT_PATH) return this.#root();
    return soon(this.#load(), (view) => {
      const found = view.find(path);
      return found === undefined ? undefined : view.entryOf(found);
    });
  }

  async list(path: ImagePath): Promise<readonly Entry[]> {
    const view = await this.#load();
    const entries: Entry[] = [];
    for (const decision of view.names(path).values()) {
      const found = foundIn(decision);
      if (found !== undefined) entries.push(view.entryOf(found));
    }
    return entries.sort((a, b) => comparePaths(a.path, b.path));
  }

  async digest(path: ImagePath): Promise<Digest> {
    const { loaded, entry } = await this.#file(path);
    return loaded.layer.digest(entry.path);
  }

  async hostPath(path: ImagePath): Promise<HostPath> {
    const { loaded, entry } = await this.#file(path);
    return loaded.layer.place(entry.path);
  }

  #root(): Promise<Entry> {
    return rootOf(this.#layers, this.#emptyRoot);
  }

  #load(): Soon<MergedView> {
    this.#view ??= MergedView.load(this.#layers).then((view) => {
      this.#view = view;
      return view;
    });
    return this.#view;
  }

  async #file(path: ImagePath): Promise<Found> {
    const found = path === ROOT_PATH ? undefined : (await this.#load()).find(path);
    if (found?.entry.type !== 'file') throw new Error(`no regular file in the snapshot: ${path}`);
    return found;
  }
}
