import { type Descriptor, type Digest, digestOf, MachineError, type Reference } from '../../core/index.ts';
import type { Layer, TransferProgress } from '../contract.ts';
import { mediaTypeOf } from '../manifest.ts';
import { type Client, discard, failureOf, isPassing, unreachableRegistry } from './client.ts';
import { blobUrl, type Endpoint, manifestUrl } from './endpoint.ts';
import { ConnectionError, type HttpResponse } from './transport.ts';

export interface PushOptions {
  readonly client: Client;
  readonly endpoint: Endpoint;
  readonly reference: Reference;
  readonly mountFrom: readonly string[];
  readonly onProgress: TransferProgress | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Something to upload that can be read again when an upload has to begin again. */
export interface Upload {
  readonly descriptor: Pick<Descriptor, 'digest' | 'size'>;
  open(): AsyncIterable<Uint8Array>;
}

const PROGRESS_BYTES = 256 * 1024;

function scopesOf({ reference, mountFrom }: PushOptions): readonly string[] {
  return [
    `repository:${reference.repository}:pull,push`,
    ...mountFrom.map((repository) => `repository:${repository}:pull`),
  ];
}

function withSignal({ signal }: PushOptions): { readonly signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

export function uploadsOf(layers: readonly Layer[], config: Uint8Array): readonly Upload[] {
  const byDigest = new Map<Digest, Upload>(layers.map((layer) => [layer.descriptor.digest, layer]));
  async function* open(): AsyncGenerator<Uint8Array> {
    yield config;
  }
  const digest = digestOf(config);
  byDigest.set(digest, { descriptor: { digest, size: config.byteLength }, open });
  return [...byDigest.values()];
}

/** distribution-spec, "Pushing blobs": skipped where the registry has it, mounted from a sibling, else sent in one piece. */
export async function pushBlob(options: PushOptions, upload: Upload): Promise<void> {
  const { digest, size } = upload.descriptor;
  const tell = (state: 'exists' | 'mounted' | 'done'): void =>
    options.onProgress?.({ digest, current: size, total: size, state });
  if (await hasBlob(options, digest)) return tell('exists');
  const attempt = await mount(options, digest);
  if (attempt === 'mounted') return tell('mounted');
  return finishUpload(options, upload, attempt);
}

/**
 * Tries to mount a blob from one of the siblings. A registry that cannot answers with an upload session; the first such is
 * given back to be used, later ones are left for the registry to clear away.
 */
async function mount(options: PushOptions, digest: Digest): Promise<'mounted' | HttpResponse | undefined> {
  let session: HttpResponse | undefined;
  for (const from of options.mountFrom) {
    if (from === options.reference.repository) continue;
    const response = await beginUpload(options, { mount: digest, from });
    if (response.status === 202 && session === undefined) {
      session = response;
      continue;
    }
    await discard(response);
    if (response.status !== 201) continue;
    if (session !== undefined) await discard(session);
    return 'mounted';
  }
  return session;
}

async function hasBlob(options: PushOptions, digest: Digest): Promise<boolean> {
  const { client, endpoint, reference } = options;
  const url = blobUrl(endpoint, reference, digest);
  const call = { method: 'HEAD', url, headers: {}, endpoint, scopes: scopesOf(options) } as const;
  const response = await client.send({ ...call, ...withSignal(options) });
  await discard(response);
  return response.status === 200;
}

async function beginUpload(
  options: PushOptions,
  query: Readonly<Record<string, string>>,
): Promise<HttpResponse> {
  const { client, endpoint, reference } = options;
  const url = new URL(`${endpoint.base}/${reference.repository}/blobs/uploads/`);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const headers = { 'content-length': '0' };
  const call = { method: 'POST', url, headers, endpoint, scopes: scopesOf(options) } as const;
  return client.send({ ...call, ...withSignal(options) });
}

/** Sends the blob; after a failure that passes the upload begins again, with a session of its own. */
async function finishUpload(
  options: PushOptions,
  upload: Upload,
  begun: HttpResponse | undefined,
): Promise<void> {
  const { client, endpoint, reference, signal } = options;
  const { digest, size } = upload.descriptor;
  let session = begun;
  for (let attempt = 1; ; attempt += 1) {
    let response: HttpResponse | undefined;
    let failure: unknown;
    try {
      response = await putBlob(options, upload, session ?? (await beginUpload(options, {})));
      if (response.status === 201 || response.status === 204) {
        await discard(response);
        options.onProgress?.({ digest, current: size, total: size, state: 'done' });
        return;
      }
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      failure = error;
    }
    session = undefined;
    const again =
      response === undefined || isPassing(response.status) || (response.status === 401 && attempt === 1);
    if (again && (await client.pause(attempt, response, signal))) continue;
    if (response === undefined) throw unreachableRegistry(endpoint, failure);
    throw await failureOf(response, endpoint, `pushing a layer of ${reference.repository}`);
  }
}

async function putBlob(options: PushOptions, upload: Upload, session: HttpResponse): Promise<HttpResponse> {
  const { client, endpoint } = options;
  if (session.status !== 202)
    throw await failureOf(session, endpoint, `pushing to ${options.reference.repository}`);
  await discard(session);
  const { digest, size } = upload.descriptor;
  const url = uploadUrl(session, options);
  url.searchParams.set('digest', digest);
  return client.sendOnce({
    method: 'PUT',
    url,
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(size) },
    body: counted(upload, options.onProgress),
    endpoint,
    scopes: scopesOf(options),
    ...withSignal(options),
  });
}

/** `Location` may be relative, may carry state in its query, and must not leave HTTPS. */
function uploadUrl(session: HttpResponse, { endpoint }: PushOptions): URL {
  const url = URL.parse(session.header('location') ?? '', `${endpoint.base}/`);
  const fits = url !== null && (url.protocol === 'https:' || endpoint.base.startsWith('http:'));
  if (fits) return url;
  throw new MachineError('registry-protocol', `${endpoint.host} gave no usable place for an upload`);
}

async function* counted(
  upload: Upload,
  onProgress: TransferProgress | undefined,
): AsyncGenerator<Uint8Array> {
  const { digest, size } = upload.descriptor;
  let current = 0;
  let told = 0;
  for await (const part of upload.open()) {
    yield part;
    current += part.byteLength;
    if (current - told < PROGRESS_BYTES) continue;
    told = current;
    onProgress?.({ digest, current, total: size, state: 'uploading' });
  }
}

/** Puts the manifest under the reference's tag (or its digest) and gives its digest back. */
export async function pushManifest(options: PushOptions, manifest: Uint8Array): Promise<Digest> {
  const { client, endpoint, reference } = options;
  const digest = digestOf(manifest);
  const name = reference.tag ?? digest;
  const response = await client.send({
    method: 'PUT',
    url: manifestUrl(endpoint, reference, name),
    headers: {
      'content-type': mediaTypeOf(manifest),
      'content-length': String(manifest.byteLength),
    },
    body: manifest,
    endpoint,
    scopes: scopesOf(options),
    ...withSignal(options),
  });
  if (response.status !== 201)
    throw await failureOf(response, endpoint, `pushing ${reference.repository}:${name}`);
  await discard(response);
  return digest;
}
