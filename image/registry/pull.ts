import {
  type Descriptor,
  type Digest,
  digestOf,
  type ImageManifest,
  isDigest,
  MachineError,
  MEDIA_TYPE,
  type Platform,
  type Reference,
} from '../../core/index.ts';
import type { BlobStore, ResolvedImage, TransferProgress } from '../contract.ts';
import { invalid, isDescriptor, MAX_JSON_BYTES, parseObject, textField } from '../json.ts';
import { parseConfig, parseManifest } from '../manifest.ts';
import { formatPlatform, selectManifest } from '../platform.ts';
import {
  answeredFailure,
  type Client,
  discard,
  failureOf,
  isPassing,
  unreachableRegistry,
} from './client.ts';
import { blobUrl, type Endpoint, manifestUrl } from './endpoint.ts';
import { ConnectionError, type HttpResponse } from './transport.ts';

export interface PullOptions {
  readonly client: Client;
  readonly endpoint: Endpoint;
  readonly reference: Reference;
  readonly signal: AbortSignal | undefined;
}

const INDEX_TYPES: readonly string[] = [MEDIA_TYPE.ociIndex, MEDIA_TYPE.dockerIndex];
const ACCEPT = [
  MEDIA_TYPE.ociManifest,
  MEDIA_TYPE.ociIndex,
  MEDIA_TYPE.dockerManifest,
  MEDIA_TYPE.dockerIndex,
].join(', ');
const MAX_INDEX_DEPTH = 3;
/** Progress is told each time so many more bytes came. */
const PROGRESS_BYTES = 256 * 1024;

export function pullScopes({ repository }: Reference): readonly string[] {
  return [`repository:${repository}:pull`];
}

/** Manifest and configuration from one endpoint (distribution-spec, "Pulling manifests"). */
export async function resolveAt(options: PullOptions, platform: Platform): Promise<ResolvedImage> {
  const { reference } = options;
  const found = await findManifest(options, platform);
  const configBytes = await fetchSmallBlob(options, found.manifest.config);
  const config = parseConfig(configBytes);
  if (config.rootfs.diff_ids.length !== found.manifest.layers.length) {
    throw invalid(`the manifest and the configuration of ${reference.repository} differ in their layers`);
  }
  return {
    reference,
    manifestDigest: found.digest,
    manifest: found.manifest,
    manifestBytes: found.bytes,
    config,
    configBytes,
    ...(found.index === undefined ? {} : { indexBytes: found.index }),
  };
}

interface FoundManifest {
  readonly digest: Digest;
  readonly manifest: ImageManifest;
  readonly bytes: Uint8Array;
  /** The index that names it. */
  readonly index: Uint8Array | undefined;
}

async function findManifest(options: PullOptions, platform: Platform): Promise<FoundManifest> {
  const { reference } = options;
  let name: string = reference.digest ?? reference.tag ?? 'latest';
  let index: Uint8Array | undefined;
  for (let depth = 0; depth <= MAX_INDEX_DEPTH; depth += 1) {
    const document = await fetchManifest(options, name);
    if (!INDEX_TYPES.includes(document.mediaType)) {
      const { digest, bytes } = document;
      return { digest, manifest: parseManifest(bytes), bytes, index };
    }
    index = document.bytes;
    const { manifests } = parseObject(document.bytes, 'the image index');
    const listed = Array.isArray(manifests) ? manifests.filter(isDescriptor) : [];
    const chosen = selectManifest(listed, platform);
    if (chosen === undefined) {
      const offered = listed.flatMap((one) =>
        one.platform === undefined ? [] : [formatPlatform(one.platform)],
      );
      throw noPlatform(reference, platform, offered);
    }
    name = chosen.digest;
  }
  throw new MachineError(
    'registry-protocol',
    `${reference.repository} has an index inside an index inside an index`,
  );
}

/** What a registry's image lacks, in one sentence, with what it has. */
export function noPlatform(
  reference: Reference,
  platform: Platform,
  offered: readonly string[],
): MachineError {
  const list = [...new Set(offered)].filter((one) => one !== 'unknown/unknown').join(', ');
  return new MachineError(
    'no-platform',
    `${reference.repository} has no image for ${formatPlatform(platform)}`,
    {
      hint: list === '' ? 'choose another tag' : `it has images for ${list}`,
    },
  );
}

