import {
  comparePaths,
  type Digest,
  type Entry,
  type HostPath,
  type ImagePath,
  joinHost,
  parentPath,
  ROOT_PATH,
  type Tree,
} from '../core/index.ts';
import type { DiffIndex, Verdict } from './diff-index.ts';

/** One diff of a stack, as the merged view needs it. */
export interface TreeLayer {
  readonly folder: HostPath;
  index(): Promise<DiffIndex>;
  /** The root folder as a mount of the stack shows it. */
  root(): Promise<Entry>;
  /** The digest of the regular file at `path` of this diff, remembered. */
  digest(path: ImagePath): Promise<Digest>;
}

interface Loaded {
  readonly layer: TreeLayer;
  readonly index: DiffIndex;
}

interface Found {
  readonly loaded: Loaded;
  readonly entry: Entry;
}

/**
 * The merged view of a stack of diffs, read from their manifests: the look-up rules of OverlayFS (the kernel's
 * Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories", "Multiple lower layers").
 */
export class MergedTree implements Tree {
  readonly #layers: readonly TreeLayer[];
  readonly #emptyRoot: Entry;
  #loaded: Promise<readonly Loaded[]> | undefined;
  /** Per folder, the diffs that show through in it, topmost first; empty where no folder lies. */
  readonly #folders = new Map<ImagePath, readonly Loaded[]>();

  /** @param layers topmost first. @param emptyRoot the root folder where there are no diffs. */
  constructor(layers: readonly TreeLayer[], emptyRoot: Entry) {
    this.#layers = layers;
    this.#emptyRoot = emptyRoot;
  }

  async lstat(path: ImagePath): Promise<Entry | undefined> {
    if (path === ROOT_PATH) return this.#root();
    return (await this.#present(path))?.entry;
  }

  async list(path: ImagePath): Promise<readonly Entry[]> {
    const loaded = await this.#load();
    const names = new Map<ImagePath, Found | undefined>();
    for (const one of this.#folder(loaded, path)) {
      for (const child of one.index.children(path)) {
        if (!names.has(child)) names.set(child, foundIn(one, one.index.verdict(child)));
      }
    }
    const entries: Entry[] = [];
    for (const found of names.values()) {
      if (found !== undefined) entries.push(this.#withLink(loaded, found).entry);
    }
    return entries.sort((a, b) => comparePaths(a.path, b.path));
  }

  async digest(path: ImagePath): Promise<Digest> {
    const { loaded, entry } = await this.#file(path);
    return loaded.layer.digest(entry.path);
  }

  async hostPath(path: ImagePath): Promise<HostPath> {
    const { loaded, entry } = await this.#file(path);
    return joinHost(loaded.layer.folder, entry.path);
  }

  async #root(): Promise<Entry> {
    const [top] = this.#layers;
    return top === undefined ? this.#emptyRoot : top.root();
  }

  #load(): Promise<readonly Loaded[]> {
    this.#loaded ??= Promise.all(this.#layers.map(async (layer) => ({ layer, index: await layer.index() })));
    return this.#loaded;
  }

  async #present(path: ImagePath): Promise<Found | undefined> {
    const loaded = await this.#load();
    const found = this.#find(loaded, path);
    return found === undefined ? undefined : this.#withLink(loaded, found);
  }

  async #file(path: ImagePath): Promise<Found> {
    const found = await this.#present(path);
    if (found?.entry.type !== 'file') throw new Error(`no regular file in the snapshot: ${path}`);
    return found;
  }

  #find(loaded: readonly Loaded[], path: ImagePath): Found | undefined {
    for (const one of this.#folder(loaded, parentPath(path))) {
      const verdict = one.index.verdict(path);
      if (verdict !== undefined) return foundIn(one, verdict);
    }
    return undefined;
  }

  #folder(loaded: readonly Loaded[], path: ImagePath): readonly Loaded[] {
    if (path === ROOT_PATH) return loaded;
    const known = this.#folders.get(path);
    if (known !== undefined) return known;
    const shown: Loaded[] = [];
    for (const one of this.#folder(loaded, parentPath(path))) {
      const verdict = one.index.verdict(path);
      if (verdict === undefined) continue;
      if (verdict.kind === 'whiteout' || verdict.entry.type !== 'dir') break;
      shown.push(one);
      if (one.index.isOpaque(path)) break;
    }
    this.#folders.set(path, shown);
    return shown;
  }

  /** Of the names of a file only those still count that this stack shows. */
  #withLink(loaded: readonly Loaded[], found: Found): Found {
    const { entry } = found;
    if (entry.hardlinkTo === undefined) return found;
    const names = found.loaded.index.linksOf(entry.hardlinkTo);
    const first = names.find((name) => this.#find(loaded, name)?.loaded === found.loaded) ?? entry.path;
    if (first === entry.hardlinkTo) return found;
    const { hardlinkTo: _, ...rest } = entry;
    return { loaded: found.loaded, entry: first === entry.path ? rest : { ...rest, hardlinkTo: first } };
  }
}

function foundIn(loaded: Loaded, verdict: Verdict | undefined): Found | undefined {
  return verdict?.kind === 'entry' ? { loaded, entry: verdict.entry } : undefined;
}
