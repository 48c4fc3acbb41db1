import { readFile } from 'node:fs/promises';
import {
  type Descriptor,
  type Digest,
  digestHex,
  digestOf,
  errnoOf,
  familiarName,
  type HostPath,
  type ImageConfig,
  type ImageIndex,
  joinHost,
  MEDIA_TYPE,
  parseReference,
} from '../core/index.ts';
import { type ArchiveFile, bytesFile, tarOf, writeArchiveFolder } from './archive.ts';
import type { Layer } from './contract.ts';
import { mediaTypeOf, parseConfig, parseIndex, parseManifest } from './manifest.ts';

/** An image to write out. `manifest` names `config` and, in order, the descriptors of `layers`. */
export interface ImageToWrite {
  readonly manifest: Uint8Array;
  readonly config: Uint8Array;
  readonly layers: readonly Layer[];
  /** Full references. */
  readonly names: readonly string[];
  /** Of the descriptor that names the manifest. */
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Images for several platforms to write out, under an index that names their manifests. */
export interface IndexToWrite {
  readonly index: Uint8Array;
  readonly images: readonly ImageToWrite[];
  /** Full references of the whole. */
  readonly names: readonly string[];
  /** Of the descriptor that names the index. */
  readonly annotations?: Readonly<Record<string, string>>;
}

/**
 * The files of an OCI image layout (image-spec, image-layout.md): `index.json` lists each image once for each of its names, with
 * the annotations that BuildKit writes, so that containerd, Docker and Podman find the names.
 */
export function ociLayoutFiles(images: readonly (ImageToWrite | IndexToWrite)[]): readonly ArchiveFile[] {
  const blobs = new Map<Digest, ArchiveFile>();
  for (const image of images)
    for (const [digest, file] of 'index' in image ? indexFiles(image) : blobFiles(image))
      blobs.set(digest, file);
  const index: ImageIndex = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.ociIndex,
    manifests: images.flatMap(indexEntries),
  };
  return [
    ...[...blobs.values()].sort((a, b) => (a.path < b.path ? -1 : 1)),
    jsonFile('index.json', index),
    jsonFile('oci-layout', { imageLayoutVersion: '1.0.0' }),
  ];
}

/**
 * The same with `manifest.json` and `repositories`, as `docker save` writes them and `docker load` of any age reads them. Of several platforms,
 * these name the first alone: who reads them knows of no index.
 */
export function dockerArchiveFiles(images: readonly (ImageToWrite | IndexToWrite)[]): readonly ArchiveFile[] {
  const singles = images.flatMap((image) =>
    'index' in image ? image.images.slice(0, 1).map((one) => ({ ...one, names: image.names })) : [image],
  );
  const manifests = singles.map(({ config, layers, names }) => ({
    Config: blobPath(digestOf(config)),
    RepoTags: names.map(shortName),
    Layers: layers.map((layer) => blobPath(layer.descriptor.digest)),
  }));
  return [
    ...ociLayoutFiles(images),
    jsonFile('manifest.json', manifests),
    jsonFile('repositories', repositories(singles)),
  ];
}

/**
 * Writes such files below `folder`. A layout that is there already keeps its other images, as in BuildKit: an entry goes where one of
 * these has its name, or where both have none.
 *
 * @throws MachineError `image-invalid` where the folder's own index cannot be read; `disk-full`, `store-io`.
 */
export async function writeLayoutFolder(files: readonly ArchiveFile[], folder: HostPath): Promise<void> {
  const before = await readIndexOf(folder);
  const merged = await Promise.all(
    files.map(async (file) => {
      if (before === undefined || file.path !== 'index.json') return file;
      const chunks: Uint8Array[] = [];
      for await (const chunk of file.open()) chunks.push(chunk);
      const { manifests } = parseIndex(Buffer.concat(chunks));
      const keys = new Set(manifests.map(entryKey));
      const kept = before.manifests.filter((entry) => !keys.has(entryKey(entry)));
      return jsonFile('index.json', { ...before, manifests: [...kept, ...manifests] });
    }),
  );
  await writeArchiveFolder(merged, folder);
}

