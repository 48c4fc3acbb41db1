import { createHash } from 'node:crypto';
import {
  asDigest,
  type Descriptor,
  type DiffId,
  type Digest,
  digestOf,
  formatReference,
  type ImagePath,
  imagePath,
  isDigest,
  MEDIA_TYPE,
  type Platform,
  parentPath,
  parseReference,
} from '../core/index.ts';
import { refused } from './byte-source.ts';
import type { BlobInfo, BlobStore, UnpackLimits } from './contract.ts';
import { type Compression, compressionOf, decompress } from './decompress.ts';
import {
  invalid,
  isDescriptor,
  isObject,
  isStringArray,
  MAX_JSON_BYTES,
  parseJson,
  parseObject,
} from './json.ts';
import { encodeManifest, parseConfig, parseManifest } from './manifest.ts';
import { isAttestation, selectManifest } from './platform.ts';
import { readTar, type TarEntry } from './tar-reader.ts';

/** Archives hold compressed or plain layers of several images: twice what one layer may have. */
export const DEFAULT_ARCHIVE_LIMITS: UnpackLimits = {
  maxBytes: 64 * 1024 ** 3,
  maxEntries: 100_000,
  maxHeaderBytes: 64 * 1024,
};

/** One image of an archive; its layers are blobs in the store. Fits `ImageStore.put`. */
export interface LoadedImage {
  readonly manifest: Uint8Array;
  readonly config: Uint8Array;
  readonly layers: readonly Descriptor[];
  /** Full references; none where the archive has no names. */
  readonly names: readonly string[];
}

/** What one entry of an archive means: an image, and those for other platforms under its index. */
export interface LoadedGroup {
  /** The one for this machine, with the names of all. */
  readonly image: LoadedImage;
  readonly others: readonly LoadedImage[];
  readonly index?: string;
}

export interface LoadOptions {
  readonly blobs: BlobStore;
  /** Chooses among the images of a multi-platform index. */
  readonly platform: Platform;
  readonly limits?: UnpackLimits;
  readonly signal?: AbortSignal;
}

/** What was found in an archive. */
interface Contents {
  readonly documents: ReadonlyMap<string, Uint8Array>;
  readonly files: ReadonlyMap<string, BlobInfo>;
  readonly links: ReadonlyMap<string, ImagePath>;
}

const BLOB = /^blobs\/sha256\/([0-9a-f]{64})$/;
const OTHER_DIGEST = /^blobs\/[^/]+\/[^/]+$/;

/**
 * Reads an OCI image layout or a `docker save` archive (of Docker before and since 25, of Podman, of BuildKit), plain or
 * compressed; of an index all images that the archive holds whole. Blobs must have the digests that they are called by, layers the diffIds of their configuration. No
 * image is added to a store: that is for the caller, with `ImageStore.put`; blobs of a load that failed go with the next
 * prune (another process may rely on them by now, so that they cannot be taken out at once).
 *
 * @throws MachineError `layer-refused` for a hostile or broken tar, `image-invalid` where it holds no whole image,
 * `digest-mismatch`, `disk-full`.
 */
export async function loadArchive(
  input: AsyncIterable<Uint8Array>,
  options: LoadOptions,
): Promise<readonly LoadedGroup[]> {
  const contents = await readContents(input, options);
  const groups = await imagesOf(contents, options);
  for (const { image, others } of groups)
    for (const one of [image, ...others]) await verifyLayers(one, options);
  return groups;
}

async function readContents(input: AsyncIterable<Uint8Array>, options: LoadOptions): Promise<Contents> {
  const documents = new Map<string, Uint8Array>();
  const files = new Map<string, BlobInfo>();
  const links = new Map<string, ImagePath>();
  for await (const entry of readTar(decompress(input), options.limits ?? DEFAULT_ARCHIVE_LIMITS)) {
    options.signal?.throwIfAborted();
    const path = archivePath(entry.name);
    if (entry.type === 'symlink') links.set(path, imagePath(entry.linkName, parentPath(path)));
    if (entry.type === 'hardlink') links.set(path, archivePath(entry.linkName));
    if (entry.type !== 'file') continue;
    if (isDocument(path)) {
      documents.set(path, await readDocument(entry));
    } else if (isBlob(path)) {
      files.set(path, await storeBlob(path, entry, options.blobs));
    }
  }
  return { documents, files, links };
}

