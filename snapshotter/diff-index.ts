import { type Change, changePath, type Entry, type ImagePath, parentPath } from '../core/index.ts';

/** What a diff says of one name. */
export type Verdict = { readonly kind: 'entry'; readonly entry: Entry } | { readonly kind: 'whiteout' };

const WHITEOUT: Verdict = { kind: 'whiteout' };

/** A diff's changes, to be asked by path. */
export class DiffIndex {
  readonly changes: readonly Change[];
  /** Of a patch: the names that lie in its own folder. */
  readonly own: ReadonlySet<ImagePath> | undefined;
  /** Nothing but names without extended attributes. */
  readonly isPlain: boolean;
  readonly #verdicts = new Map<ImagePath, Verdict>();
  readonly #opaque = new Set<ImagePath>();
  #children: Map<ImagePath, ImagePath[]> | undefined;
  #links: Map<ImagePath, ImagePath[]> | undefined;

  constructor(changes: readonly Change[], own?: ReadonlySet<ImagePath>) {
    this.changes = changes;
    this.own = own;
    this.isPlain = changes.every((change) => change.kind === 'set' && change.entry.xattrs === undefined);
    for (const change of changes) {
      if (change.kind === 'set')
        this.#verdicts.set(change.entry.path, { kind: 'entry', entry: change.entry });
      else if (change.kind === 'whiteout') this.#verdicts.set(change.path, WHITEOUT);
      else this.#opaque.add(change.path);
    }
  }

  verdict(path: ImagePath): Verdict | undefined {
    return this.#verdicts.get(path);
  }

  isOpaque(path: ImagePath): boolean {
    return this.#opaque.has(path);
  }

  /** The names right below `folder` that the diff sets or takes away, in the order of the changes. */
  children(folder: ImagePath): readonly ImagePath[] {
    this.#children ??= this.#indexChildren();
    return this.#children.get(folder) ?? [];
  }

  /** All names of the file that `first` is the first name of, in path order. */
  linksOf(first: ImagePath): readonly ImagePath[] {
    this.#links ??= this.#indexLinks();
    return this.#links.get(first) ?? [first];
  }

  /** All names of files that have several. */
  linkedNames(): readonly ImagePath[] {
    this.#links ??= this.#indexLinks();
    return [...this.#links.values()].flat();
  }

  #indexChildren(): Map<ImagePath, ImagePath[]> {
    const children = new Map<ImagePath, ImagePath[]>();
    let folder: string | undefined;
    let siblings: ImagePath[] = [];
    for (const change of this.changes) {
      const path = changePath(change);
      if (path === '' || change.kind === 'opaque') continue;
      // Mostly it lies in the folder of the one before.
      if (path.lastIndexOf('/') !== folder?.length || !path.startsWith(folder)) {
        const parent = parentPath(path);
        siblings = children.get(parent) ?? [];
        children.set(parent, siblings);
        folder = parent;
      }
      siblings.push(path);
    }
    return children;
  }

  #indexLinks(): Map<ImagePath, ImagePath[]> {
    const links = new Map<ImagePath, ImagePath[]>();
    for (const change of this.changes) {
      if (change.kind !== 'set' || change.entry.hardlinkTo === undefined) continue;
      const { path, hardlinkTo } = change.entry;
      const group = links.get(hardlinkTo);
      if (group === undefined) links.set(hardlinkTo, [hardlinkTo, path]);
      else group.push(path);
    }
    return links;
  }
}
