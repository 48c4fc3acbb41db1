import {
  type Digest,
  type Entry,
  type HostPath,
  type ImagePath,
  parentPath,
  ROOT_PATH,
} from '../core/index.ts';
import type { DiffIndex, Verdict } from './diff-index.ts';
import type { FolderFacts } from './folder-facts.ts';

/** One diff of a stack, as the merged view needs it. */
export interface TreeLayer {
  /** Where the content of the regular file at `path` of this diff lies. */
  place(path: ImagePath): Promise<HostPath>;
  index(): Promise<DiffIndex>;
  /** The root folder as the diff leaves it; undefined where the diff does not change it. */
  root(): Promise<Entry | undefined>;
  /** The digest of the regular file at `path` of this diff, remembered. */
  digest(path: ImagePath): Promise<Digest>;
  /** The same of `file`, an entry of this diff's index, where it is in memory. */
  knownDigest(file: Entry): Digest | undefined;
  /** What the diff says, folder by folder; undefined where that was not written down. */
  folders(): FolderFacts | undefined;
}

export interface LoadedLayer {
  readonly layer: TreeLayer;
  readonly index: DiffIndex;
}

/** What decides on a name, and the diff that says so. */
export interface Decision {
  readonly loaded: LoadedLayer;
  readonly verdict: Verdict;
}

/** A name that lies in the view. */
export interface Found {
  readonly loaded: LoadedLayer;
  readonly entry: Entry;
}

/** What shows through in a folder. */
export interface ShownFolder {
  /** The diffs that do, topmost first; empty where no folder lies. */
  readonly layers: readonly LoadedLayer[];
  /** Whether something at this very path (not above it) hides what lies below the diffs in `layers`. */
  readonly cut: boolean;
}

/**
 * The merged view of a stack of diffs whose indexes are in memory, by the look-up rules of OverlayFS (the kernel's
 * Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories", "Multiple lower layers"). A mark on the root folder
 * itself hides nothing: the kernel does not look at it.
 */
export class MergedView {
  readonly #layers: readonly LoadedLayer[];
  readonly #folders = new Map<ImagePath, ShownFolder>();
  /** The folder that was asked for last: paths mostly come in order. */
  #last: { readonly path: ImagePath; readonly shown: ShownFolder };

  /** Whether no diff holds anything but names without extended attributes. */
  get isPlain(): boolean {
    return this.#layers.every(({ index }) => index.isPlain);
  }

  /** @param layers topmost first; the same diff may come again, the topmost decides. */
  constructor(layers: readonly LoadedLayer[]) {
    this.#layers = layers;
    this.#last = { path: ROOT_PATH, shown: { layers, cut: false } };
    this.#folders.set(ROOT_PATH, this.#last.shown);
  }

  static async load(layers: readonly TreeLayer[]): Promise<MergedView> {
    return new MergedView(
      await Promise.all(layers.map(async (layer) => ({ layer, index: await layer.index() }))),
    );
  }

  /** The topmost word on `path`, which is not the root; undefined where no diff that shows through says anything. */
  decide(path: ImagePath): Decision | undefined {
    if (this.#layers.length === 0) return undefined;
    for (const loaded of this.#folderOf(path).layers) {
      const verdict = loaded.index.verdict(path);
      if (verdict !== undefined) return { loaded, verdict };
    }
    return undefined;
  }

  #folderOf(path: ImagePath): ShownFolder {
    const last = this.#last;
    if (path.lastIndexOf('/') === last.path.length && path.startsWith(last.path)) return last.shown;
    const folder = parentPath(path);
    const shown = this.folder(folder);
    this.#last = { path: folder, shown };
    return shown;
  }

  /** Whether any diff says anything of `path`, shown or not, or of a folder above it that it is none. */
  isMentioned(path: ImagePath): boolean {
    return this.#layers.some(({ index }) => {
      if (index.verdict(path) !== undefined) return true;
      for (let at = parentPath(path); at !== ROOT_PATH; at = parentPath(at)) {
        const verdict = index.verdict(at);
        if (verdict !== undefined && (verdict.kind !== 'entry' || verdict.entry.type !== 'dir')) return true;
      }
      return false;
    });
  }

  /** What lies at `path`, which is not the root. */
  find(path: ImagePath): Found | undefined {
    return foundIn(this.decide(path));
  }

  /** The topmost word on each name right below `path`, in no order. */
  names(path: ImagePath): ReadonlyMap<ImagePath, Decision> {
    const names = new Map<ImagePath, Decision>();
    for (const loaded of this.folder(path).layers) {
      for (const child of loaded.index.children(path)) {
        if (names.has(child)) continue;
        const verdict = loaded.index.verdict(child);
        if (verdict !== undefined) names.set(child, { loaded, verdict });
      }
    }
    return names;
  }

  folder(path: ImagePath): ShownFolder {
    const known = this.#folders.get(path);
    if (known !== undefined) return known;
    const layers: LoadedLayer[] = [];
    let cut = false;
    for (const loaded of this.folder(parentPath(path)).layers) {
      const verdict = loaded.index.verdict(path);
      if (verdict === undefined) continue;
      cut = verdict.kind === 'whiteout' || verdict.entry.type !== 'dir';
      if (cut) break;
      layers.push(loaded);
      cut = loaded.index.isOpaque(path);
      if (cut) break;
    }
    const shown = { layers, cut };
    this.#folders.set(path, shown);
    return shown;
  }

  /** The entry of `found` with its hard link told by the first name that the view shows; absent for that name itself. */
  entryOf(found: Found): Entry {
    const { loaded, entry } = found;
    if (entry.hardlinkTo === undefined) return entry;
    const names = loaded.index.linksOf(entry.hardlinkTo);
    const first = names.find((name) => this.#shows(name, loaded)) ?? entry.path;
    if (first === entry.hardlinkTo) return entry;
    const { hardlinkTo: _, ...rest } = entry;
    return first === entry.path ? rest : { ...rest, hardlinkTo: first };
  }

  /** All names of files that have several in the diff that they come from, shown or not. */
  linkedNames(): readonly ImagePath[] {
    return this.#layers.flatMap(({ index }) => index.linkedNames());
  }

  /** How many names of the file that `found` is the view shows; 1 for a folder. */
  linksOf({ loaded, entry }: Found): number {
    const names = loaded.index.linksOf(entry.hardlinkTo ?? entry.path);
    if (names.length === 1) return 1;
    return names.filter((name) => this.#shows(name, loaded)).length;
  }

  #shows(name: ImagePath, loaded: LoadedLayer): boolean {
    return this.decide(name)?.loaded === loaded;
  }
}

export function foundIn(decision: Decision | undefined): Found | undefined {
  if (decision?.verdict.kind !== 'entry') return undefined;
  return { loaded: decision.loaded, entry: decision.verdict.entry };
}

/** The root folder of a stack, topmost first: as the topmost diff that changes it leaves it, else `bottom`. */
export async function rootOf(layers: readonly TreeLayer[], bottom: Entry): Promise<Entry> {
  for (const layer of layers) {
    const root = await layer.root();
    if (root !== undefined) return root;
  }
  return bottom;
}