function archivePath(name: string): ImagePath {
  if (name.split('/').includes('..')) throw refused(`${JSON.stringify(name)} leaves the archive`);
  return imagePath(name);
}

function isDocument(path: string): boolean {
  return (
    path === 'oci-layout' || path === 'repositories' || (path.endsWith('.json') && !path.startsWith('blobs/'))
  );
}

function isBlob(path: string): boolean {
  return BLOB.test(path) || (/\.tar(?:\.gz)?$/.test(path) && !OTHER_DIGEST.test(path));
}

async function readDocument(entry: TarEntry): Promise<Uint8Array> {
  if (entry.size > MAX_JSON_BYTES)
    throw refused(`${JSON.stringify(entry.name)} is larger than any such file`);
  const parts: Uint8Array[] = [];
  for await (const part of streamOf(entry)) parts.push(part);
  return Buffer.concat(parts);
}

async function storeBlob(path: string, entry: TarEntry, blobs: BlobStore): Promise<BlobInfo> {
  const hex = BLOB.exec(path)?.[1];
  const digest = hex === undefined ? {} : { digest: asDigest(`sha256:${hex}`) };
  return blobs.put(streamOf(entry), { ...digest, size: entry.size });
}

async function* streamOf(entry: TarEntry): AsyncGenerator<Uint8Array> {
  if (entry.content instanceof Uint8Array) yield entry.content;
  else yield* entry.content;
}

async function imagesOf(contents: Contents, options: LoadOptions): Promise<readonly LoadedGroup[]> {
  const index = contents.documents.get('index.json');
  const list = contents.documents.get('manifest.json');
  if (index === undefined && list === undefined) {
    throw invalid('the archive has neither index.json (OCI layout) nor manifest.json (docker save)');
  }
  const listed = list === undefined ? [] : await dockerImages(list, contents, options);
  const fromList = listed.map((image) => ({ image, others: [] }));
  const images = index === undefined ? fromList : withNames(await ociImages(index, options), fromList);
  if (images.length > 0) return images;
  throw invalid('the archive holds no image for this platform');
}

/** Names that only `manifest.json` tells go to the image with the same configuration. */
function withNames(groups: readonly LoadedGroup[], named: readonly LoadedGroup[]): readonly LoadedGroup[] {
  if (groups.length === 0) return named;
  return groups.map((group) => {
    const { image } = group;
    const same = named.filter((other) => Buffer.compare(other.image.config, image.config) === 0);
    const names = new Set([...image.names, ...same.flatMap((other) => other.image.names)]);
    return { ...group, image: { ...image, names: [...names].sort() } };
  });
}

async function ociImages(index: Uint8Array, options: LoadOptions): Promise<readonly LoadedGroup[]> {
  const groups = new Map<string, LoadedGroup>();
  for (const group of groupByName(descriptorsOf(index, 'index.json'))) {
    const chosen = await chooseManifest(group.descriptors, options);
    if (chosen === undefined) continue;
    const { descriptor, index: inner } = chosen;
    const id = `${descriptor.digest} ${inner === undefined ? '' : digestOf(inner)}`;
    const names = [...(groups.get(id)?.image.names ?? []), ...group.names];
    const image = { ...(await readImage(descriptor, options.blobs)), names };
    if (inner === undefined) groups.set(id, { image, others: [] });
    else {
      const others = await otherImages(inner, descriptor.digest, options.blobs);
      groups.set(id, { image, others, index: Buffer.from(inner).toString() });
    }
  }
  return [...groups.values()];
}

