import { type BigIntStats, lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  baseName,
  comparePaths,
  type Digest,
  decodePath,
  type Entry,
  encodePath,
  entryOfRow,
  errnoOf,
  type FileLooks,
  fsPath,
  type HostPath,
  type ImagePath,
  isDirRow,
  isFileRow,
  isLinkedRow,
  isSymlinkRow,
  joinHost,
  joinPath,
  joinRows,
  type LookedFolder,
  type LookedRows,
  MachineError,
  parentPath,
  placeInRow,
  ROOT_PATH,
  rowAt,
  rowBytes,
  rowOf,
  type StatRow,
  sameTuple,
  type Tree,
} from '../core/index.ts';
import { ContextFolder, keepNames } from './context-folder.ts';
import type { IgnoreRules } from './ignore.ts';

/** Digests of regular files, by what lstat(2) said of them; see `FileIndex.digests` in the cache room. */
export type DigestFiles = (
  files: readonly { readonly path: ImagePath; readonly row: StatRow }[],
) => Promise<readonly Digest[]>;

/** How many files are looked at in one go before the event loop gets its turn. */
const TURN_FILES = 512;
/** So many files are looked at in this thread before others are looked at in bulk: a process that does that has to be started. */
const FEW_FILES = 1000;
/** Folders that are listed by one order. */
const ORDER_FOLDERS = 128;

export interface ContextOptions {
  readonly folder: HostPath;
  readonly ignore: IgnoreRules;
  readonly digestFiles: DigestFiles;
  /** Looks at files in bulk; absent: all are looked at in this thread. */
  readonly looks?: FileLooks | undefined;
  /** How an entry is to be seen, where that is not as it lies on disk. */
  readonly present?: (entry: Entry) => Entry;
}

/**
 * A build context in a folder, less what its `.dockerignore` leaves out. Owners read as 0:0 and extended attributes as none,
 * as Docker sends a context. Each folder is read once.
 *
 * Files are looked at in this thread, one by one: to hand each look to another thread and back takes several times as long as the look. Many
 * at once are looked at by another process.
 */
