import type { Canonical, ObservedQuery } from '../../cache/index.ts';
import {
  baseName,
  comparePaths,
  type Digest,
  type Entry,
  type ImagePath,
  mountedPath,
  type Observation,
  type ObservedTree,
  type PathState,
  parentPath,
  ROOT_PATH,
  type Snapshot,
  splitMounted,
  type TraceReport,
  type Tree,
} from '../../core/index.ts';
import type { BindMount, RunStep } from '../graph.ts';
import { type ContextSnapshotParts, entriesToLay } from './context-snapshot.ts';
import type { MountSource } from './mount-source.ts';
import type { FoundMounts } from './run-mounts.ts';

interface Bound {
  readonly mount: BindMount;
  readonly source: MountSource;
}

/** The binds of a step that it can only read: what it reads of them is told path by path, like what it reads of its root. */
export class BoundTrees {
  readonly #step: RunStep;
  readonly #parts: ContextSnapshotParts;
  readonly #bound: readonly Bound[];
  readonly #mounted = new Map<BindMount, Snapshot>();

  constructor(step: RunStep, { sources }: FoundMounts, parts: ContextSnapshotParts) {
    this.#step = step;
    this.#parts = parts;
    const isPlain = parts.snapshotter.driver === 'copy';
    const bound = [...sources].flatMap(([mount, source]) =>
      mount.type === 'bind' && mount.readonly && !isPlain ? [{ mount, source }] : [],
    );
    // Of two at one place one hides the other: observations could not be told apart.
    const isAlone = ({ mount }: Bound) =>
      bound.every((other) => other.mount === mount || other.mount.target !== mount.target);
    this.#bound = bound.filter(isAlone);
  }

  get isEmpty(): boolean {
    return this.#bound.length === 0;
  }

  has(mount: BindMount): boolean {
    return this.#bound.some((bound) => bound.mount === mount);
  }

  /** Takes note of what is mounted when the step runs: its files may have older times than the context has today. */
  mounts(mount: BindMount, snapshot: Snapshot): void {
    this.#mounted.set(mount, snapshot);
  }

  /**
   * The question in which the paths of these mounts stand for their digests. What a path leads to depends on where a mount's source lies,
   * symlinks resolved, so that is in the action.
   */
  async question(whole: ObservedQuery): Promise<ObservedQuery> {
    const { action, inputs, tree } = whole;
    const trees = new Map<ImagePath, Inside>();
    for (const { mount, source } of this.#bound) {
      trees.set(mount.target, { tree: await this.#tree(mount, source), path: source.path });
    }
    const binds: Canonical = this.#bound.map(({ mount, source }) => [mount.target, source.path]);
    const traced = new Set(this.#bound.map(({ source }) => source.input));
    return {
      action: { ...action, definition: { ...action.definition, binds } },
      inputs: inputs.filter((input) => !traced.has(input)),
      tree: new TreeWithMounts(tree, trees),
    };
  }

  async #tree(mount: BindMount, source: MountSource): Promise<ObservedTree> {
    const { snapshotter } = this.#parts;
    const mounted = this.#mounted.get(mount);
    if (mounted !== undefined) return snapshotter.observed(mounted, 0);
    if (source.standing !== undefined) return snapshotter.observed(source.standing.snapshot, 0);
    const place = { step: this.#step, mount, parts: this.#parts };
    return new EntriesObserved(await entriesToLay(source, place), source.tree);
  }

  /** What was read of all mounts; undefined where it is not known of some. */
  observations(traces: ReadonlyMap<string, TraceReport>): readonly Observation[] | undefined {
    const all: Observation[] = [];
    for (const { mount, source } of this.#bound) {
      const trace = traces.get(mount.target);
      if (trace?.kind !== 'traced') return undefined;
      for (const observation of trace.observations) {
        // What lies around the source is looked at on the way to it when it is mounted; the step sees nothing of it.
        const path = pathWithin(source.path, observation.path);
        if (path !== undefined) all.push({ ...observation, path: mountedPath(mount.target, path) });
      }
    }
    return all;
  }
}

/** `path` below `folder`, or undefined where it lies elsewhere. */
function pathWithin(folder: ImagePath, path: ImagePath): ImagePath | undefined {
  if (folder === ROOT_PATH) return path;
  if (path === folder) return ROOT_PATH;
  return path.startsWith(`${folder}/`) ? (path.slice(folder.length + 1) as ImagePath) : undefined;
}

/** A tree of which the part at `path` is mounted. */
interface Inside {
  readonly tree: ObservedTree;
  readonly path: ImagePath;
}

/** The root's tree, with those of mounts below the paths that {@link mountedPath} makes. */
class TreeWithMounts implements ObservedTree {
  readonly #root: ObservedTree;
  readonly #mounts: ReadonlyMap<ImagePath, Inside>;

  constructor(root: ObservedTree, mounts: ReadonlyMap<ImagePath, Inside>) {
    this.#root = root;
    this.#mounts = mounts;
  }

  get isPlain(): boolean {
    return this.#root.isPlain;
  }

  state(path: ImagePath): PathState {
    const at = this.#find(path);
    return at.tree.state(at.path);
  }

  list(path: ImagePath): ReturnType<ObservedTree['list']> {
    const at = this.#find(path);
    return at.tree.list(at.path);
  }

  digest(path: ImagePath): ReturnType<ObservedTree['digest']> {
    const at = this.#find(path);
    return at.tree.digest(at.path);
  }

  #find(path: ImagePath): Inside {
    const mounted = splitMounted(path);
    if (mounted === undefined) return { tree: this.#root, path };
    const mount = this.#mounts.get(mounted.target);
    if (mount === undefined) throw new Error(`an observation of what is not mounted: /${mounted.target}`);
    const whole = [mount.path, mounted.path].filter((part) => part !== ROOT_PATH).join('/');
    return { tree: mount.tree, path: whole as ImagePath };
  }
}

const ABSENT: PathState = { kind: 'absent' };

/** Entries of a tree as a snapshot of them alone would show them. */
class EntriesObserved implements ObservedTree {
  readonly isPlain = true;
  readonly #tree: Tree;
  readonly #entries: ReadonlyMap<ImagePath, Entry>;
  readonly #children = new Map<ImagePath, Entry[]>();

  /** @param entries in path order. */
  constructor(entries: readonly Entry[], tree: Tree) {
    this.#tree = tree;
    this.#entries = new Map(entries.map((entry) => [entry.path, entry]));
    for (const entry of entries) {
      if (entry.path === ROOT_PATH) continue;
      const folder = parentPath(entry.path);
      const siblings = this.#children.get(folder);
      if (siblings === undefined) this.#children.set(folder, [entry]);
      else siblings.push(entry);
    }
  }

  state(path: ImagePath): PathState {
    const entry = this.#entries.get(path);
    return entry === undefined ? ABSENT : { kind: 'present', entry, links: 1, opaque: false };
  }

  list(path: ImagePath): ReturnType<ObservedTree['list']> {
    const children = this.#children.get(path) ?? [];
    return children
      .map(({ path: child, type }) => ({ name: baseName(child), type }))
      .sort((a, b) => comparePaths(a.name, b.name));
  }

  digest(path: ImagePath): Promise<Digest> {
    return this.#tree.digest(path);
  }
}