async function readImage({ digest, size, mediaType }: Descriptor, blobs: BlobStore): Promise<LoadedImage> {
  const manifest = await readJsonBlob({ digest, size, mediaType }, blobs);
  const { config, layers } = parseManifest(manifest);
  return { manifest, config: await readJsonBlob(config, blobs), layers, names: [] };
}

/** The images of an index beside the chosen one; those that lack a blob are left out, as an archive need not hold all. */
async function otherImages(
  index: Uint8Array,
  chosen: Digest,
  blobs: BlobStore,
): Promise<readonly LoadedImage[]> {
  const found: LoadedImage[] = [];
  for (const descriptor of descriptorsOf(index, 'an image index')) {
    const isImage = descriptor.platform !== undefined && !isAttestation(descriptor);
    if (descriptor.digest === chosen || !isImage || isIndexType(descriptor)) continue;
    if (!(await blobs.has(descriptor.digest))) continue;
    const { config, layers } = parseManifest(await readJsonBlob(descriptor, blobs));
    const missing = [];
    for (const { digest } of [config, ...layers]) if (!(await blobs.has(digest))) missing.push(digest);
    if (missing.length === 0) found.push(await readImage(descriptor, blobs));
  }
  return found;
}

function isIndexType({ mediaType }: Descriptor): boolean {
  return mediaType === MEDIA_TYPE.ociIndex || mediaType === MEDIA_TYPE.dockerIndex;
}

/** Entries of the same name are one image for several platforms; each entry without a name is an image of its own. */
function groupByName(
  descriptors: readonly Descriptor[],
): readonly { readonly names: readonly string[]; readonly descriptors: readonly Descriptor[] }[] {
  const named = new Map<string, Descriptor[]>();
  const unnamed: Descriptor[] = [];
  for (const descriptor of descriptors) {
    const name = nameOf(descriptor);
    if (name === undefined) unnamed.push(descriptor);
    else named.set(name, [...(named.get(name) ?? []), descriptor]);
  }
  return [
    ...[...named].map(([name, group]) => ({ names: [name], descriptors: group })),
    ...(unnamed.length === 0 ? [] : [{ names: [], descriptors: unnamed }]),
  ];
}

function nameOf({ annotations }: Descriptor): string | undefined {
  const full =
    annotations?.['io.containerd.image.name'] ?? annotations?.['org.opencontainers.image.ref.name'];
  return full === undefined || !/[/:]/.test(full) ? undefined : fullName(full);
}

function fullName(text: string): string | undefined {
  const reference = parseReference(text);
  return reference.ok ? formatReference(reference.value) : undefined;
}

async function chooseManifest(
  descriptors: readonly Descriptor[],
  options: LoadOptions,
  within: readonly Uint8Array[] = [],
): Promise<{ readonly descriptor: Descriptor; readonly index?: Uint8Array } | undefined> {
  const [only] = descriptors;
  const chosen = descriptors.length === 1 ? only : selectManifest(descriptors, options.platform);
  if (chosen === undefined) return undefined;
  const index = within.at(-1);
  if (!isIndexType(chosen)) return { descriptor: chosen, ...(index === undefined ? {} : { index }) };
  if (within.length > 4) throw invalid('the archive has an index inside an index inside an index');
  const inner = await readJsonBlob(chosen, options.blobs);
  return chooseManifest(descriptorsOf(inner, 'an image index'), options, [...within, inner]);
}

function descriptorsOf(bytes: Uint8Array, what: string): readonly Descriptor[] {
  const { manifests } = parseObject(bytes, what);
  if (!Array.isArray(manifests) || !manifests.every(isDescriptor))
    throw invalid(`${what} has no valid manifests`);
  return manifests;
}

async function readJsonBlob({ digest }: Descriptor, blobs: BlobStore): Promise<Uint8Array> {
  const size = await blobs.size(digest);
  if (size === undefined) throw invalid(`the archive lacks the blob ${digest}`);
  if (size > MAX_JSON_BYTES) throw invalid(`the blob ${digest} is too large for a manifest or configuration`);
  return blobs.read(digest);
}

