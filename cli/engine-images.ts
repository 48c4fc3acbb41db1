import { BaseImages, type ContainerImage, type UsableImage } from '../builder/index.ts';
import {
  type DiffId,
  type Digest,
  digestOf,
  formatReference,
  MachineError,
  type Platform,
  parseReference,
  type Reference,
  UsageError,
} from '../core/index.ts';
import {
  compressLayer,
  encodeManifest,
  type ImageToWrite,
  type Layer,
  loadArchive,
  parsePlatform,
  type StoredImage,
  writeDockerArchive,
} from '../image/index.ts';
import type {
  ImageDetails,
  ImageSummary,
  RemovedImage,
  RunRequest,
  TransferOptions,
} from './engine-contract.ts';
import type { EngineParts } from './engine-parts.ts';

/** What the commands do with images. */
export class EngineImages {
  readonly #parts: EngineParts;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  async list(): Promise<readonly ImageSummary[]> {
    const sizes = await this.#diffSizes();
    const created = (image: StoredImage): number => Date.parse(image.config.created ?? '') || 0;
    return (await this.#parts.images.list())
      .map((image) => ({ image, size: sum(layerSizes(image, sizes)) }))
      .sort((a, b) => created(b.image) - created(a.image));
  }

  async find(nameOrId: string): Promise<ImageDetails | undefined> {
    const image = await this.#parts.images.resolve(nameOrId);
    if (image === undefined) return undefined;
    const sizes = layerSizes(image, await this.#diffSizes());
    return { image, size: sum(sizes), layerSizes: sizes };
  }

  async tag(source: string, target: string): Promise<void> {
    const image = await this.#stored(source);
    await this.#parts.images.tag(image.manifestDigest, target);
  }

  async remove(nameOrId: string, options: { readonly force: boolean }): Promise<readonly RemovedImage[]> {
    const { images } = this.#parts;
    const image = await this.#stored(nameOrId);
    const name = fullName(nameOrId);
    const byName = image.names.includes(name);
    if (!byName && image.names.length > 1 && !options.force) {
      throw new MachineError(
        'image-in-use',
        `image ${image.configDigest.slice(7, 19)} has several names: ${image.names.join(', ')}`,
        {
          hint: 'Remove the names one by one, or all of them with --force.',
        },
      );
    }
    const gone: RemovedImage[] = [];
    for (const each of byName ? [name] : image.names) {
      await images.untag(each);
      gone.push({ kind: 'untagged', name: each });
    }
    if (byName && image.names.length > 1) return gone;
    await images.delete(image.manifestDigest);
    return [...gone, { kind: 'deleted', id: image.configDigest }];
  }

  async pull(
    name: string,
    options: TransferOptions & { readonly platform?: string },
  ): Promise<{ readonly image: StoredImage; readonly upToDate: boolean }> {
    const reference = readReference(name);
    const before = await this.#parts.images.resolve(formatReference(reference));
    const platform = this.#platform(options.platform);
    const bases = this.#bases({ pull: true, ...options });
    const found = await bases.lookUp(reference, platform);
    await bases.unpack(found);
    await this.#parts.images.tag(found.manifestDigest, formatReference(reference));
    const image = await this.#stored(formatReference(reference));
    return { image, upToDate: before?.manifestDigest === image.manifestDigest };
  }

  async push(
    name: string,
    { signal, onProgress }: TransferOptions,
  ): Promise<{ readonly digest: Digest; readonly size: number }> {
    const reference = readReference(name);
    const image = await this.#travelling(await this.#stored(formatReference(reference)), signal);
    const digest = await this.#parts.registry.push(reference, image, {
      signal,
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    return { digest, size: image.manifest.byteLength };
  }

  async *save(names: readonly string[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { blobs, images } = this.#parts;
    const wanted = new Map<Digest, ImageToWrite>();
    for (const name of names) {
      const image = await this.#stored(name);
      const config = await blobs.read(image.configDigest);
      const given = image.names.filter((known) => known === fullName(name));
      const before = wanted.get(image.manifestDigest)?.names ?? [];
      wanted.set(image.manifestDigest, {
        manifest: await blobs.read(image.manifestDigest),
        config,
        layers: await images.layersOf(image),
        names: [...before, ...given],
      });
    }
    for await (const chunk of writeDockerArchive([...wanted.values()])) {
      signal.throwIfAborted();
      yield chunk;
    }
  }

  async load(archive: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<readonly StoredImage[]> {
    const { blobs, images, platform } = this.#parts;
    const loaded: StoredImage[] = [];
    for (const image of await loadArchive(archive, { blobs, platform, signal })) {
      loaded.push(await images.put({ ...image }));
    }
    return loaded;
  }

  /** The image of a container, with its layers unpacked. */
  async forRun(request: RunRequest, options: TransferOptions): Promise<ContainerImage> {
    const { images, platform } = this.#parts;
    const bases = this.#bases({ pull: request.pull === 'always', ...options });
    const stored = request.pull === 'always' ? undefined : await images.resolve(request.image);
    if (stored === undefined && request.pull === 'never') throw unknownImage(request.image);
    const image =
      stored === undefined ? await bases.lookUp(readReference(request.image), platform) : usable(stored);
    return { config: image.config, snapshot: await bases.unpack(image) };
  }

  #bases(options: TransferOptions & { readonly pull: boolean }): BaseImages {
    const { pull, signal, onProgress } = options;
    return new BaseImages({
      parts: this.#parts,
      pull,
      signal,
      ...(onProgress === undefined ? {} : { beginPull: () => ({ onProgress, [Symbol.dispose]: () => {} }) }),
    });
  }

  #platform(text: string | undefined): Platform {
    if (text === undefined) return this.#parts.platform;
    const platform = parsePlatform(text, this.#parts.platform);
    if (platform === undefined)
      throw new UsageError(
        `--platform: ${JSON.stringify(text)} is no platform`,
        'Write os/architecture, such as linux/amd64.',
      );
    return platform;
  }

  async #stored(nameOrId: string): Promise<StoredImage> {
    const image = await this.#parts.images.resolve(nameOrId);
    if (image === undefined) throw unknownImage(nameOrId);
    return image;
  }

  async #travelling(stored: StoredImage, signal: AbortSignal): Promise<ImageToWrite> {
    const { blobs, images, layerTable } = this.#parts;
    const config = await blobs.read(stored.configDigest);
    const layers: Layer[] = [];
    let changed = false;
    for (const layer of await images.layersOf(stored)) {
      signal.throwIfAborted();
      const compressed = await compressLayer(layer, { compression: 'gzip' }, { blobs, table: layerTable });
      changed ||= compressed.descriptor.digest !== layer.descriptor.digest;
      layers.push(compressed);
    }
    // An image that was pulled keeps its manifest, and with it its digest.
    const manifest = changed
      ? encodeManifest({ config, layers: layers.map((layer) => layer.descriptor) })
      : await blobs.read(stored.manifestDigest);
    return { manifest, config, layers, names: stored.names };
  }

