import { type Descriptor, type Digest, MachineError, type Reference } from '../../core/index.ts';
import type { Registry } from '../contract.ts';
import { type Client, createClient, discard, failureOf, unreachableRegistry } from './client.ts';
import type { CredentialStore, Credentials } from './credentials.ts';
import { type Endpoint, originEndpoints, pullEndpoints, type RegistryConfig } from './endpoint.ts';
import { fetchBlob, type PullOptions, resolveAt } from './pull.ts';
import { type PushOptions, pushBlob, pushManifest, uploadsOf } from './push.ts';
import { ConnectionError, createTransport, type Transport } from './transport.ts';

export interface RegistryOptions {
  readonly credentials: Pick<CredentialStore, 'get'>;
  readonly config: RegistryConfig;
  readonly userAgent: string;
  /** Absent: Node's HTTP client. */
  readonly transport?: Transport;
  /** Waits between attempts. */
  readonly sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
}

/** Blobs at once in each direction, as the Docker engine's defaults. */
const DOWNLOADS = 4;
const UPLOADS = 4;

/** Failures of one endpoint after which the next one (the registry behind a mirror) may do better. */
const NEXT_MAY_HELP: readonly string[] = [
  'registry-unreachable',
  'registry-protocol',
  'registry-denied',
  'image-unknown',
  'image-invalid',
  'digest-mismatch',
  'blob-incomplete',
];

export function createRegistry(options: RegistryOptions): Registry {
  const transport = options.transport ?? createTransport();
  const clientWith = (credentials: (host: string) => Promise<Credentials | undefined>): Client =>
    createClient({
      transport,
      credentials,
      userAgent: options.userAgent,
      ...(options.sleep === undefined ? {} : { sleep: options.sleep }),
    });
  const client = clientWith((host) => options.credentials.get(host));

  const pullFrom = <T>(
    reference: Reference,
    signal: AbortSignal | undefined,
    work: (at: PullOptions) => Promise<T>,
  ) =>
    firstThatWorks(pullEndpoints(reference.host, options.config), (endpoint) =>
      work({ client, endpoint, reference, signal }),
    );

  return {
    resolve: (reference, platform, signal) => pullFrom(reference, signal, (at) => resolveAt(at, platform)),

    fetchBlobs: async (reference, descriptors, { blobs, onProgress, signal }) => {
      const missing: Descriptor[] = [];
      for (const descriptor of uniqueBlobs(descriptors)) {
        const { digest, size } = descriptor;
        const there = (await blobs.size(digest)) === size;
        onProgress?.({ digest, current: there ? size : 0, total: size, state: there ? 'exists' : 'waiting' });
        if (!there) missing.push(descriptor);
      }
      await eachOf(missing, { limit: DOWNLOADS, signal }, (descriptor, ownSignal) =>
        pullFrom(reference, ownSignal, (at) =>
          fetchBlob(at, descriptor, { blobs, ...(onProgress === undefined ? {} : { onProgress }) }),
        ),
      );
    },

    push: (reference, image, { mountFrom = [], onProgress, signal }) =>
      firstThatWorks(originEndpoints(reference.host, options.config), async (endpoint) => {
        const at: PushOptions = { client, endpoint, reference, mountFrom, onProgress, signal };
        await eachOf(uploadsOf(image.layers, image.config), { limit: UPLOADS, signal }, (upload, ownSignal) =>
          pushBlob({ ...at, signal: ownSignal }, upload),
        );
        return pushManifest(at, image.manifest);
      }),

    pushIndex: (reference, index, signal) =>
      firstThatWorks(originEndpoints(reference.host, options.config), (endpoint) =>
        pushManifest({ client, endpoint, reference, mountFrom: [], onProgress: undefined, signal }, index),
      ),

    ping: (host, credentials, signal) =>
      firstThatWorks(originEndpoints(host, options.config), (endpoint) =>
        ping(credentials === undefined ? client : clientWith(async () => credentials), endpoint, signal),
      ),
  };
}

/** distribution-spec, "Determining Support"; tells whether credentials are taken, too. */
async function ping(client: Client, endpoint: Endpoint, signal: AbortSignal | undefined): Promise<void> {
  const url = new URL(`${endpoint.base}/`);
  const call = { method: 'GET', url, headers: {}, endpoint, scopes: [] } as const;
  const response = await client.send({ ...call, ...(signal === undefined ? {} : { signal }) });
  if (response.status !== 200) throw await failureOf(response, endpoint, 'asking for the registry API');
  await discard(response);
}

/** Tries the endpoints in order; the last one's failure is told, being that of the registry itself. */
async function firstThatWorks<T>(
  endpoints: readonly Endpoint[],
  work: (endpoint: Endpoint) => Promise<T>,
): Promise<T> {
  const [first, ...rest] = endpoints;
  if (first === undefined) throw new Error('a registry has no endpoint');
  try {
    return await work(first);
  } catch (failure) {
    const error = failure instanceof ConnectionError ? unreachableRegistry(first, failure) : failure;
    const next = error instanceof MachineError && NEXT_MAY_HELP.includes(error.code);
    if (rest.length === 0 || !next) throw error;
  }
  return firstThatWorks(rest, work);
}

function uniqueBlobs(descriptors: readonly Descriptor[]): readonly Descriptor[] {
  return [...new Map<Digest, Descriptor>(descriptors.map((one) => [one.digest, one])).values()];
}

/** Runs `work` on each item, at most `limit` at once; the first failure aborts the others and is thrown when all have ended. */
async function eachOf<T>(
  items: readonly T[],
  { limit, signal }: { readonly limit: number; readonly signal: AbortSignal | undefined },
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const both = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const queue = items.values();
  const failures: unknown[] = [];
  async function lane(): Promise<void> {
    for (const item of queue) {
      if (both.aborted) return;
      try {
        await work(item, both);
      } catch (error) {
        failures.push(error);
        stop.abort(error);
        return;
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  signal?.throwIfAborted();
  if (failures.length > 0) throw failures[0];
}
