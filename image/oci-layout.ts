import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import {
  type Descriptor,
  type Digest,
  digestHex,
  digestOf,
  errnoOf,
  type HostPath,
  type ImageConfig,
  type ImageManifest,
  isDigest,
  joinHost,
  MachineError,
  MEDIA_TYPE,
  type Platform,
} from '../core/index.ts';
import type { BlobStore } from './contract.ts';
import { invalid, isDescriptor, MAX_JSON_BYTES, parseObject } from './json.ts';
import { parseConfig, parseManifest } from './manifest.ts';
import { formatPlatform, selectManifest } from './platform.ts';

export interface OciLayoutOptions {
  readonly blobs: BlobStore;
  /** Chosen from an index of several. */
  readonly platform: Platform;
  /** `org.opencontainers.image.ref.name`, or the tag of the name that containerd wrote. */
  readonly tag?: string;
  readonly digest?: Digest;
  readonly signal?: AbortSignal;
}

/** One image of a layout; its layers are in the blob store. */
export interface LayoutImage {
  readonly manifestDigest: Digest;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
}

const MAX_DEPTH = 4;

/**
 * Finds an image in a folder of the OCI image layout (image-spec, image-layout.md) by digest, else by tag (`latest`, where
 * nothing is said), else as the only one, and brings its layers into the blob store.
 *
 * @throws MachineError `layout-missing` where the folder is no layout, `image-unknown`, `no-platform`, `image-invalid`,
 * `digest-mismatch`.
 */
export async function readOciLayout(folder: HostPath, options: OciLayoutOptions): Promise<LayoutImage> {
  const index = await readIndex(folder);
  const chosen = choose(index, folder, options);
  const found = await descend(folder, chosen, options);
  const { config, layers } = parseManifest(found.bytes);
  const image: LayoutImage = {
    manifestDigest: found.digest,
    manifest: parseManifest(found.bytes),
    config: parseConfig(await readBlob(folder, config)),
  };
  for (const layer of layers) await bring(folder, layer, options);
  return image;
}

async function readIndex(folder: HostPath): Promise<readonly Descriptor[]> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(joinHost(folder, 'index.json'));
  } catch (cause) {
    if (errnoOf(cause) === undefined) throw cause;
    throw new MachineError('layout-missing', `${folder} is no OCI layout: it has no index.json`, {
      hint: 'Give the folder that a tool such as skopeo or BuildKit (--output type=oci,tar=false) wrote.',
      cause,
    });
  }
  return descriptorsOf(bytes, 'index.json');
}

function descriptorsOf(bytes: Uint8Array, what: string): readonly Descriptor[] {
  const { manifests } = parseObject(bytes, what);
  if (!Array.isArray(manifests) || !manifests.every(isDescriptor))
    throw invalid(`${what} has no valid manifests`);
  return manifests;
}

function choose(index: readonly Descriptor[], folder: HostPath, options: OciLayoutOptions): Descriptor {
  const { tag, digest } = options;
  if (digest !== undefined) {
    // A digest may name what an index names: it need not be listed itself.
    return index.find((one) => one.digest === digest) ?? { mediaType: '', digest, size: 0 };
  }
  const tagged = index.find((one) => hasTag(one, tag ?? 'latest'));
  const [only] = index;
  const chosen = tagged ?? (index.length === 1 && tag === undefined ? only : undefined);
  if (chosen !== undefined) return chosen;
  throw new MachineError(
    'image-unknown',
    `failed to resolve digest: ${folder} has no image ${tag ?? 'latest'}`,
    {
      hint: 'Name one of its tags (oci-layout://FOLDER:TAG), or a digest (oci-layout://FOLDER@sha256:…).',
    },
  );
}

function hasTag({ annotations }: Descriptor, tag: string): boolean {
  const names = [
    annotations?.['org.opencontainers.image.ref.name'],
    annotations?.['io.containerd.image.name'],
  ];
  return names.some((name) => name === tag || name?.endsWith(`:${tag}`) === true);
}

async function descend(
  folder: HostPath,
  from: Descriptor,
  options: OciLayoutOptions,
): Promise<{ readonly bytes: Uint8Array; readonly digest: Digest }> {
  let at = from;
  for (let depth = 0; depth < MAX_DEPTH; depth += 1) {
    const bytes = await readBlob(folder, at);
    const { manifests } = parseObject(bytes, 'a manifest');
    const isIndex =
      at.mediaType === MEDIA_TYPE.ociIndex ||
      at.mediaType === MEDIA_TYPE.dockerIndex ||
      manifests !== undefined;
    if (!isIndex) return { bytes, digest: at.digest };
    const next = selectManifest(descriptorsOf(bytes, 'an image index'), options.platform);
    if (next === undefined) {
      throw new MachineError('no-platform', `${folder} has no image for ${formatPlatform(options.platform)}`);
    }
    at = next;
  }
  throw invalid('the layout has an index inside an index inside an index');
}

function pathOf(folder: HostPath, { digest }: Descriptor): HostPath {
  if (!isDigest(digest)) throw invalid(`${JSON.stringify(digest)} is no sha256 digest`);
  return joinHost(folder, 'blobs', 'sha256', digestHex(digest));
}

/** A manifest, an index or a configuration, checked against its digest. */
async function readBlob(folder: HostPath, descriptor: Descriptor): Promise<Uint8Array> {
  const path = pathOf(folder, descriptor);
  try {
    const { size } = await stat(path);
    if (size > MAX_JSON_BYTES) throw invalid(`the blob ${descriptor.digest} is too large for a manifest`);
    const bytes = await readFile(path);
    if (digestOf(bytes) !== descriptor.digest)
      throw invalid(`the blob ${descriptor.digest} of the layout is damaged`);
    return bytes;
  } catch (error) {
    throw missing(folder, descriptor, error);
  }
}

async function bring(
  folder: HostPath,
  layer: Descriptor,
  { blobs, signal }: OciLayoutOptions,
): Promise<void> {
  signal?.throwIfAborted();
  if ((await blobs.size(layer.digest)) !== undefined) return;
  const path = pathOf(folder, layer);
  try {
    await stat(path);
  } catch (error) {
    throw missing(folder, layer, error);
  }
  await blobs.put(bytesOf(path), { digest: layer.digest, size: layer.size });
}

/** Opened when it is read, so that whoever reads it hears of what goes wrong. */
async function* bytesOf(path: HostPath): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path);
}

function missing(folder: HostPath, { digest }: Descriptor, error: unknown): unknown {
  if (errnoOf(error) !== 'ENOENT') return error;
  return new MachineError('image-unknown', `the layout ${folder} lacks the blob ${digest}`, { cause: error });
}
