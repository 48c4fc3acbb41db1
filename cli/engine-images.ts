import { BaseImages, type ContainerImage, type UsableImage } from '../builder/index.ts';
import {
  type Descriptor,
  type DiffId,
  type Digest,
  digestOf,
  formatReference,
  MachineError,
  MEDIA_TYPE,
  type Platform,
  parseReference,
  type Reference,
  UsageError,
} from '../core/index.ts';
import {
  compressLayer,
  descriptorOf,
  encodeManifest,
  formatPlatform,
  type ImageToWrite,
  type IndexToWrite,
  isAttestation,
  type Layer,
  loadArchive,
  parseIndex,
  parsePlatform,
  platformRank,
  type StoredImage,
  shortPlatform,
  withManifests,
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

  async find(nameOrId: string, platform?: string): Promise<ImageDetails | undefined> {
    if ((await this.#parts.images.resolve(nameOrId)) === undefined) return undefined;
    const { main: image } = await this.#meant(nameOrId, platform);
    const sizes = layerSizes(image, await this.#diffSizes());
    return { image, size: sum(sizes), layerSizes: sizes };
  }

  async tag(source: string, target: string): Promise<void> {
    const meaning = await this.#parts.images.meaningOf(source);
    if (meaning === undefined) throw unknownImage(source);
    await this.#parts.images.tag(meaning, target);
  }

  async remove(
    nameOrId: string,
    options: { readonly force: boolean; readonly platform?: string },
  ): Promise<readonly RemovedImage[]> {
    const { images } = this.#parts;
    const { main: image, isOne } = await this.#meant(nameOrId, options.platform);
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
    const nameless = new Map<Digest, StoredImage>(
      image.names.length === 0 ? [[image.manifestDigest, image]] : [],
    );
    for (const each of byName ? [name] : image.names) {
      for (const lost of await images.untag(each, isOne ? image.manifestDigest : undefined))
        nameless.set(lost.manifestDigest, lost);
      gone.push({ kind: 'untagged', name: each });
    }
    const named = new Set(
      (await images.list()).flatMap((one) => (one.names.length === 0 ? [] : [one.manifestDigest])),
    );
    for (const { manifestDigest, configDigest } of nameless.values()) {
      if (named.has(manifestDigest)) continue;
      await images.delete(manifestDigest);
      gone.push({ kind: 'deleted', id: configDigest });
    }
    return gone;
  }

  async pull(
    name: string,
    options: TransferOptions & { readonly platform?: string },
  ): Promise<{ readonly image: StoredImage; readonly upToDate: boolean }> {
    const reference = readReference(name);
    const { images } = this.#parts;
    const before = await images.resolve(formatReference(reference));
    const platform = this.#platform(options.platform);
    const bases = this.#bases({ pull: true, ...options });
    const found = await bases.lookUp(reference, platform);
    await bases.unpack(found);
    const meaning = await images.meaningOf(formatReference(reference));
    await images.tag({ ...meaning, manifest: found.manifestDigest }, formatReference(reference));
    const image = await this.#stored(formatReference(reference));
    return { image, upToDate: before?.manifestDigest === image.manifestDigest };
  }

  /** Of a name that means several images the index over them; of `platform` that image alone. */
  async push(
    name: string,
    { signal, onProgress, platform }: TransferOptions & { readonly platform?: string },
  ): Promise<{ readonly digest: Digest; readonly size: number }> {
    const reference = readReference(name);
    const { main, others, index } = await this.#meant(formatReference(reference), platform);
    const { registry } = this.#parts;
    const options = { signal, ...(onProgress === undefined ? {} : { onProgress }) };
    if (index === undefined) {
      const image = await this.#travelling(main, signal);
      return { digest: await registry.push(reference, image, options), size: image.manifest.byteLength };
    }
    const { host, repository } = reference;
    const pushed = new Map<Digest, Descriptor>();
    for (const one of [main, ...others]) {
      const image = await this.#travelling(one, signal);
      await registry.push({ host, repository }, image, options);
      pushed.set(one.manifestDigest, descriptorOf(image));
    }
    const document = withManifests(index, ({ digest }) => pushed.get(digest));
    return { digest: await registry.pushIndex(reference, document, signal), size: document.byteLength };
  }

  async *save(names: readonly string[], signal: AbortSignal, platform?: string): AsyncGenerator<Uint8Array> {
    const wanted = new Map<Digest, ImageToWrite | IndexToWrite>();
    for (const name of names) {
      const { main, others, index } = await this.#meant(name, platform);
      const here = new Set([main, ...others].map(({ manifestDigest }) => manifestDigest));
      const document = index && withManifests(index, (one) => (here.has(one.digest) ? one : undefined));
      const id = document === undefined ? main.manifestDigest : digestOf(document);
      const given = main.names.filter((known) => known === fullName(name));
      const all = [...(wanted.get(id)?.names ?? []), ...given];
      const image = await this.#asStored(main);
      if (document === undefined) wanted.set(id, { ...image, names: all });
      else {
        const images = [image];
        for (const other of others) images.push(await this.#asStored(other));
        wanted.set(id, { index: document, images, names: all });
      }
    }
    for await (const chunk of writeDockerArchive([...wanted.values()])) {
      signal.throwIfAborted();
      yield chunk;
    }
  }

  async #asStored(image: StoredImage): Promise<ImageToWrite> {
    const { blobs, images } = this.#parts;
    return {
      manifest: await blobs.read(image.manifestDigest),
      config: await blobs.read(image.configDigest),
      layers: await images.layersOf(image),
      names: [],
    };
  }

  async load(archive: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<readonly StoredImage[]> {
    const { blobs, images, platform } = this.#parts;
    const loaded: StoredImage[] = [];
    for (const { image, others, index } of await loadArchive(archive, { blobs, platform, signal })) {
      const main = await images.put(image);
      loaded.push(main);
      if (index === undefined) continue;
      const platforms: [string, Digest][] = [
        [formatPlatform(shortPlatform(main.config)), main.manifestDigest],
      ];
      for (const other of others) {
        const { config, manifestDigest } = await images.put({ ...other, names: [] });
        platforms.push([formatPlatform(shortPlatform(config)), manifestDigest]);
      }
      const meaning = { manifest: main.manifestDigest, platforms: Object.fromEntries(platforms), index };
      for (const name of image.names) await images.tag(meaning, name);
    }
    return loaded;
  }

  /** The image of a container, with its layers unpacked. */
  async forRun(request: RunRequest, options: TransferOptions): Promise<ContainerImage> {
    const { images } = this.#parts;
    const platform = this.#platform(request.platform);
    const bases = this.#bases({ pull: request.pull === 'always', ...options });
    const wanted = request.platform === undefined ? undefined : platform;
    const found = request.pull === 'always' ? undefined : await images.resolve(request.image, wanted);
    const isFor = wanted === undefined || (found && platformRank(platform, found.config) !== undefined);
    const stored = isFor ? found : undefined;
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

  /**
   * The image that `nameOrId` means, or means for `platform`, and those for other platforms where it means all of them. `index`: what names
   * them, where it is more than that one image. `isOne`: only one of several was asked for.
   */
  async #meant(
    nameOrId: string,
    asked: string | undefined,
  ): Promise<{
    readonly main: StoredImage;
    readonly others: readonly StoredImage[];
    readonly index?: Uint8Array;
    readonly isOne: boolean;
  }> {
    const { images } = this.#parts;
    const meaning = await images.meaningOf(nameOrId);
    const [main, ...others] = meaning === undefined ? [] : await images.imagesOf(meaning);
    if (main === undefined) throw unknownImage(nameOrId);
    if (asked !== undefined) {
      const wanted = formatPlatform(this.#platform(asked));
      const one = [main, ...others].find(({ config }) => formatPlatform(shortPlatform(config)) === wanted);
      if (one === undefined) throw unknownPlatform(nameOrId, wanted, [main, ...others]);
      return { main: one, others: [], isOne: others.length > 0 };
    }
    const text = meaning?.index;
    const index = text === undefined ? undefined : Buffer.from(text);
    const isPart =
      index !== undefined &&
      others.length === 0 &&
      parseIndex(index).manifests.filter((one) => !isAttestation(one)).length > 1;
    const isOne = main.platformNames !== undefined && others.length === 0;
    return { main, others, isOne, ...(index === undefined || isPart ? {} : { index }) };
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
    const { mediaType, annotations } = stored.manifest;
    // An image that was pulled keeps its manifest, and with it its digest.
    const manifest = changed
      ? encodeManifest({
          config,
          layers: layers.map((layer) => layer.descriptor),
          mediaTypes: mediaType === MEDIA_TYPE.dockerManifest ? 'docker' : 'oci',
          ...(annotations === undefined ? {} : { annotations }),
        })
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

function unknownPlatform(name: string, wanted: string, images: readonly StoredImage[]): MachineError {
  const here = images.map(({ config }) => formatPlatform(shortPlatform(config)));
  return new MachineError('no-platform', `${name} has no image for ${wanted} here`, {
    hint: `It has images for ${here.join(', ')}.`,
  });
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