async function dockerImages(
  list: Uint8Array,
  contents: Contents,
  { blobs }: LoadOptions,
): Promise<readonly LoadedImage[]> {
  const items = parseJson(list, 'manifest.json');
  if (!Array.isArray(items)) throw invalid('manifest.json is no list');
  const images: LoadedImage[] = [];
  for (const item of items) {
    if (!isObject(item) || typeof item['Config'] !== 'string' || !isStringArray(item['Layers'])) {
      throw invalid('manifest.json has an image without Config and Layers');
    }
    const tags = isStringArray(item['RepoTags']) ? item['RepoTags'] : [];
    const config = await configAt(item['Config'], contents, blobs);
    const layers: Descriptor[] = [];
    for (const path of item['Layers']) layers.push(await layerAt(path, contents, blobs));
    const names = tags.map(fullName).filter((name) => name !== undefined);
    images.push({ manifest: encodeManifest({ config, layers }), config, layers, names });
  }
  return images;
}

async function configAt(path: string, contents: Contents, blobs: BlobStore): Promise<Uint8Array> {
  const at = followLinks(path, contents);
  const bytes = contents.documents.get(at);
  if (bytes !== undefined) return bytes;
  const info = contents.files.get(at);
  if (info === undefined) throw invalid(`the archive lacks ${JSON.stringify(path)}`);
  return readJsonBlob({ mediaType: MEDIA_TYPE.ociConfig, ...info }, blobs);
}

async function layerAt(path: string, contents: Contents, blobs: BlobStore): Promise<Descriptor> {
  const info = contents.files.get(followLinks(path, contents));
  if (info === undefined) throw invalid(`the archive lacks the layer ${JSON.stringify(path)}`);
  const mediaType = LAYER_TYPE[await blobCompression(info.digest, blobs)];
  return { mediaType, digest: info.digest, size: info.size };
}

const LAYER_TYPE: Readonly<Record<Compression, string>> = {
  none: MEDIA_TYPE.ociLayer,
  gzip: MEDIA_TYPE.ociLayerGzip,
  zstd: MEDIA_TYPE.ociLayerZstd,
};

async function blobCompression(digest: Digest, blobs: BlobStore): Promise<Compression> {
  for await (const chunk of blobs.open(digest)) return compressionOf(chunk);
  return 'none';
}

/** Old archives link equal layers to one another. */
function followLinks(path: string, { links }: Contents): string {
  let at: string = archivePath(path);
  for (let hops = 0; hops < 40; hops += 1) {
    const next = links.get(at);
    if (next === undefined) return at;
    at = next;
  }
  throw refused(`${JSON.stringify(path)} is a ring of links`);
}

async function verifyLayers(image: LoadedImage, { blobs, signal }: LoadOptions): Promise<void> {
  const { diff_ids: diffIds } = parseConfig(image.config).rootfs;
  if (diffIds.length !== image.layers.length)
    throw invalid('manifest and configuration differ in their layers');
  for (const [at, diffId] of diffIds.entries()) {
    const layer = image.layers[at];
    if (layer === undefined || !isDigest(layer.digest)) throw invalid('the manifest lacks a layer');
    if ((await blobs.size(layer.digest)) === undefined)
      throw invalid(`the archive lacks the blob ${layer.digest}`);
    const found = await diffIdOf(blobs.open(layer.digest), signal);
    if (found !== diffId) throw invalid(`layer ${layer.digest} holds ${found} where ${diffId} was expected`);
  }
}

/** The diffId of a layer in any form: the digest of its plain bytes. */
export async function diffIdOf(stream: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<DiffId> {
  const hash = createHash('sha256');
  for await (const chunk of decompress(stream)) {
    signal?.throwIfAborted();
    hash.update(chunk);
  }
  return asDigest(`sha256:${hash.digest('hex')}`) as DiffId;
}
