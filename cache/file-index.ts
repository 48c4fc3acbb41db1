import { randomUUID } from 'node:crypto';
import { lstat, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import xxhash, { type XXHashAPI } from 'xxhash-wasm';
import {
  type Digest,
  errnoOf,
  type FileLooks,
  type FileMark,
  fsPath,
  type HostPath,
  type ImagePath,
  isFileRow,
  joinHost,
  MachineError,
  rowOf,
  STAT_TUPLE_BYTES,
  type StatRow,
  sameTuple,
  sizeInRow,
  timesInRow,
} from '../core/index.ts';
import type { FileIndex, IndexedFile } from './contract.ts';
import { type DigestFile, fileDigester } from './file-digest.ts';
import { decodeIndex, encodeIndex, indexName } from './index-format.ts';
import { IndexTable } from './index-table.ts';
import { DISK_FULL_HINT, isDiskFull } from './store-error.ts';

export interface FileIndexOptions {
  /** The store's folder; the index lies in `index/` below it. */
  readonly root: HostPath;
  /** A folder of the same file system for an index that is being written; whoever made it removes it, also after a process that died. */
  readonly temporary: HostPath;
  /** The folder whose files are remembered: its absolute path names the index. */
  readonly context: HostPath;
  /** Milliseconds since 1970, by the clock that stamps files. */
  readonly clock: () => number;
  /** Reads a file; absent: SHA-256 of what lies on disk. */
  readonly digestFile?: DigestFile;
  /** Reads many files of the folder; absent: they are read one by one. */
  readonly looks?: FileLooks | undefined;
}

/**
 * A file is believed to be unchanged only where it was left alone for this long before it was read. A write in the same
 * tick of the file system's clock leaves no trace in its times; the coarsest clock in use ticks every 2 seconds (FAT).
 * The rule is Git's for "racily clean" entries (Documentation/technical/racy-git.adoc).
 */
export const SETTLED_MS = 2500;

const TRIES = 3;
/** Savings after which a file that no build asked for is forgotten. */
const FORGOTTEN_AGE = 32;

/** Fewer files are read here: to have a process started for them takes longer. */
const FEWEST_IN_BULK = 64;
/** Files that are read here at the same time. */
const AT_ONCE = 16;
/** Files of one order. */
const ORDER_FILES = 512;

/**
 * Opens the index of one folder. An index file that is damaged, foreign or of another version counts as empty.
 *
 * `digest` throws MachineError: `file-changing` where the file did not hold still for three readings, `file-vanished`,
 * `file-unreadable` (no permission), `file-io`. `save` throws `disk-full` or `store-io`.
 */
export async function openFileIndex(options: FileIndexOptions): Promise<FileIndex> {
  const file = joinHost(options.root, 'index', indexName(options.context));
  const [hash, bytes] = await Promise.all([xxhash(), readIfThere(file)]);
  const known = bytes === undefined ? undefined : decodeIndex(options.context, bytes);
  return new StatIndex(options, { file, mark: marker(hash), known: known ?? new IndexTable() });
}

/** xxh64 over the stat tuple of a row. */
export function marker(hash: XXHashAPI): (row: StatRow) => FileMark {
  const tuple = Buffer.alloc(STAT_TUPLE_BYTES);
  return ({ rows, from }) => {
    rows.copy(tuple, 0, from, from + STAT_TUPLE_BYTES);
    return hash.h64Raw(tuple) as FileMark;
  };
}

class StatIndex implements FileIndex {
  readonly #options: FileIndexOptions;
  readonly #file: HostPath;
  readonly #mark: (row: StatRow) => FileMark;
  readonly #digestFile: DigestFile;
  readonly #known: IndexTable;
  readonly #running = new Map<string, Promise<Digest>>();
  /** Whoever reads in bulk waits for those before: most of his files they have read. */
  #bulk: Promise<unknown> = Promise.resolve();
  #changed = false;

  constructor(
    options: FileIndexOptions,
    state: {
      readonly file: HostPath;
      readonly mark: (row: StatRow) => FileMark;
      readonly known: IndexTable;
    },
  ) {
    this.#options = options;
    this.#file = state.file;
    this.#mark = state.mark;
    this.#known = state.known;
    this.#digestFile = options.digestFile ?? fileDigester();
  }

  async digest(path: ImagePath, row: StatRow): Promise<Digest> {
    const known = this.#find({ path, row }, this.#youngest());
    if (known !== undefined) return known;
    const reading = `${this.#mark(row)} ${path}`;
    let digest = this.#running.get(reading);
    if (digest === undefined) {
      digest = this.#read(path, row).finally(() => this.#running.delete(reading));
      this.#running.set(reading, digest);
    }
    return digest;
  }

  async digests(files: readonly IndexedFile[]): Promise<readonly Digest[]> {
    const youngest = this.#youngest();
    const found = files.map((file) => this.#find(file, youngest));
    const missing = found.reduce((count, digest) => count + (digest === undefined ? 1 : 0), 0);
    if (missing >= FEWEST_IN_BULK && this.#options.looks !== undefined) {
      const reading = this.#bulk.then(() => this.#readInBulk(files, found));
      this.#bulk = reading.catch(() => undefined);
      await reading;
    }
    const digests: Digest[] = [];
    let rest: Promise<Digest>[] = [];
    for (const [at, { path, row }] of files.entries()) {
      const known = found[at];
      if (known === undefined) rest.push(this.digest(path, row).then((digest) => (digests[at] = digest)));
      else digests[at] = known;
      if (rest.length < AT_ONCE) continue;
      await Promise.all(rest);
      rest = [];
    }
    await Promise.all(rest);
    return digests;
  }

  async save(): Promise<void> {
    if (!this.#changed) return;
    this.#changed = false;
    const table = this.#known.aged(FORGOTTEN_AGE);
    const temp = joinHost(this.#options.temporary, `index-${randomUUID()}`);
    try {
      await mkdir(joinHost(this.#options.root, 'index'), { recursive: true, mode: 0o700 });
      await writeFile(temp, encodeIndex(this.#options.context, table), { flag: 'wx', mode: 0o600 });
      await rename(temp, this.#file);
    } catch (cause) {
      this.#changed = true;
      await rm(temp, { force: true });
      const full = isDiskFull(cause);
      throw new MachineError(full ? 'disk-full' : 'store-io', `cannot write the file index ${this.#file}`, {
        hint: full ? DISK_FULL_HINT : 'Check that the folder of the store can be written to.',
        cause,
      });
    }
  }

  /** The remembered digest of a file that has not changed and is old enough to be trusted. */
  #find({ path, row }: IndexedFile, youngest: bigint): Digest | undefined {
    const known = this.#known.find(path);
    if (known === undefined || !isSettled(row, youngest)) return undefined;
    return known.mark === this.#mark(row) ? known.digest : undefined;
  }

  /** Fills in digests that are missing. What did not hold still, or could not be read, is left out. */
  async #readInBulk(files: readonly IndexedFile[], digests: (Digest | undefined)[]): Promise<void> {
    const youngest = this.#youngest();
    const wanted: number[] = [];
    for (const [at, file] of files.entries()) {
      if (digests[at] !== undefined) continue;
      digests[at] = this.#find(file, youngest);
      if (digests[at] === undefined && isFileRow(file.row)) wanted.push(at);
    }
    const orders: Promise<void>[] = [];
    for (let from = 0; from < wanted.length; from += ORDER_FILES) {
      const order = wanted.slice(from, from + ORDER_FILES).flatMap((at) => {
        const file = files[at];
        return file === undefined ? [] : [{ at, ...file, size: sizeInRow(file.row) }];
      });
      orders.push(this.#readOrder(order, youngest, digests));
    }
    await Promise.all(orders);
  }

  async #readOrder(
    order: readonly (IndexedFile & { readonly at: number; readonly size: number })[],
    youngest: bigint,
    digests: (Digest | undefined)[],
  ): Promise<void> {
    const found = (await this.#options.looks?.read(order)) ?? [];
    for (const [number, { at, path, row }] of order.entries()) {
      const read = found[number];
      if (read === undefined || !sameTuple(row, read.after)) continue;
      digests[at] = read.digest;
      this.#remember(
        path,
        isSettled(row, youngest) ? { mark: this.#mark(row), digest: read.digest } : undefined,
      );
    }
  }

  /** Reads the file until its stat tuple is the same before and after. */
  async #read(path: ImagePath, row: StatRow): Promise<Digest> {
    const file = joinHost(this.#options.context, path);
    let before = row;
    for (let tries = 0; tries < TRIES; tries += 1) {
      const settled = isSettled(before, this.#youngest());
      const digest = isFileRow(before) ? await this.#tryDigest(file, sizeInRow(before)) : undefined;
      const stat = await lstat(fsPath(file), { bigint: true }).catch((error) => {
        throw fileError(file, error);
      });
      const after = rowOf(stat);
      if (digest !== undefined && sameTuple(after, before)) {
        this.#remember(path, settled ? { mark: this.#mark(after), digest } : undefined);
        return digest;
      }
      before = after;
    }
    throw new MachineError('file-changing', `${file} kept changing while it was being read`, {
      hint: 'Build again when nothing writes to it, or list it in .dockerignore.',
    });
  }

  /** Undefined where something else took the file's place. */
  async #tryDigest(file: HostPath, size: number): Promise<Digest | undefined> {
    try {
      return await this.#digestFile(file, size);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === 'ELOOP' || errno === 'ENXIO' || errno === 'EAGAIN' || errno === 'EISDIR')
        return undefined;
      throw fileError(file, error);
    }
  }

  #remember(path: ImagePath, known: { readonly mark: FileMark; readonly digest: Digest } | undefined): void {
    if (known !== undefined) this.#known.set(path, known.mark, known.digest);
    else if (!this.#known.remove(path)) return;
    this.#changed = true;
  }

  /** Files are trusted whose times lie before this, in nanoseconds. */
  #youngest(): bigint {
    return BigInt(Math.floor(this.#options.clock() - SETTLED_MS)) * 1_000_000n;
  }
}

/** Times in the future, which a clock that was set back leaves, are as young as those of this moment. */
function isSettled(row: StatRow, youngest: bigint): boolean {
  const { mtimeNs, ctimeNs } = timesInRow(row);
  return mtimeNs < youngest && ctimeNs < youngest;
}

async function readIfThere(file: HostPath): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    throw new MachineError('store-io', `cannot read the file index ${file}`, {
      hint: 'Check that the folder of the store can be read.',
      cause,
    });
  }
}

function fileError(file: HostPath, cause: unknown): unknown {
  const errno = errnoOf(cause);
  if (errno === undefined) return cause;
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    const hint = 'Build again when nothing else changes these files.';
    return new MachineError('file-vanished', `${file} was removed while it was being read`, { hint, cause });
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    const hint = 'Give yourself permission to read it, or list it in .dockerignore.';
    return new MachineError('file-unreadable', `no permission to read ${file}`, { hint, cause });
  }
  return new MachineError('file-io', `cannot read ${file}: ${errno}`, { hint: 'Check the disk.', cause });
}
