import {
  baseName,
  comparePaths,
  type Digest,
  type Entry,
  type ImagePath,
  type ObservedTree,
  type PathState,
  ROOT_PATH,
} from '../core/index.ts';
import type { Verdict } from './diff-index.ts';
import { foundIn, type LoadedLayer, MergedView, type TreeLayer } from './merged-view.ts';
import { type NamedDiffs, NamedStack } from './named-stack.ts';

export interface ObservedLayers {
  /** The upper diffs of a stack, topmost first. */
  readonly layers: readonly TreeLayer[];
  /** The root folder of the whole stack. */
  readonly root: Entry;
  /** Whether diffs lie below these: where none do, a whiteout is `absent` and no folder is opaque. */
  readonly hasBase: boolean;
  /** Absent: the tree is not compared with others. */
  readonly named?: NamedDiffs;
}

type Listed = ReturnType<ObservedTree['list']>[number];

const ABSENT: PathState = { kind: 'absent' };
const WHITEOUT: PathState = { kind: 'whiteout' };

/** Loads the manifests of the upper diffs of a stack; every look-up after that is in memory. */
export async function observeLayers(observed: ObservedLayers): Promise<ObservedTree> {
  return new LayersObserved(await MergedView.load(observed.layers), observed);
}

class LayersObserved implements ObservedTree {
  readonly #view: MergedView;
  readonly #root: PathState;
  readonly #hasBase: boolean;
  readonly stack?: NamedStack;

  constructor(view: MergedView, { root, hasBase, named }: ObservedLayers) {
    this.#view = view;
    if (named !== undefined) this.stack = new NamedStack(view, { root, hasBase, ...named });
    this.#root = { kind: 'present', entry: root, links: 1, opaque: false };
    this.#hasBase = hasBase;
  }

  get isPlain(): boolean {
    return this.#view.isPlain;
  }

  state(path: ImagePath): PathState {
    if (path === ROOT_PATH) return this.#root;
    const view = this.#view;
    const decision = view.decide(path);
    if (decision === undefined) return ABSENT;
    const found = foundIn(decision);
    if (found === undefined) return this.#hasBase ? WHITEOUT : ABSENT;
    if (found.entry.type !== 'dir') {
      return { kind: 'present', entry: view.entryOf(found), links: view.linksOf(found), opaque: false };
    }
    const opaque = this.#hasBase && view.folder(path).cut;
    return { kind: 'present', entry: found.entry, links: 1, opaque };
  }

  list(path: ImagePath): ReturnType<ObservedTree['list']> {
    const { layers } = this.#view.folder(path);
    const [only] = layers;
    if (only !== undefined && layers.length === 1) return this.#listOne(only, path);
    const names: Listed[] = [];
    for (const [child, { verdict }] of this.#view.names(path)) this.#add(names, child, verdict);
    return names.sort((a, b) => comparePaths(a.name, b.name));
  }

  /** What one diff alone says comes in order. */
  #listOne({ index }: LoadedLayer, folder: ImagePath): readonly Listed[] {
    const names: Listed[] = [];
    for (const child of index.children(folder)) {
      const verdict = index.verdict(child);
      if (verdict !== undefined) this.#add(names, child, verdict);
    }
    return names;
  }

  #add(names: Listed[], child: ImagePath, verdict: Verdict): void {
    const type = verdict.kind === 'whiteout' ? verdict.kind : verdict.entry.type;
    if (type !== 'whiteout' || this.#hasBase) names.push({ name: baseName(child), type });
  }

  digest(path: ImagePath): Digest | Promise<Digest> {
    const found = path === ROOT_PATH ? undefined : this.#view.find(path);
    if (found?.entry.type !== 'file') throw new Error(`no regular file in the observed diffs: ${path}`);
    const { layer } = found.loaded;
    return layer.knownDigest(found.entry) ?? layer.digest(found.entry.path);
  }
}