async function readIndexOf(folder: HostPath): Promise<ImageIndex | undefined> {
  try {
    return parseIndex(await readFile(joinHost(folder, 'index.json')));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** What tells two entries of a layout apart: their names. Those without one are one, so that a folder has no more of them than it got last. */
function entryKey({ annotations }: Descriptor): string {
  return (
    annotations?.['io.containerd.image.name'] ?? annotations?.['org.opencontainers.image.ref.name'] ?? ''
  );
}

/** `type=oci` as a tar. */
export function writeOciArchive(images: readonly (ImageToWrite | IndexToWrite)[]): AsyncIterable<Uint8Array> {
  return tarOf(ociLayoutFiles(images));
}

/** `type=docker`, and what `save` writes. */
export function writeDockerArchive(
  images: readonly (ImageToWrite | IndexToWrite)[],
): AsyncIterable<Uint8Array> {
  return tarOf(dockerArchiveFiles(images));
}

function blobFiles(image: ImageToWrite): [Digest, ArchiveFile][] {
  const { config, layers } = parseManifest(image.manifest);
  const named = [config, ...layers].map((descriptor) => descriptor.digest);
  const given = [digestOf(image.config), ...image.layers.map((layer) => layer.descriptor.digest)];
  if (named.join() !== given.join())
    throw new Error('the manifest names other blobs than those to be written');
  return [
    ...[image.manifest, image.config].map((bytes): [Digest, ArchiveFile] => {
      const digest = digestOf(bytes);
      return [digest, bytesFile(blobPath(digest), bytes)];
    }),
    ...image.layers.map((layer): [Digest, ArchiveFile] => {
      const { digest, size } = layer.descriptor;
      return [digest, { path: blobPath(digest), size, open: layer.open }];
    }),
  ];
}

function indexFiles({ index, images }: IndexToWrite): [Digest, ArchiveFile][] {
  const digest = digestOf(index);
  return [...images.flatMap(blobFiles), [digest, bytesFile(blobPath(digest), index)]];
}

function blobPath(digest: Digest): string {
  return `blobs/sha256/${digestHex(digest)}`;
}

function jsonFile(path: string, value: unknown): ArchiveFile {
  return bytesFile(path, Buffer.from(JSON.stringify(value)));
}

function indexEntries(image: ImageToWrite | IndexToWrite): readonly Descriptor[] {
  const descriptor = descriptorOf(image);
  if (image.names.length === 0) return [descriptor];
  return image.names.map((name) => ({
    ...descriptor,
    annotations: { ...descriptor.annotations, ...nameAnnotations(name) },
  }));
}

/** What names the image: its manifest with its platform, or its index. */
export function descriptorOf(image: ImageToWrite | IndexToWrite): Descriptor {
  const document = 'index' in image ? image.index : image.manifest;
  return {
    mediaType: mediaTypeOf(document),
    digest: digestOf(document),
    size: document.byteLength,
    ...('index' in image ? {} : { platform: platformOf(parseConfig(image.config)) }),
    ...(image.annotations === undefined ? {} : { annotations: image.annotations }),
  };
}

function platformOf({ architecture, os, variant }: ImageConfig): NonNullable<Descriptor['platform']> {
  return { architecture, os, ...(variant === undefined ? {} : { variant }) };
}

function nameAnnotations(name: string): Readonly<Record<string, string>> {
  const reference = parseReference(name);
  const tag = reference.ok ? reference.value.tag : undefined;
  return {
    'io.containerd.image.name': name,
    ...(tag === undefined ? {} : { 'org.opencontainers.image.ref.name': tag }),
  };
}

function shortName(name: string): string {
  const reference = parseReference(name);
  return reference.ok ? familiarName(reference.value) : name;
}

/** Repository -> tag -> topmost layer, as old versions of Docker want it. */
function repositories(images: readonly ImageToWrite[]): Record<string, Record<string, string>> {
  const found: Record<string, Record<string, string>> = {};
  for (const { names, layers } of images) {
    const top = layers.at(-1);
    for (const name of names) {
      const reference = parseReference(name);
      if (!reference.ok || reference.value.tag === undefined || top === undefined) continue;
      const { tag, host, repository } = reference.value;
      const short = familiarName({ host, repository });
      found[short] = { ...found[short], [tag]: digestHex(top.descriptor.digest) };
    }
  }
  return found;
}