export class ContextTree implements Tree {
  readonly #options: ContextOptions;
  readonly #folders = new Map<ImagePath, ContextFolder>();
  readonly #reading = new Map<ImagePath, Promise<ContextFolder>>();
  #root: StatRow | undefined;
  /** What was looked at to find out that it is no part of the context, or that a folder is. */
  readonly #passed = new Map<ImagePath, StatRow>();
  /** Folders that were searched for that. */
  readonly #searched = new Set<ImagePath>();
  #looks = 0;
  #turn = 0;
  #sharesFiles = false;
  /** The folder that was asked for last. */
  #last: { readonly path: ImagePath; readonly folder: ContextFolder | undefined } = {
    path: ROOT_PATH,
    folder: undefined,
  };

  constructor(options: ContextOptions) {
    this.#options = options;
  }

  async lstat(path: ImagePath): Promise<Entry | undefined> {
    if (path === '') return this.#entry(path, this.#look(path));
    return (await this.#folder(parentPath(path))).entry(baseName(path));
  }

  async list(path: ImagePath): Promise<readonly Entry[]> {
    return (await this.#folder(path)).entries();
  }

  async readAhead(path: ImagePath): Promise<void> {
    let folders: readonly ImagePath[] = [path];
    while (folders.length > 0) {
      await this.#readFolders(folders.filter((folder) => !this.#folders.has(folder)));
      folders = folders.flatMap((folder) => this.#folders.get(folder)?.folders() ?? []);
    }
  }

  async digest(path: ImagePath): Promise<Digest> {
    const [digest] = await this.digests([path]);
    if (digest === undefined) throw new Error('no digest');
    return digest;
  }

  async digests(paths: readonly ImagePath[]): Promise<readonly Digest[]> {
    const digests = paths.map((path) => this.#folderOf(path)?.digest(baseName(path)));
    const asked = paths.filter((_, at) => digests[at] === undefined);
    const found = asked.length === 0 ? [] : await this.#digested(asked);
    for (const [at, path] of asked.entries()) {
      const digest = found[at];
      if (digest !== undefined) this.#folderOf(path)?.remember(baseName(path), digest);
    }
    let next = 0;
    return digests.flatMap((digest) => digest ?? found[next++] ?? []);
  }

  async #digested(paths: readonly ImagePath[]): Promise<readonly Digest[]> {
    const files: { readonly path: ImagePath; readonly row: StatRow }[] = [];
    for (const path of paths) {
      const row = this.#known(path) ?? (await this.#row(path)) ?? this.#look(path)?.row;
      if (row === undefined || !isFileRow(row))
        throw new Error(`digest of ${JSON.stringify(path)}, which is no regular file`);
      files.push({ path, row });
    }
    try {
      return await this.#options.digestFiles(files);
    } catch (error) {
      const [path = ROOT_PATH, ...others] = paths;
      // One of several: which, is found by asking for each.
      if (others.length > 0) for (const one of paths) await this.digest(one);
      throw readFailure(path, error);
    }
  }

  hostPath(path: ImagePath): HostPath {
    return this.#host(path);
  }

  /** The path of what {@link hostPath} gave a place for; undefined where that is of another tree. */
  pathAt(place: HostPath): ImagePath | undefined {
    const { folder } = this.#options;
    const top = folder === '/' ? folder : `${folder}/`;
    return place.startsWith(top) ? (place.slice(top.length) as ImagePath) : undefined;
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
   * The first of these files that was changed since it was looked at. Asked after their bytes were used, so that what was hashed is what was
   * used.
   */
  async firstChanged(paths: readonly ImagePath[]): Promise<ImagePath | undefined> {
    const { looks } = this.#options;
    if (looks === undefined || paths.length < FEW_FILES) return paths.find((path) => this.#isChanged(path));
    const folders = [...new Set(paths.map(parentPath))];
    const now = new Map<ImagePath, ContextFolder>();
    await this.#listed(looks, folders, (folder, looked) => {
      if (looked !== undefined) now.set(folder, new ContextFolder(folder, looked, undefined));
    });
    return paths.find((path) => {
      const before = this.#known(path);
      const row = now.get(parentPath(path))?.row(baseName(path));
      const isSame = before !== undefined && row !== undefined && sameTuple(before, row);
      return !isSame && this.#isChanged(path);
    });
  }

  /** All that was looked at so far; undefined where that is not known of a folder. */
  looked(): readonly LookedRows[] | undefined {
    const folders: LookedRows[] = [];
    for (const [path, { looked }] of this.#folders) {
      const row = this.#known(path);
      if (row === undefined && (path === '' || !this.#folders.has(parentPath(path)))) return undefined;
      // What is no folder stands among what lies in its own folder, or is not there, as that says.
      if (row !== undefined && isDirRow(row))
        folders.push({ path, row, names: looked.names, rows: looked.rows });
    }
    for (const path of this.#searched) {
      const row = this.#known(path) ?? this.#passed.get(path);
      if (row === undefined) return undefined;
      folders.push({ path, row, names: [], rows: NOTHING.rows });
    }
    for (const [path, rows] of this.#passed) {
      const folder = parentPath(path);
      const row = this.#known(folder) ?? this.#passed.get(folder);
      if (row === undefined) return undefined;
      folders.push({ path: folder, row, names: [baseName(path)], rows: rowBytes(rows) });
    }
    return folders;
  }

  /** Have any of the files that were looked at other names too? */
  get sharesFiles(): boolean {
    return this.#sharesFiles;
  }

  /** Tells a file by its place on the disk, where it has other names too; undefined where it has none, or is none. */
  sharedFile(path: ImagePath): string | undefined {
    const row = this.#known(path);
    return row !== undefined && isFileRow(row) && isLinkedRow(row) ? placeInRow(row) : undefined;
  }

  #isChanged(path: ImagePath): boolean {
    const before = this.#known(path);
    if (before === undefined) return false;
    try {
      return !sameTuple(before, rowOf(this.#stat(path)));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return true;
      throw readFailure(path, error);
    }
  }

  /** What was found at `path` when it was first looked at. */
  #known(path: ImagePath): StatRow | undefined {
    return path === '' ? this.#root : this.#folderOf(path)?.row(baseName(path));
  }

  /** The folder around `path`, where it has been read. */
  #folderOf(path: ImagePath): ContextFolder | undefined {
    const { folder, path: last } = this.#last;
    const length = path.lastIndexOf('/');
    // Mostly it is that of the one before.
    if (folder !== undefined && last.length === Math.max(length, 0) && path.startsWith(last)) return folder;
    const parent = parentPath(path);
    const found = this.#folders.get(parent);
    this.#last = { path: parent, folder: found };
    return found;
  }

  async #row(path: ImagePath): Promise<StatRow | undefined> {
    if (path === '') return this.#root;
    return (this.#folders.get(parentPath(path)) ?? (await this.#folder(parentPath(path)))).row(
      baseName(path),
    );
  }

  async #folder(path: ImagePath): Promise<ContextFolder> {
    const known = this.#folders.get(path);
    if (known !== undefined) return known;
    let reading = this.#reading.get(path);
    if (reading === undefined) {
      reading = this.#readFolder(path).finally(() => this.#reading.delete(path));
      this.#reading.set(path, reading);
    }
    return reading;
  }

  async #readFolder(path: ImagePath): Promise<ContextFolder> {
    const self = path === '' ? undefined : await this.lstat(path);
    const isFolder = path === '' || self?.type === 'dir';
    if (path === '') this.#root ??= this.#look(path)?.row;
    const folder = this.#keep(path, isFolder ? this.#lookInto(path) : NOTHING);
    if (this.#looks - this.#turn > TURN_FILES) {
      this.#turn = this.#looks;
      await nextTurn();
    }
    return folder;
  }

  /** Reads folders that are known to be ones. */
  async #readFolders(folders: readonly ImagePath[]): Promise<void> {
    const { looks } = this.#options;
    let at = 0;
    for (; at < folders.length && (looks === undefined || this.#looks < FEW_FILES); at += 1)
      await this.#folder(folders[at] ?? ROOT_PATH);
    if (looks === undefined || at === folders.length) return;
    await this.#listed(looks, folders.slice(at), (folder, looked) => {
      this.#keep(folder, looked === undefined ? this.#lookInto(folder) : this.#unignored(folder, looked));
    });
  }

  /** Lists folders by orders of some each, all of which are under way at once. */
  async #listed(
    looks: FileLooks,
    folders: readonly ImagePath[],
    take: (folder: ImagePath, looked: LookedFolder | undefined) => void,
  ): Promise<void> {
    const orders: Promise<void>[] = [];
    for (let from = 0; from < folders.length; from += ORDER_FOLDERS) {
      const order = folders.slice(from, from + ORDER_FOLDERS);
      const takeAll = (found: readonly (LookedFolder | undefined)[]) => {
        for (const [at, folder] of order.entries()) take(folder, found[at]);
      };
      orders.push(looks.list(order).then(takeAll));
    }
    await Promise.all(orders);
  }

  /** What is found first at a path holds for the whole build. */
  #keep(path: ImagePath, looked: LookedFolder): ContextFolder {
    const known = this.#folders.get(path);
    if (known !== undefined) return known;
    const folder = new ContextFolder(path, looked, this.#options.present);
    this.#folders.set(path, folder);
    this.#sharesFiles ||= folder.hasLinks();
    return folder;
  }

  /** What of a folder that was listed by others belongs to the context. */
  #unignored(folder: ImagePath, looked: LookedFolder): LookedFolder {
    const { ignore } = this.#options;
    const kept: number[] = [];
    for (const [at, name] of looked.names.entries()) {
      const path = joinPath(folder, name);
      const row = rowAt(looked.rows, at);
      if (!ignore.ignores(path) || (isDirRow(row) && this.#letsIn(path, row))) kept.push(at);
    }
    return keepNames(looked, kept);
  }

  /** What lies in a folder and belongs to the context. */
  #lookInto(folder: ImagePath): LookedFolder {
    const { ignore } = this.#options;
    const names: string[] = [];
    const rows: StatRow[] = [];
    const targets = new Map<number, string>();
    for (const name of this.#names(folder).toSorted(comparePaths)) {
      const path = joinPath(folder, name);
      const isIgnored = ignore.ignores(path);
      if (isIgnored && !ignore.mayReinclude(path)) continue;
      const found = this.#look(path);
      if (found === undefined) continue;
      if (isIgnored && !(isDirRow(found.row) && this.#letsIn(path, found.row))) continue;
      if (found.target !== undefined) targets.set(names.length, found.target);
      names.push(name);
      rows.push(found.row);
    }
    return { names, rows: joinRows(rows), targets };
  }

  /** An ignored folder is part of the context when something in it is let in again. */
  #letsIn(path: ImagePath, row: StatRow): boolean {
    return this.#options.ignore.mayReinclude(path) && this.#holdsAnything(path, row);
  }

  #names(path: ImagePath): readonly string[] {
    try {
      return readdirSync(fsPath(this.#host(path)), { encoding: 'buffer' }).map(decodePath);
    } catch (error) {
      throw readFailure(path, error);
    }
  }

  #holdsAnything(path: ImagePath, own: StatRow): boolean {
    this.#passed.set(path, own);
    this.#searched.add(path);
    for (const name of this.#names(path)) {
      const child = joinPath(path, name);
      const { ignore } = this.#options;
      if (!ignore.ignores(child)) return true;
      if (!ignore.mayReinclude(child)) continue;
      const found = this.#look(child);
      if (found !== undefined && isDirRow(found.row) && this.#holdsAnything(child, found.row)) return true;
    }
    return false;
  }

  /** What lies at `path`, a symlink with its target; undefined where nothing does. */
  #look(path: ImagePath): Looked | undefined {
    try {
      const row = rowOf(this.#stat(path));
      if (path === '') this.#root ??= row;
      if (!isSymlinkRow(row)) return { row };
      return { row, target: decodePath(readlinkSync(fsPath(this.#host(path)), 'buffer')) };
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw readFailure(path, error);
    }
  }

  #entry(path: ImagePath, found: Looked | undefined): Entry | undefined {
    if (found === undefined) return undefined;
    const entry = entryOfRow(found.row, path, found.target);
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

interface Looked {
  readonly row: StatRow;
  readonly target?: string;
}

const NOTHING: LookedFolder = { names: [], rows: Buffer.alloc(0), targets: new Map() };

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
