import { readFileSync, writeFileSync } from 'node:fs';
import { LRUCache } from 'lru-cache';
import { type Digest, errnoOf, type HostPath, type ImagePath, joinHost } from '../core/index.ts';
import type { DiffIndex } from './diff-index.ts';
import { decodeFolders, encodeFolders, encodePatchedFolders, type FolderFacts } from './folder-facts.ts';

/** Files of about this many bytes are kept in memory. */
const MOST_CACHED_BYTES = 64 * 1024 * 1024;

const UID = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)?$/;

interface PatchFacts {
  readonly digests: ReadonlyMap<ImagePath, Digest> | undefined;
  readonly original: string;
}

/** The `folders` files of a store's diffs. They only save time: one that is absent or torn leaves a diff that is not compared. */
export class FolderFiles {
  readonly #dataFolder: HostPath;
  readonly #files = new LRUCache<string, { readonly file: Buffer; readonly facts: FolderFacts }>({
    maxSize: MOST_CACHED_BYTES,
    sizeCalculation: ({ file }) => file.length,
  });

  constructor(dataFolder: HostPath) {
    this.#dataFolder = dataFolder;
  }

  /**
   * Writes the file of the diff in `home` that nobody else knows yet, where it can have one. Returns its bytes, for {@link keep}.
   *
   * @param digests of the content of its files.
   */
  write(
    home: HostPath,
    index: DiffIndex,
    digests: ReadonlyMap<ImagePath, Digest> | undefined,
  ): Buffer | undefined {
    const file = encodeFolders(index, digests);
    if (file !== undefined) writeFileSync(joinHost(home, 'folders'), file, { mode: 0o600 });
    return file;
  }

  /**
   * The same of a patch.
   *
   * @param digests of the content of its own files. @param original the data folder of its original.
   */
  writePatched(home: HostPath, index: DiffIndex, { digests, original }: PatchFacts): Buffer | undefined {
    if (this.get(original) === undefined) return undefined;
    const was = this.#files.peek(original)?.file;
    const file = was === undefined ? undefined : encodePatchedFolders(index, digests, was);
    if (file !== undefined) writeFileSync(joinHost(home, 'folders'), file, { mode: 0o600 });
    return file;
  }

  /** What the diff in data folder `uid` says; undefined where there is none, or that is not known. */
  get(uid: string): FolderFacts | undefined {
    const known = this.#files.get(uid);
    if (known !== undefined) return known.facts;
    if (!UID.test(uid)) return undefined;
    try {
      // In this thread: the file is read in the time that two hand-overs to another one take.
      return this.keep(uid, readFileSync(joinHost(this.#dataFolder, uid, 'folders')));
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return undefined;
    }
  }

  /** Remembers the file of the diff in data folder `uid`. */
  keep(uid: string, file: Buffer | undefined): FolderFacts | undefined {
    const facts = file === undefined ? undefined : decodeFolders(file);
    if (file !== undefined && facts !== undefined) this.#files.set(uid, { file, facts });
    return facts;
  }
}
