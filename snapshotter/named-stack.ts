import {
  type ComparedStack,
  type Entry,
  type ImagePath,
  parentPath,
  ROOT_PATH,
  type TreeChange,
} from '../core/index.ts';
import type { FolderFacts } from './folder-facts.ts';
import type { MergedView } from './merged-view.ts';
import { changesBetween } from './stack-changes.ts';

/** Diffs by names that stand for what they hold, and are never given twice. */
export interface NamedDiffs {
  /** In the order of the layers. */
  readonly names: readonly string[];
  /** What the diff of this name says, folder by folder; undefined where there is no such diff, or that was not written down. */
  readonly foldersOf: (name: string) => FolderFacts | undefined;
}

interface StackFacts extends NamedDiffs {
  readonly root: Entry;
  readonly hasBase: boolean;
}

/** Raised when trees of the same diffs come to say something else. */
const VERSION = 1;

/** An observed tree's diffs, root folder and place on a base, which are all that its answers follow from. */
export class NamedStack implements ComparedStack {
  readonly name: string;
  readonly #view: MergedView;
  readonly #facts: StackFacts;

  constructor(view: MergedView, facts: StackFacts) {
    this.#view = view;
    this.#facts = facts;
    this.name = JSON.stringify([VERSION, facts.hasBase, rootText(facts.root), ...facts.names]);
  }

  changesSince(name: string): readonly TreeChange[] | undefined {
    if (name === this.name) return [];
    const { hasBase, root, names, foldersOf } = this.#facts;
    const [version, hadBase, wasRoot, ...before] = partsOf(name);
    if (version !== VERSION || hadBase !== hasBase || before.length !== names.length) return undefined;
    const changes: TreeChange[] = [];
    for (const [at, is] of names.entries()) {
      const was = before[at];
      if (was === is) continue;
      if (typeof was !== 'string') return undefined;
      const [old, now] = [foldersOf(was), foldersOf(is)];
      const found = old === undefined || now === undefined ? undefined : changesBetween(old, now);
      if (found === undefined) return undefined;
      changes.push(...found);
    }
    if (wasRoot !== rootText(root)) changes.push({ path: ROOT_PATH, reach: 'path' });
    return this.#mayRelink(changes) ? undefined : changes;
  }

  /**
   * Whether another name of a file may come into sight or go out of it: this changes what the tree says of all of its names. The diffs that
   * differ have no such files (see `encodeFolders`), so those of this tree are those of both.
   */
  #mayRelink(changes: readonly TreeChange[]): boolean {
    const below = new Set(changes.filter(({ reach }) => reach === 'below').map(({ path }) => path));
    return below.size > 0 && this.#view.linkedNames().some((name) => isWithin(name, below));
  }
}

function isWithin(path: ImagePath, places: ReadonlySet<ImagePath>): boolean {
  for (let at = path; at !== ROOT_PATH; at = parentPath(at)) if (places.has(at)) return true;
  return false;
}

/** What an observation sees of the root folder. */
function rootText({ mode, uid, gid, xattrs = {} }: Entry): string {
  const attributes = Object.keys(xattrs)
    .sort()
    .map((name) => [name, Buffer.from(xattrs[name] ?? []).toString('hex')]);
  return JSON.stringify([mode, uid, gid, attributes]);
}

function partsOf(name: string): readonly unknown[] {
  try {
    const parts: unknown = JSON.parse(name);
    return Array.isArray(parts) ? parts : [];
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}
