import { randomUUID } from 'node:crypto';
import { copyFile, link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import {
  asDigest,
  type Digest,
  digestOf,
  errnoOf,
  type HostPath,
  isDigest,
  joinHost,
  MachineError,
  withoutCredentials,
} from '../../core/index.ts';
import {
  type BlobStore,
  ConnectionError,
  connectionHint,
  decompress,
  type HttpResponse,
  type Transport,
} from '../../image/index.ts';
import type { FetchedFile, FetchFileOptions } from './contract.ts';

export interface HttpFilesOptions {
  /** `sources/http` in the state folder. */
  readonly folder: HostPath;
  /** Of this process; on the store's file system. */
  readonly temporary: HostPath;
  readonly blobs: Pick<BlobStore, 'size' | 'isWhole' | 'put' | 'pathOf'>;
  readonly transport: Transport;
  readonly userAgent: string;
  /** Absent: {@link MAX_BYTES}. */
  readonly maxBytes?: number;
}

/** What an address gave last time. */
interface Remembered {
  readonly digest: Digest;
  readonly size: number;
  readonly etag?: string;
  /** The digest of the address that redirects ended at: the tag is a word of that server about that address. */
  readonly from?: string;
  readonly mtime: number;
}

/** The answer of the address that redirects ended at. */
interface Answer {
  readonly response: HttpResponse;
  readonly from: string;
  /** Was it asked whether the file is still the same? */
  readonly isConditional: boolean;
}

const MAX_REDIRECTS = 10;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MAX_BYTES = 32 * 2 ** 30;

/** Files from web servers: their bytes in the blob store, and for each address what the server said of them. */
export class HttpFiles {
  readonly #options: HttpFilesOptions;

  constructor(options: HttpFilesOptions) {
    this.#options = options;
  }

  /** See `Sources.fetchFile`. */
  async fetch(url: string, options: FetchFileOptions): Promise<FetchedFile> {
    const { checksum } = options;
    const known = await this.#known(url, checksum);
    if (checksum !== undefined && known?.digest === checksum) return this.#file(known);
    const fetched = await this.#ask(url, known, options);
    if (checksum !== undefined && fetched.digest !== checksum) {
      throw new MachineError(
        'http-checksum-mismatch',
        `digest mismatch for ${withoutCredentials(url)}: ${fetched.digest} (expected: ${checksum})`,
        { hint: 'The file is another one now. Check the change, then give its digest.' },
      );
    }
    return this.#file(fetched);
  }

  async #ask(url: string, known: Remembered | undefined, options: FetchFileOptions): Promise<Remembered> {
    const { response, from, isConditional } = await this.#request(url, known, options);
    if (response.status === 304 && known !== undefined && isConditional) {
      await drain(response);
      return known;
    }
    if (response.status < 200 || response.status >= 300) {
      await drain(response);
      throw new MachineError(
        'http-refused',
        `${withoutCredentials(url)}: invalid response status ${response.status}`,
        {
          hint:
            response.status === 404
              ? 'Check the address.'
              : 'Check the address, and what the server lets you in by.',
        },
      );
    }
    const fetched = { ...(await this.#store(url, response, options)), from };
    await this.#remember(url, fetched);
    return fetched;
  }

  /** Follows redirects. A tag goes to the address that it came from alone: another one may use the same for other bytes. */
  async #request(url: string, known: Remembered | undefined, options: FetchFileOptions): Promise<Answer> {
    const { signal } = options;
    let at = new URL(url);
    let authorization = options.authorization ?? basic(at);
    for (let hops = 0; hops <= MAX_REDIRECTS; hops += 1) {
      const bare = new URL(at);
      bare.username = '';
      bare.password = '';
      bare.hash = '';
      const from = digestOf(bare.href);
      const condition = known?.from === from ? known.etag : undefined;
      const headers = {
        'user-agent': this.#options.userAgent,
        accept: '*/*',
        'accept-encoding': 'identity',
        ...(condition === undefined ? {} : { 'if-none-match': condition }),
        ...(authorization === undefined ? {} : { authorization }),
      };
      const response = await this.#send(url, { method: 'GET', url: bare, headers, insecure: false, signal });
      if (!REDIRECTS.has(response.status)) return { response, from, isConditional: condition !== undefined };
      const location = response.header('location');
      await drain(response);
      const next = location === undefined ? undefined : URL.parse(location, at);
      if (next === null || next === undefined || !/^https?:$/.test(next.protocol)) {
        throw new MachineError(
          'http-refused',
          `${withoutCredentials(url)} redirects to ${JSON.stringify(location ?? '')}, which is no address`,
        );
      }
      if (next.host !== at.host || next.protocol !== at.protocol) authorization = undefined;
      authorization = basic(next) ?? authorization;
      at = next;
    }
    throw new MachineError(
      'http-refused',
      `${withoutCredentials(url)} redirects more than ${MAX_REDIRECTS} times`,
      { hint: 'Give the address that it should end at.' },
    );
  }

  async #send(url: string, request: Parameters<Transport>[0]): Promise<HttpResponse> {
    try {
      return await this.#options.transport(request);
    } catch (error) {
      throw connectionFailure(url, error);
    }
  }

  async #store(url: string, response: HttpResponse, options: FetchFileOptions): Promise<Remembered> {
    const { blobs, maxBytes = MAX_BYTES } = this.#options;
    const length = Number(response.header('content-length') ?? Number.NaN);
    const total = Number.isSafeInteger(length) ? length : undefined;
    if (total !== undefined && total > maxBytes) {
      await drain(response);
      throw tooLarge(url, maxBytes);
    }
    const encoded = /\b(?:gzip|zstd)\b/i.test(response.header('content-encoding') ?? '');
    const counted = count(response.body, { url, maxBytes, total, options });
    try {
      const { digest, size } = await blobs.put(
        encoded ? bounded(decompress(counted), url, maxBytes) : counted,
      );
      const etag = response.header('etag');
      return {
        digest,
        size,
        mtime: seconds(response.header('last-modified')),
        // A weak tag says that two files mean the same, not that they are the same (RFC 9110, section 8.8.1).
        ...(etag === undefined || etag.startsWith('W/') ? {} : { etag }),
      };
    } catch (error) {
      throw connectionFailure(url, error);
    }
  }

  /** What is known of an address whose bytes are still here, as they came; undefined also where it would be of no use. */
  async #known(url: string, checksum: Digest | undefined): Promise<Remembered | undefined> {
    let text: string;
    try {
      text = await readFile(this.#noteOf(url), 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
    const known = readNote(text);
    if (known === undefined || (await this.#options.blobs.size(known.digest)) !== known.size)
      return undefined;
    if (known.etag === undefined && known.digest !== checksum) return undefined;
    return (await this.#options.blobs.isWhole(known.digest)) ? known : undefined;
  }

  async #remember(url: string, fetched: Remembered): Promise<void> {
    const { folder } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const note = this.#noteOf(url);
    const temporary = joinHost(this.#options.temporary, `http-${randomUUID()}`);
    await writeFile(temporary, JSON.stringify(fetched), { flag: 'wx', mode: 0o600 });
    await rename(temporary, note);
  }

  #noteOf(url: string): HostPath {
    return joinHost(this.#options.folder, `${digestOf(url).slice('sha256:'.length)}.json`);
  }

  /** Gives the bytes a name of this process, under which no other one's pruning takes them away. */
  async #file({ digest, size, mtime }: Remembered): Promise<FetchedFile> {
    const { blobs, temporary } = this.#options;
    const path = joinHost(temporary, `http-${randomUUID()}`);
    try {
      await link(blobs.pathOf(digest), path);
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      await rm(path, { force: true });
      await copyFile(blobs.pathOf(digest), path);
    }
    return { digest, size, path, mtime };
  }
}

function basic(url: URL): string | undefined {
  if (url.username === '' && url.password === '') return undefined;
  const text = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return `Basic ${Buffer.from(text).toString('base64')}`;
}

/** RFC 9110, section 5.6.7; 0 for what is no date. */
function seconds(date: string | undefined): number {
  const ms = date === undefined ? Number.NaN : Date.parse(date);
  return Number.isNaN(ms) ? 0 : Math.floor(ms / 1000);
}

interface Counting {
  readonly url: string;
  readonly maxBytes: number;
  readonly total: number | undefined;
  readonly options: FetchFileOptions;
}

async function* count(body: AsyncIterable<Uint8Array>, counting: Counting): AsyncGenerator<Uint8Array> {
  const { url, maxBytes, total, options } = counting;
  let current = 0;
  for await (const chunk of body) {
    options.signal.throwIfAborted();
    current += chunk.byteLength;
    if (current > maxBytes) throw tooLarge(url, maxBytes);
    options.onProgress?.(current, total);
    yield chunk;
  }
}

async function* bounded(
  body: AsyncIterable<Uint8Array>,
  url: string,
  maxBytes: number,
): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of body) {
    size += chunk.byteLength;
    if (size > maxBytes) throw tooLarge(url, maxBytes);
    yield chunk;
  }
}

