import {
  type Digest,
  type Entry,
  type HostPath,
  type ImagePath,
  parentPath,
  ROOT_PATH,
  type Tree,
} from '../../core/index.ts';
import type { FetchedFile } from './contract.ts';

/** The reference's mode for files from web servers. */
const PRIVATE = 0o600;

/** One file from a web server as a tree: it lies at the root, under the name that its address gives it. */
export class FileTree implements Tree {
  readonly entry: Entry;
  readonly #file: FetchedFile;

  constructor(name: ImagePath, file: FetchedFile) {
    this.#file = file;
    const mtime = { sec: file.mtime, nsec: 0 };
    this.entry = { path: name, type: 'file', mode: PRIVATE, uid: 0, gid: 0, size: file.size, mtime };
  }

  async lstat(path: ImagePath): Promise<Entry | undefined> {
    if (path === this.entry.path) return this.entry;
    if (path !== ROOT_PATH) return undefined;
    return { path, type: 'dir', mode: 0o755, uid: 0, gid: 0, size: 0, mtime: this.entry.mtime };
  }

  async list(path: ImagePath): Promise<readonly Entry[]> {
    return path === parentPath(this.entry.path) ? [this.entry] : [];
  }

  async digest(path: ImagePath): Promise<Digest> {
    if (path !== this.entry.path) throw new Error(`${JSON.stringify(path)} is no file here`);
    return this.#file.digest;
  }

  async hostPath(): Promise<HostPath> {
    return this.#file.path;
  }
}
