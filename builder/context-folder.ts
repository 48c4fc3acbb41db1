import {
  comparePaths,
  type Digest,
  digestHex,
  type Entry,
  entryOfRow,
  type ImagePath,
  isDirRow,
  isFileRow,
  isLinkedRow,
  joinPath,
  joinRows,
  type LookedFolder,
  rowAt,
  type StatRow,
} from '../core/index.ts';

const DIGEST_ROW = 1 + 32;
const KNOWN = 1;

/** What lies in one folder of a context: rows rather than entries, which are made anew whenever they are asked for. */
export class ContextFolder {
  readonly #path: ImagePath;
  readonly #looked: LookedFolder;
  #next = -1;
  /** Of each name, whether its digest is known, and the digest. */
  #digests: Buffer | undefined;
  readonly #present: ((entry: Entry) => Entry) | undefined;

  /** @param looked has its names in the order of their bytes. @param present how an entry is to be seen, where not as it lies on disk. */
  constructor(path: ImagePath, looked: LookedFolder, present: ((entry: Entry) => Entry) | undefined) {
    this.#path = path;
    this.#looked = looked;
    this.#present = present;
  }

  get looked(): LookedFolder {
    return this.#looked;
  }

  /** In path order. */
  entries(): readonly Entry[] {
    return this.#looked.names.map((name, at) => this.#entry(name, at));
  }

  /** The paths of the folders among them. */
  folders(): readonly ImagePath[] {
    const { names, rows } = this.#looked;
    return names.filter((_, at) => isDirRow(rowAt(rows, at))).map((name) => joinPath(this.#path, name));
  }

  entry(name: string): Entry | undefined {
    const at = this.#find(name);
    return at === undefined ? undefined : this.#entry(name, at);
  }

  /** Have any of the files other names too? */
  hasLinks(): boolean {
    const { names, rows } = this.#looked;
    return names.some((_, at) => isFileRow(rowAt(rows, at)) && isLinkedRow(rowAt(rows, at)));
  }

  row(name: string): StatRow | undefined {
    const at = this.#find(name);
    return at === undefined ? undefined : rowAt(this.#looked.rows, at);
  }

  /** The digest of a file that was {@link remember}ed. */
  digest(name: string): Digest | undefined {
    const at = this.#digests === undefined ? undefined : this.#find(name);
    if (at === undefined || this.#digests?.[at * DIGEST_ROW] !== KNOWN) return undefined;
    const from = at * DIGEST_ROW + 1;
    return `sha256:${this.#digests.toString('hex', from, from + DIGEST_ROW - 1)}` as Digest;
  }

  /** Keeps the digest of a file: what was copied must be what was fingerprinted, and is asked for again then. */
  remember(name: string, digest: Digest): void {
    const at = this.#find(name);
    if (at === undefined) return;
    this.#digests ??= Buffer.alloc(this.#looked.names.length * DIGEST_ROW);
    this.#digests[at * DIGEST_ROW] = KNOWN;
    this.#digests.write(digestHex(digest), at * DIGEST_ROW + 1, 'hex');
  }

  #entry(name: string, at: number): Entry {
    const { rows, targets } = this.#looked;
    const entry = entryOfRow(rowAt(rows, at), joinPath(this.#path, name), targets.get(at));
    return this.#present?.(entry) ?? entry;
  }

  #find(name: string): number | undefined {
    const { names } = this.#looked;
    // Mostly they are asked for in their order.
    this.#next += 1;
    if (names[this.#next] === name) return this.#next;
    const at = this.#search(name);
    if (at !== undefined) this.#next = at;
    return at;
  }

  #search(name: string): number | undefined {
    const { names } = this.#looked;
    let low = 0;
    let high = names.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const other = names[middle] ?? '';
      if (other === name) return middle;
      if (comparePaths(other, name) < 0) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }
}

/** What of `looked` is `kept`, by the number of each name. */
export function keepNames(looked: LookedFolder, kept: readonly number[]): LookedFolder {
  if (kept.length === looked.names.length) return looked;
  const targets = new Map<number, string>();
  const names = kept.map((from, to) => {
    const target = looked.targets.get(from);
    if (target !== undefined) targets.set(to, target);
    return looked.names[from] ?? '';
  });
  const rows = joinRows(kept.map((at) => rowAt(looked.rows, at)));
  return { names, rows, targets };
}
