import { type BigIntStats, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  comparePaths,
  type Digest,
  decodePath,
  deviceOf,
  type Entry,
  encodePath,
  errnoOf,
  fileTypeOf,
  fsPath,
  type HostPath,
  type ImagePath,
  joinHost,
  joinPath,
  MachineError,
  parentPath,
  type Tree,
  timeOf,
} from '../core/index.ts';
import type { IgnoreRules } from './ignore.ts';

/** The part of a stat that a file index compares; see `FileIndex` in the cache room. */
export type DigestFile = (path: ImagePath, file: HostPath, stat: BigIntStats) => Promise<Digest>;

/** How many files are looked at in one go before the event loop gets its turn. */
const TURN_FILES = 512;

export interface ContextOptions {
  readonly folder: HostPath;
  readonly ignore: IgnoreRules;
  readonly digestFile: DigestFile;
  /** How an entry is to be seen, where that is not as it lies on disk. */
  readonly present?: (entry: Entry) => Entry;
}

/**
 * A build context in a folder, less what its `.dockerignore` leaves out. Owners read as 0:0 and extended attributes as none,
 * as Docker sends a context. Each folder is read once.
 *
 * Files are looked at in this thread: to hand each look to another thread and back takes several times as long as the look.
 */
export class ContextTree implements Tree {
  readonly #options: ContextOptions;
  readonly #folders = new Map<ImagePath, Promise<ReadonlyMap<ImagePath, Entry>>>();
  readonly #stats = new Map<ImagePath, BigIntStats>();
  #looks = 0;

  constructor(options: ContextOptions) {
    this.#options = options;
  }

  async lstat(path: ImagePath): Promise<Entry | undefined> {
    if (path === '') return this.#read(path);
    return (await this.#folder(parentPath(path))).get(path);
  }

  async list(path: ImagePath): Promise<readonly Entry[]> {
    return [...(await this.#folder(path)).values()];
  }

  #folder(path: ImagePath): Promise<ReadonlyMap<ImagePath, Entry>> {
    const known = this.#folders.get(path);
    if (known !== undefined) return known;
    const listing = this.#readFolder(path);
    this.#folders.set(path, listing);
    return listing;
  }

  async digest(path: ImagePath): Promise<Digest> {
    const stat = this.#stats.get(path) ?? this.#stat(path);
    if (!stat.isFile()) throw new Error(`digest of ${JSON.stringify(path)}, which is no regular file`);
    try {
      return await this.#options.digestFile(path, this.#host(path), stat);
    } catch (error) {
      throw readFailure(path, error);
    }
  }

  async hostPath(path: ImagePath): Promise<HostPath> {
    return this.#host(path);
  }

  /** Does something lie in the folder at `path` that the ignore rules leave out? */
  async leavesOut(path: ImagePath): Promise<boolean> {
    if ((await this.lstat(path)) !== undefined) return false;
    try {
      this.#stat(path);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Was a file changed since it was first looked at? Asked after its bytes were used, so that what was hashed is what was used.
   */
  async isUnchanged(path: ImagePath): Promise<boolean> {
    const before = this.#stats.get(path);
    if (before === undefined) return true;
    let now: BigIntStats;
    try {
      now = this.#stat(path);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return false;
      throw readFailure(path, error);
    }
    return (
      now.ino === before.ino &&
      now.size === before.size &&
      now.mtimeNs === before.mtimeNs &&
      now.ctimeNs === before.ctimeNs
    );
  }

  /** Tells a file by its place on the disk, where it has other names too; undefined where it has none, or is none. */
  sharedFile(path: ImagePath): string | undefined {
    const stat = this.#stats.get(path);
    return stat?.isFile() === true && stat.nlink > 1n ? `${stat.dev} ${stat.ino}` : undefined;
  }

  /** The entries of a folder by path, in path order. */
  async #readFolder(path: ImagePath): Promise<ReadonlyMap<ImagePath, Entry>> {
    if (path !== '') {
      const self = await this.lstat(path);
      if (self?.type !== 'dir') return new Map();
    }
    const found: Entry[] = [];
    for (const name of this.#names(path)) {
      const entry = this.#readUnignored(joinPath(path, name));
      if (entry !== undefined) found.push(entry);
    }
    found.sort((a, b) => comparePaths(a.path, b.path));
    if (this.#looks > TURN_FILES) {
      this.#looks = 0;
      await nextTurn();
    }
    return new Map(found.map((entry) => [entry.path, entry]));
  }

  #readUnignored(path: ImagePath): Entry | undefined {
    const { ignore } = this.#options;
    if (!ignore.ignores(path)) return this.#read(path);
    if (!ignore.mayReinclude(path)) return undefined;
    const entry = this.#read(path);
    return entry?.type === 'dir' && this.#holdsAnything(path) ? entry : undefined;
  }

  #names(path: ImagePath): readonly string[] {
    try {
      return readdirSync(fsPath(this.#host(path)), { encoding: 'buffer' }).map(decodePath);
    } catch (error) {
      throw readFailure(path, error);
    }
  }

  /** An ignored folder is part of the context when something in it is let in again. */
  #holdsAnything(path: ImagePath): boolean {
    for (const name of this.#names(path)) {
      const child = joinPath(path, name);
      const { ignore } = this.#options;
      if (!ignore.ignores(child)) return true;
      if (!ignore.mayReinclude(child)) continue;
      if (this.#read(child)?.type === 'dir' && this.#holdsAnything(child)) return true;
    }
    return false;
  }

  #read(path: ImagePath): Entry | undefined {
    let stat: BigIntStats;
    let linkTarget: string | undefined;
    try {
      stat = this.#stat(path);
      if (stat.isSymbolicLink()) linkTarget = decodePath(readlinkSync(fsPath(this.#host(path)), 'buffer'));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw readFailure(path, error);
    }
    this.#stats.set(path, stat);
    const type = fileTypeOf(stat);
    const entry: Entry = {
      path,
      type,
      mode: Number(stat.mode & 0o7777n),
      uid: 0,
      gid: 0,
      size: type === 'file' ? Number(stat.size) : 0,
      mtime: timeOf(stat.mtimeNs),
      ...(linkTarget === undefined ? {} : { linkTarget }),
      ...(type === 'char' || type === 'block' ? { device: deviceOf(stat.rdev) } : {}),
    };
    return this.#options.present?.(entry) ?? entry;
  }

  #stat(path: ImagePath): BigIntStats {
    this.#looks += 1;
    return lstatSync(fsPath(this.#host(path)), { bigint: true });
  }

  #host(path: ImagePath): HostPath {
    return joinHost(this.#options.folder, path);
  }
}

function readFailure(path: ImagePath, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined) return error;
  const shown =
    path === ''
      ? 'the context folder'
      : `${JSON.stringify(encodePath(path).toString())} of the build context`;
  const hint =
    errno === 'EACCES' || errno === 'EPERM'
      ? 'Make it readable for this user, or leave it out with a line in .dockerignore.'
      : 'Check the file, or leave it out with a line in .dockerignore.';
  return new MachineError('context-unreadable', `cannot read ${shown}: ${errno}`, { hint, cause: error });
}
