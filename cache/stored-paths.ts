import { type Digest, encodePath, type ImagePath, parentPath, type TreeChange, USE } from '../core/index.ts';
import { decodePathSet, openPathSet, type PathSet, type PathSetBytes } from './path-set.ts';

const SLASH = Buffer.from('/');
/** Stands before a path that is written in another form, which may lie elsewhere in the order. */
const ESCAPE = 1;

/** A path set as it is stored, read only as far as it is asked for: ten thousand paths take longer to decode than to be searched. */
export class StoredPaths {
  readonly #bytes: PathSetBytes;
  #set: PathSet | undefined;
  #starts: Uint32Array | undefined;

  private constructor(bytes: PathSetBytes) {
    this.#bytes = bytes;
  }

  /** The bytes whose digest is `digest`; undefined for any others. */
  static open(bytes: Buffer, digest: Digest): StoredPaths | undefined {
    const opened = openPathSet(bytes, digest);
    return opened === undefined ? undefined : new StoredPaths(opened);
  }

  get digest(): Digest {
    return this.#bytes.digest;
  }

  get count(): number {
    return this.#bytes.count;
  }

  decoded(): PathSet {
    this.#set ??= decodePathSet(this.#bytes);
    return this.#set;
  }

  /** Whether one of `changes` reaches what is said of the paths; also told of some that do not. */
  isTouchedBy(changes: readonly TreeChange[]): boolean {
    if (this.count === 0 || changes.length === 0) return false;
    if (this.#bytes.names.includes(ESCAPE)) return true;
    return changes.some((change) => this.#isTouched(change));
  }

  #isTouched({ path, reach }: TreeChange): boolean {
    const key = encodePath(path);
    if (this.#placeOf(key) !== undefined) return true;
    if (reach === 'path') return false;
    return path === '' || this.#hasBelow(key) || this.#lists(parentPath(path));
  }

  #hasBelow(key: Buffer): boolean {
    const { names } = this.#bytes;
    const prefix = Buffer.concat([key, SLASH]);
    const at = this.#firstFrom(prefix);
    return names.subarray(at, at + prefix.length).equals(prefix);
  }

  #lists(folder: ImagePath): boolean {
    const at = this.#placeOf(encodePath(folder));
    if (at === undefined) return false;
    return ((this.#bytes.uses[this.#nth(at)] ?? USE.LISTING) & USE.LISTING) !== 0;
  }

  /** Where this path begins. */
  #placeOf(key: Buffer): number | undefined {
    const { names } = this.#bytes;
    const at = this.#firstFrom(key);
    if (at > names.length) return undefined;
    return names.compare(key, 0, key.length, at, this.#endOf(at)) === 0 ? at : undefined;
  }

  /** Where the first path begins that does not come before `key`; behind the end where all do. */
  #firstFrom(key: Buffer): number {
    const { names } = this.#bytes;
    let low = 0;
    let high = names.length + 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const start = middle === 0 ? 0 : names.lastIndexOf(0, middle - 1) + 1;
      const end = this.#endOf(start);
      if (names.compare(key, 0, key.length, start, end) < 0) low = end + 1;
      else high = start;
    }
    return low;
  }

  #endOf(start: number): number {
    const end = this.#bytes.names.indexOf(0, start);
    return end === -1 ? this.#bytes.names.length : end;
  }

  /** How many paths come before the one that begins at `start`. */
  #nth(start: number): number {
    this.#starts ??= this.#allStarts();
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0) < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #allStarts(): Uint32Array {
    const starts = new Uint32Array(this.count);
    for (let nth = 1, at = 0; nth < starts.length; nth += 1) {
      at = this.#endOf(at) + 1;
      starts[nth] = at;
    }
    return starts;
  }
}
