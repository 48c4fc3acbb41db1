import { appendFile, readFile } from 'node:fs/promises';
import { asDigest, type Digest, digestHex, errnoOf, type HostPath, type ImagePath } from '../core/index.ts';

const LINE = /^([0-9a-f]{64}) (".*")$/;

/**
 * The digests of a diff's files that somebody has asked for, in memory and in a side file: a line per file, hex digits and
 * the path as JSON. A diff never changes, so a note holds for good; a lost or torn line is computed again.
 */
export class DigestNotes {
  readonly #file: HostPath;
  readonly #known = new Map<ImagePath, Promise<Digest>>();
  #loaded: Promise<void> | undefined;
  #pending = '';
  #writing: Promise<void> | undefined;

  constructor(file: HostPath) {
    this.#file = file;
  }

  async get(path: ImagePath, compute: () => Promise<Digest>): Promise<Digest> {
    this.#loaded ??= this.#load();
    await this.#loaded;
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const computed = compute();
    this.#known.set(path, computed);
    try {
      this.#note(path, await computed);
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
      const [, hex, path] = LINE.exec(line) ?? [];
      if (hex === undefined || path === undefined) continue;
      const parsed = parsePath(path);
      if (parsed !== undefined) this.#known.set(parsed, Promise.resolve(asDigest(`sha256:${hex}`)));
    }
  }

  #note(path: ImagePath, digest: Digest): void {
    this.#pending += `${digestHex(digest)} ${JSON.stringify(path)}\n`;
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

function parsePath(json: string): ImagePath | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'string' ? (value as ImagePath) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