/** Reads a short answer to its end, so that the connection can be used again; leaves a long one. */
async function drain(response: HttpResponse): Promise<void> {
  let bytes = 0;
  try {
    for await (const chunk of response.body) {
      bytes += chunk.byteLength;
      if (bytes > 64 * 1024) break;
    }
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
  }
}

function tooLarge(url: string, maxBytes: number): MachineError {
  return new MachineError(
    'http-too-large',
    `${withoutCredentials(url)} has more than ${maxBytes} bytes, the most that is taken from a web server`,
  );
}

function connectionFailure(url: string, error: unknown): unknown {
  if (!(error instanceof ConnectionError)) return error;
  return new MachineError('http-unreachable', `cannot fetch ${withoutCredentials(url)}: ${error.message}`, {
    hint: connectionHint(error),
    cause: error,
  });
}

function readNote(text: string): Remembered | undefined {
  let note: unknown;
  try {
    note = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof note !== 'object' || note === null) return undefined;
  const { digest, size, etag, from, mtime } = note as Readonly<Record<string, unknown>>;
  if (typeof digest !== 'string' || !isDigest(digest)) return undefined;
  if (typeof size !== 'number' || typeof mtime !== 'number') return undefined;
  return {
    digest: asDigest(digest),
    size,
    mtime,
    ...(typeof etag === 'string' ? { etag } : {}),
    ...(typeof from === 'string' ? { from } : {}),
  };
}
