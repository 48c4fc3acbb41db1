import { appendFile, readFile, writeFile } from 'node:fs/promises';
import {
  type Change,
  type Digest,
  digestHex,
  errnoOf,
  type HostPath,
  type ImagePath,
} from '../core/index.ts';

const LINE = /^[0-9a-f]{64} ".*"$/;
const HEX_DIGITS = 64;

/**
 * The digests of a diff's files that somebody has asked for, in memory and in a side file: a line per file, hex digits and
 * the path as JSON. A diff never changes, so a note holds for good; a lost or torn line is computed again.
 */
export class DigestNotes {
  readonly #file: HostPath;
  readonly #known = new Map<ImagePath, Digest | Promise<Digest>>();
  #loaded: Promise<void> | undefined;
  #pending = '';
  #writing: Promise<void> | undefined;

  constructor(file: HostPath) {
    this.#file = file;
  }

  /** What is in memory; {@link load} and the first {@link get} read the side file. */
  known(path: ImagePath): Digest | undefined {
    const known = this.#known.get(path);
    return typeof known === 'string' ? known : undefined;
  }

  /** Reads the side file, once. */
  load(): Promise<void> {
    this.#loaded ??= this.#load();
    return this.#loaded;
  }

  async get(path: ImagePath, compute: () => Promise<Digest>): Promise<Digest> {
    await this.load();
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const computed = compute();
    this.#known.set(path, computed);
    try {
      const digest = await computed;
      this.#known.set(path, digest);
      this.#note(path, digest);
    } catch (error) {
      this.#known.delete(path);
      throw error;
    }
    return computed;
  }

  async #load(): Promise<void> {
    let text: string;
    try {
      text = await readFile(this.#file, 'utf8');
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return;
    }
    for (const line of text.split('\n')) {
      // One test for both: there may be tens of thousands.
      if (!LINE.test(line)) continue;
      const path = parsePath(line.slice(HEX_DIGITS + 1));
      if (path !== undefined) this.#known.set(path, `sha256:${line.slice(0, HEX_DIGITS)}` as Digest);
    }
  }

  #note(path: ImagePath, digest: Digest): void {
    this.#pending += noteLine(path, digest);
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    while (this.#pending !== '') {
      const lines = this.#pending;
      this.#pending = '';
      try {
        // A leading newline ends whatever a killed process may have left half-written.
        await appendFile(this.#file, `\n${lines}`, { mode: 0o600 });
      } catch (error) {
        // The notes only save time: a full disk, or a diff that was removed meanwhile, costs no more than that.
        if (errnoOf(error) === undefined) throw error;
      }
    }
    this.#writing = undefined;
  }
}

/** Begins the side file of a diff that nobody else knows yet. */
export async function writeNotes(file: HostPath, digests: ReadonlyMap<ImagePath, Digest>): Promise<void> {
  if (digests.size === 0) return;
  let lines = '';
  for (const [path, digest] of digests) lines += noteLine(path, digest);
  await writeFile(file, lines, { mode: 0o600 });
}

/** Known digests of the files among `changes`, each by the first name of its file. */
export function digestsOf(
  changes: readonly Change[],
  known: ReadonlyMap<ImagePath, Digest>,
): ReadonlyMap<ImagePath, Digest> {
  const digests = new Map<ImagePath, Digest>();
  for (const change of changes) {
    if (change.kind !== 'set' || change.entry.type !== 'file') continue;
    const { path, hardlinkTo = path } = change.entry;
    const digest = known.get(path);
    if (digest !== undefined) digests.set(hardlinkTo, digest);
  }
  return digests;
}

function noteLine(path: ImagePath, digest: Digest): string {
  return `${digestHex(digest)} ${JSON.stringify(path)}\n`;
}

function parsePath(json: string): ImagePath | undefined {
  // Most paths stand for themselves, and there may be tens of thousands.
  if (!json.includes('\\')) return json.slice(1, -1) as ImagePath;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'string' ? (value as ImagePath) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
