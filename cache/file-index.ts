import { randomUUID } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, rename, rm, stat as statOf, writeFile } from 'node:fs/promises';
import xxhash, { type XXHashAPI } from 'xxhash-wasm';
import {
  type Digest,
  errnoOf,
  type FileMark,
  fsPath,
  type HostPath,
  type ImagePath,
  joinHost,
  MachineError,
} from '../core/index.ts';
import type { FileIndex, FileStat } from './contract.ts';
import { type DigestFile, fileDigester } from './file-digest.ts';
import { decodeIndex, encodeIndex, type IndexEntry, indexName } from './index-format.ts';
import { DISK_FULL_HINT, isDiskFull } from './store-error.ts';

export interface FileIndexOptions {
  /** The store's folder; the index lies in `index/` below it. */
  readonly root: HostPath;
  /** The folder whose files are remembered: its absolute path names the index. */
  readonly context: HostPath;
  /** Milliseconds since 1970, by the clock that stamps files. */
  readonly clock: () => number;
  /** Reads a file; absent: SHA-256 of what lies on disk. */
  readonly digestFile?: DigestFile;
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
const STALE_TEMP_MS = 60 * 60 * 1000;

const S_IFMT = 0o170000n;
const S_IFREG = 0o100000n;

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
  return new StatIndex(options, { file, mark: marker(hash), known: known ?? new Map() });
}

/** xxh64 over the stat tuple: device, inode, size, mtime, ctime, mode as unsigned 64-bit little-endian numbers; 16 hex digits. */
export function marker(hash: XXHashAPI): (stat: FileStat) => FileMark {
  const tuple = new BigUint64Array(6);
  const bytes = new Uint8Array(tuple.buffer);
  return ({ dev, ino, size, mtimeNs, ctimeNs, mode }) => {
    // Times before 1970 are negative; the array keeps their 64 bits.
    tuple.set([dev, ino, size, mtimeNs, ctimeNs, mode]);
    return hash.h64Raw(bytes).toString(16).padStart(16, '0') as FileMark;
  };
}

class StatIndex implements FileIndex {
  readonly #options: FileIndexOptions;
  readonly #file: HostPath;
  readonly #mark: (stat: FileStat) => FileMark;
  readonly #digestFile: DigestFile;
  readonly #known: Map<string, IndexEntry>;
  readonly #asked = new Set<string>();
  readonly #running = new Map<string, Promise<Digest>>();
  #changed = false;

  constructor(
    options: FileIndexOptions,
    state: {
      readonly file: HostPath;
      readonly mark: (stat: FileStat) => FileMark;
      readonly known: Map<string, IndexEntry>;
    },
  ) {
    this.#options = options;
    this.#file = state.file;
    this.#mark = state.mark;
    this.#known = state.known;
    this.#digestFile = options.digestFile ?? fileDigester();
  }

  async digest(path: ImagePath, file: HostPath, stat: FileStat): Promise<Digest> {
    this.#asked.add(path);
    const mark = this.#mark(stat);
    const known = this.#known.get(path);
    if (known?.mark === mark && this.#settled(stat)) return known.digest;
    const reading = `${mark}${path}`;
    let digest = this.#running.get(reading);
    if (digest === undefined) {
      digest = this.#read(path, file, stat).finally(() => this.#running.delete(reading));
      this.#running.set(reading, digest);
    }
    return digest;
  }

  async save(): Promise<void> {
    if (!this.#changed) return;
    this.#changed = false;
    const entries = this.#aged();
    const temp = `${this.#file}.${randomUUID()}.tmp`;
    try {
      await mkdir(joinHost(this.#options.root, 'index'), { recursive: true, mode: 0o700 });
      await this.#removeStaleTemps();
      await writeFile(temp, encodeIndex(this.#options.context, entries), { flag: 'wx', mode: 0o600 });
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

  /** Reads the file until its stat tuple is the same before and after. */
  async #read(path: ImagePath, file: HostPath, stat: FileStat): Promise<Digest> {
    let before = stat;
    for (let tries = 0; tries < TRIES; tries += 1) {
      const settled = this.#settled(before);
      const digest = isFile(before) ? await this.#tryDigest(file, Number(before.size)) : undefined;
      const after: FileStat = await lstat(fsPath(file), { bigint: true }).catch((error) => {
        throw fileError(file, error);
      });
      const mark = this.#mark(after);
      if (digest !== undefined && mark === this.#mark(before)) {
        this.#remember(path, settled ? { mark, digest, age: 0 } : undefined);
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

  #remember(path: ImagePath, entry: IndexEntry | undefined): void {
    if (entry !== undefined) this.#known.set(path, entry);
    else if (!this.#known.delete(path)) return;
    this.#changed = true;
  }

  /** Times in the future, which a clock that was set back leaves, are as young as those of this moment. */
  #settled({ mtimeNs, ctimeNs }: FileStat): boolean {
    const limit = BigInt(Math.floor(this.#options.clock() - SETTLED_MS)) * 1_000_000n;
    return mtimeNs < limit && ctimeNs < limit;
  }

  #aged(): ReadonlyMap<string, IndexEntry> {
    const entries = new Map<string, IndexEntry>();
    for (const [path, entry] of this.#known) {
      const age = this.#asked.has(path) ? 0 : entry.age + 1;
      if (age < FORGOTTEN_AGE) entries.set(path, { ...entry, age });
    }
    return entries;
  }

  /** Removes what a process left that died while saving. */
  async #removeStaleTemps(): Promise<void> {
    const folder = joinHost(this.#options.root, 'index');
    for (const name of await readdir(folder)) {
      if (!name.endsWith('.tmp')) continue;
      const temp = joinHost(folder, name);
      const stat = await statOf(temp).catch(() => undefined);
      const age = stat === undefined ? 0 : this.#options.clock() - stat.mtimeMs;
      if (age > STALE_TEMP_MS) await rm(temp, { force: true });
    }
  }
}

function isFile({ mode }: FileStat): boolean {
  return (mode & S_IFMT) === S_IFREG;
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