async function fetchManifest(
  options: PullOptions,
  name: string,
): Promise<{ readonly bytes: Uint8Array; readonly digest: Digest; readonly mediaType: string }> {
  const { client, endpoint, reference, signal } = options;
  const { response, bytes } = await client.read({
    method: 'GET',
    url: manifestUrl(endpoint, reference, name),
    headers: { accept: ACCEPT },
    endpoint,
    scopes: pullScopes(reference),
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.status !== 200) {
    throw answeredFailure({ response, bytes }, endpoint, `pulling ${reference.repository}:${name}`);
  }
  const digest = digestOf(bytes);
  const expected = isDigest(name) ? name : response.header('docker-content-digest');
  if (expected !== undefined && isDigest(expected) && expected !== digest) {
    throw new MachineError(
      'digest-mismatch',
      `the manifest of ${reference.repository} is ${digest}, not ${expected}`,
      {
        hint: 'the registry or something on the way to it is broken or hostile; nothing was kept',
      },
    );
  }
  const own = textField(parseObject(bytes, 'the image manifest'), 'mediaType');
  const mediaType = own ?? (response.header('content-type') ?? '').split(';')[0]?.trim() ?? '';
  return { bytes, digest, mediaType };
}

async function fetchSmallBlob(options: PullOptions, descriptor: Descriptor): Promise<Uint8Array> {
  if (descriptor.size > MAX_JSON_BYTES) {
    throw new MachineError(
      'image-invalid',
      `the configuration of ${options.reference.repository} is too large`,
    );
  }
  const parts: Uint8Array[] = [];
  for await (const part of blobBytes(options, descriptor)) parts.push(part);
  const bytes = Buffer.concat(parts);
  if (digestOf(bytes) === descriptor.digest) return bytes;
  throw new MachineError(
    'digest-mismatch',
    `blob ${descriptor.digest} of ${options.reference.repository} is damaged`,
    {
      hint: 'the registry or something on the way to it is broken or hostile; nothing was kept',
    },
  );
}

/** Brings one blob into the store; one that is there is not asked for. */
export async function fetchBlob(
  options: PullOptions,
  descriptor: Descriptor,
  target: { readonly blobs: BlobStore; readonly onProgress?: TransferProgress },
): Promise<void> {
  const { digest, size } = descriptor;
  const tell = (current: number, state: 'downloading' | 'done'): void =>
    target.onProgress?.({ digest, current, total: size, state });
  async function* counted(): AsyncGenerator<Uint8Array> {
    let current = 0;
    let told = 0;
    for await (const part of blobBytes(options, descriptor)) {
      current += part.byteLength;
      if (current - told >= PROGRESS_BYTES) {
        told = current;
        tell(current, 'downloading');
      }
      yield part;
    }
  }
  tell(0, 'downloading');
  await target.blobs.put(counted(), { digest, size });
  tell(size, 'done');
}

/**
 * The bytes of a blob, unverified. After a cut the rest is asked for with a Range request; where the server sends the whole
 * again, what was had is skipped. Attempts are counted from the last progress.
 */
async function* blobBytes(options: PullOptions, descriptor: Descriptor): AsyncGenerator<Uint8Array> {
  const { client, endpoint, reference, signal } = options;
  let received = 0;
  for (let attempt = 1; ; attempt += 1) {
    const before = received;
    let response: HttpResponse | undefined;
    let failure: unknown;
    try {
      response = await requestFrom(options, descriptor, received);
      if (!isPassing(response.status)) {
        for await (const part of bodyFrom(response, { options, descriptor, received })) {
          received += part.byteLength;
          yield part;
        }
        if (received >= descriptor.size) return;
        failure = new ConnectionError(
          `${endpoint.host} ended a blob after ${received} of ${descriptor.size} bytes`,
        );
      }
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      failure = error;
    }
    if (received > before) attempt = 1;
    const nextIsBetter = endpoint.isMirror && received === 0 && failure !== undefined;
    if (!nextIsBetter && (await client.pause(attempt, response, signal))) continue;
    if (failure === undefined && response !== undefined) {
      throw await failureOf(response, endpoint, `pulling ${reference.repository}`);
    }
    if (received === 0) throw unreachableRegistry(endpoint, failure);
    throw cutShort(options, { descriptor, received }, failure);
  }
}

function cutShort(
  { endpoint, reference }: PullOptions,
  blob: { readonly descriptor: Descriptor; readonly received: number },
  cause: unknown,
): MachineError {
  const { digest, size } = blob.descriptor;
  const reason = cause instanceof Error ? cause.message : 'no answer';
  return new MachineError(
    'blob-incomplete',
    `blob ${digest} of ${reference.repository} ended after ${blob.received} of ${size} bytes: ${reason}`,
    { hint: `try again; if it stays so, ${endpoint.host} or something on the way to it is broken`, cause },
  );
}

async function requestFrom(
  options: PullOptions,
  { digest }: Descriptor,
  from: number,
): Promise<HttpResponse> {
  const { client, endpoint, reference, signal } = options;
  return client.sendOnce({
    method: 'GET',
    url: blobUrl(endpoint, reference, digest),
    headers: from === 0 ? {} : { range: `bytes=${from}-` },
    endpoint,
    scopes: pullScopes(reference),
    ...(signal === undefined ? {} : { signal }),
  });
}

async function* bodyFrom(
  response: HttpResponse,
  at: { readonly options: PullOptions; readonly descriptor: Descriptor; readonly received: number },
): AsyncGenerator<Uint8Array> {
  const { options, received } = at;
  if (response.status === 206) {
    const start = /^bytes ([0-9]+)-/.exec(response.header('content-range') ?? '')?.[1];
    if (Number(start) !== received) {
      await discard(response);
      throw new MachineError(
        'registry-protocol',
        `${options.endpoint.host} sent another part than was asked for`,
      );
    }
    yield* response.body;
    return;
  }
  if (response.status !== 200) {
    throw await failureOf(response, options.endpoint, `pulling a layer of ${options.reference.repository}`);
  }
  let skip = received;
  for await (const part of response.body) {
    if (skip < part.byteLength) yield skip === 0 ? part : part.subarray(skip);
    skip = Math.max(0, skip - part.byteLength);
  }
}
