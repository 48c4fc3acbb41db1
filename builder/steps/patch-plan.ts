import {
  type Attributes,
  comparePaths,
  type Digest,
  type Entry,
  FOLDER_TIME,
  type ImagePath,
  imagePath,
  isSameTime,
  type Original,
  parentPath,
  ROOT_PATH,
  type Soon,
  soon,
  type Tree,
  type TreeOp,
} from '../../core/index.ts';

/** Fewer names and bytes than these are written as fast as they are shared. */
const LEAST_NAMES = 64;
const LEAST_BYTES = 4 * 1024 * 1024;

/** The part of an original's names that a patch may hold anew: a larger one is written as a whole, and becomes an original. */
const MOST_OWN = 1 / 4;

export interface PatchFacts {
  readonly original: Original;
  /** What the operations are carried out on. */
  readonly parent: Tree;
  /** Is told each operation first. */
  readonly see: (op: TreeOp) => Soon<void>;
  /** Digests of the files that the operations make, known when each was seen. */
  readonly digests: ReadonlyMap<ImagePath, Digest>;
}

/**
 * The operations of which a patch of `original` consists, when `ops` are to come to the same on `parent` as if they were carried out
 * on an active snapshot.
 *
 * @returns undefined where a patch cannot say it, or is not worth it: the original has a name that is not made again, one thing is made
 * twice or has several names, something is removed, a folder is in the place of a file, or too much differs.
 */
export async function planPatch(
  ops: AsyncIterable<readonly TreeOp[]>,
  facts: PatchFacts,
): Promise<readonly TreeOp[] | undefined> {
  const plan = new PatchPlan(facts);
  for await (const some of ops) {
    for (const op of some) {
      const taken = soon(facts.see(op), () => plan.take(op));
      if (!(taken instanceof Promise ? await taken : taken)) return undefined;
    }
  }
  return plan.ops();
}

type FolderOp = Extract<TreeOp, { op: 'dir' }>;
type MakingOp = Extract<TreeOp, { op: 'dir' | 'file' | 'symlink' | 'node' }>;

class PatchPlan {
  readonly #facts: PatchFacts;
  readonly #folders = new Map<ImagePath, FolderOp>();
  readonly #others = new Set<ImagePath>();
  readonly #own = new Map<ImagePath, TreeOp>();
  /** Names of the original that are made again. */
  #met = 0;
  #sharedBytes = 0;

  constructor(facts: PatchFacts) {
    this.#facts = facts;
  }

  /** False where no patch can come of it. */
  take(op: TreeOp): Soon<boolean> {
    const path = imagePath(op.path);
    switch (op.op) {
      case 'ensureDir':
        return this.#ensure(path, op.attributes);
      case 'dir':
        return soon(this.#enter(path), (isIn) => isIn && this.#folder(path, op.attributes));
      case 'file':
      case 'symlink':
      case 'node':
        return soon(this.#enter(path), (isIn) => isIn && this.#other(path, op));
      default:
        return false;
    }
  }

  ops(): readonly TreeOp[] | undefined {
    const { original } = this.#facts;
    if (this.#met !== original.count) return undefined;
    const shared = original.count - this.#own.size;
    if (shared < LEAST_NAMES && this.#sharedBytes < LEAST_BYTES) return undefined;
    const ops = new Map(this.#own);
    for (const path of this.#own.keys()) {
      for (let at = parentPath(path); at !== ROOT_PATH && !ops.has(at); at = parentPath(at)) {
        const folder = this.#folders.get(at);
        if (folder === undefined) return undefined;
        ops.set(at, folder);
      }
    }
    return [...ops.values()].sort((a, b) => comparePaths(a.path, b.path));
  }

  async #ensure(path: ImagePath, attributes: Attributes): Promise<boolean> {
    if (path === ROOT_PATH || this.#folders.has(path)) return true;
    const existing = await this.#facts.parent.lstat(path);
    // What is not changed is no part of the diff, until something is made in it.
    if (existing !== undefined) return existing.type === 'dir' && !this.#others.has(path);
    return (await this.#enter(path)) && this.#folder(path, attributes);
  }

  /** The folders that `path` lies in are in the diff too, as the parent has them. False where it cannot be made there. */
  #enter(path: ImagePath): Soon<boolean> {
    if (path === ROOT_PATH || this.#folders.has(path) || this.#others.has(path)) return false;
    return this.#folders.has(parentPath(path)) || this.#enterFolders(path);
  }

  async #enterFolders(path: ImagePath): Promise<boolean> {
    for (let at = parentPath(path); at !== ROOT_PATH && !this.#folders.has(at); at = parentPath(at)) {
      const existing = this.#others.has(at) ? undefined : await this.#facts.parent.lstat(at);
      if (existing?.type !== 'dir') return false;
      const { mode, uid, gid, mtime, xattrs } = existing;
      if (!(await this.#folder(at, { mode, uid, gid, mtime, ...(xattrs === undefined ? {} : { xattrs }) })))
        return false;
    }
    return true;
  }

  async #folder(path: ImagePath, { mode, uid, gid, mtime, xattrs }: Attributes): Promise<boolean> {
    if (mtime === undefined || hasAny(xattrs)) return false;
    const isMerged = (await this.#facts.parent.lstat(path))?.type === 'dir';
    const attributes = { mode, uid, gid, mtime: isMerged ? FOLDER_TIME : mtime };
    const op: FolderOp = { op: 'dir', path, attributes };
    this.#folders.set(path, op);
    return this.#decide(op, path);
  }

  #other(path: ImagePath, op: MakingOp): boolean {
    this.#others.add(path);
    return op.attributes.mtime !== undefined && !hasAny(op.attributes.xattrs) && this.#decide(op, path);
  }

  #decide(op: MakingOp, path: ImagePath): boolean {
    const { original, digests } = this.#facts;
    const was = original.entry(path);
    if (was !== undefined) {
      if ((was.type === 'dir') !== (op.op === 'dir')) return false;
      this.#met += 1;
      if (isSame(op, was) && (op.op !== 'file' || isSameContent(digests.get(path), original.digest(path)))) {
        this.#sharedBytes += was.size;
        return true;
      }
    }
    this.#own.set(path, op);
    return this.#own.size <= original.count * MOST_OWN;
  }
}

function hasAny(xattrs: Attributes['xattrs']): boolean {
  return xattrs !== undefined && Object.keys(xattrs).length > 0;
}

function isSameContent(one: Digest | undefined, other: Digest | undefined): boolean {
  return one !== undefined && one === other;
}

/** Whether an operation makes what is there, but for the content of a file. */
function isSame(op: MakingOp, was: Entry): boolean {
  const { mode, uid, gid, mtime } = op.attributes;
  if ((mode & 0o7777) !== was.mode || uid !== was.uid || gid !== was.gid) return false;
  if (mtime === undefined || !isSameTime(mtime, was.mtime)) return false;
  switch (op.op) {
    case 'dir':
      return was.type === 'dir';
    case 'file':
      return was.type === 'file';
    case 'symlink':
      return was.type === 'symlink' && op.target === was.linkTarget;
    default:
      return (
        was.type === op.type &&
        (was.device?.major ?? 0) === op.device.major &&
        (was.device?.minor ?? 0) === op.device.minor
      );
  }
}