  async #diffSizes(): Promise<ReadonlyMap<DiffId, number>> {
    const diffs = await this.#parts.snapshotter.diffs();
    return new Map(diffs.map(({ diffId, bytes }) => [diffId, bytes]));
  }
}

/** Uncompressed sizes, lowest first; a layer that is not unpacked counts as it is stored. */
function layerSizes(image: StoredImage, sizes: ReadonlyMap<DiffId, number>): readonly number[] {
  return image.config.rootfs.diff_ids.map(
    (diffId, at) => sizes.get(diffId) ?? image.manifest.layers[at]?.size ?? 0,
  );
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function usable(stored: StoredImage): UsableImage {
  const { manifestDigest, manifest, config, names } = stored;
  const [name = `local/${digestOf(manifestDigest).slice(7, 19)}`] = names;
  return { reference: readReference(name), manifestDigest, manifest, config, platform: config };
}

function unknownImage(name: string): MachineError {
  return new MachineError('image-unknown', `no such image: ${name}`, {
    hint: 'See varve images for those that are here, or pull it.',
  });
}

/** A name in full; what is no name (an ID) as it is. */
function fullName(nameOrId: string): string {
  const parsed = parseReference(nameOrId);
  return parsed.ok ? formatReference(parsed.value) : nameOrId;
}

function readReference(name: string): Reference {
  const parsed = parseReference(name);
  if (!parsed.ok) throw new UsageError(parsed.error);
  return parsed.value;
}
