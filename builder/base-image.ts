import { createHash } from 'node:crypto';
import {
  type ActiveSnapshot,
  type CommittedSnapshot,
  type Descriptor,
  type DiffId,
  type Digest,
  digestOf,
  formatReference,
  type ImageConfig,
  type ImageManifest,
  MachineError,
  type OciLayoutContext,
  type Platform,
  parseReference,
  type Reference,
  type SnapshotId,
  type SourceRange,
  type StepKey,
} from '../core/index.ts';
import {
  decompress,
  formatPlatform,
  noPlatform,
  platformRank,
  type ResolvedImage,
  readOciLayout,
  type StoredImage,
  type TransferProgress,
  unpackLayer,
} from '../image/index.ts';
import type { BuilderParts } from './contract.ts';
import type { ImageUse } from './graph.ts';
import type { FoundImage, WantedImage } from './plan.ts';
import { type Standing, standOnCommitted } from './standing.ts';
import { stop } from './stop.ts';
import type { TransferPhase } from './transfer-phase.ts';

interface ImageLayer {
  readonly image: UsableImage;
  readonly diffId: DiffId;
  readonly descriptor: Descriptor;
}

/** An image whose layers are, or can be brought, into the store. */
export interface UsableImage {
  readonly reference: Reference;
  readonly manifestDigest: Digest;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  /** What it was asked for. */
  readonly platform: Platform;
  /** Present when the image comes from a registry and is not in the store yet. */
  readonly resolved?: ResolvedImage;
}

export interface BaseImagesOptions {
  readonly parts: Pick<
    BuilderParts,
    'snapshotter' | 'treeOps' | 'cache' | 'images' | 'blobs' | 'registry' | 'platform'
  >;
  /** Ask the registry even when the store has the name. */
  readonly pull: boolean;
  /** Take an image that its registry has for one platform alone, even where that is another than what is asked for. */
  readonly takesAnyPlatform?: boolean;
  readonly signal: AbortSignal;
  /** Shows a pull; absent: nobody looks. */
  readonly beginPull?: (reference: Reference) => TransferPhase;
}

interface FetchWatch {
  /** Ends the fetching, beside the signal of all. */
  readonly signal?: AbortSignal;
  readonly onBlob?: (digest: Digest) => void;
}

/** The images that builds start from and containers run: found by name, pulled, and unpacked into snapshots. */
export class BaseImages {
  readonly #options: BaseImagesOptions;
  readonly #found = new Map<Digest, UsableImage>();
  readonly #unpacked = new Map<Digest, Promise<CommittedSnapshot | undefined>>();

  constructor(options: BaseImagesOptions) {
    this.#options = options;
  }

  /** Finds the image that a Dockerfile names. Ends the build where the name is no reference or nothing has it. */
  async find({ name, layout }: WantedImage, platform: Platform, range: SourceRange): Promise<FoundImage> {
    const parsed = parseReference(name);
    if (!parsed.ok)
      stop('invalid-reference', `failed to parse ${JSON.stringify(name)}: ${parsed.error}`, { range });
    try {
      const image =
        layout === undefined
          ? await this.lookUp(parsed.value, platform)
          : await this.#fromLayout(layout, parsed.value, platform);
      const use: ImageUse = { reference: image.reference, manifestDigest: image.manifestDigest, range };
      return { use, config: image.config };
    } catch (error) {
      if (!(error instanceof MachineError)) throw error;
      stop(error.code, `${name}: ${error.message}`, {
        range,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
      });
    }
  }

  /**
   * Looks in the local store, then asks the registry.
   * @throws MachineError as `Registry.resolve`; `no-platform`.
   */
  async lookUp(reference: Reference, platform: Platform): Promise<UsableImage> {
    const { parts, pull, signal, takesAnyPlatform = false } = this.#options;
    const stored = pull ? undefined : await parts.images.resolve(formatReference(reference), platform);
    let image: UsableImage;
    if (stored !== undefined && fits(stored.config, platform)) {
      const { manifestDigest, manifest, config } = stored;
      image = { reference, manifestDigest, manifest, config, platform };
    } else {
      const resolved = await parts.registry
        .resolve(reference, platform, signal)
        .catch((error: unknown) => refuse(error, stored));
      const { manifestDigest, manifest, config } = resolved;
      if (!takesAnyPlatform && platformRank(platform, config) === undefined)
        throw noPlatform(reference, platform, [formatPlatform(config)]);
      image = { reference, manifestDigest, manifest, config, platform, resolved };
    }
    this.#found.set(image.manifestDigest, image);
    return image;
  }

  /** The image of an OCI layout; its layers are in the blob store then. */
  async #fromLayout(
    layout: OciLayoutContext,
    reference: Reference,
    platform: Platform,
  ): Promise<UsableImage> {
    const { parts, signal } = this.#options;
    const { path, tag, digest } = layout;
    const { manifest, manifestDigest, config } = await readOciLayout(path, {
      blobs: parts.blobs,
      platform,
      signal,
      ...(tag === undefined ? {} : { tag }),
      ...(digest === undefined ? {} : { digest }),
    });
    const image = { reference, manifestDigest, manifest, config, platform };
    this.#found.set(manifestDigest, image);
    return image;
  }

  /** Were all images in the local store, so that no registry was asked? */
  areStored(): boolean {
    return [...this.#found.values()].every(({ resolved }) => resolved === undefined);
  }

  /** The image that an earlier `find` or `lookUp` gave. */
  imageOf(use: ImageUse): UsableImage {
    const image = this.#found.get(use.manifestDigest);
    if (image === undefined) throw new Error(`image ${use.manifestDigest} was not looked up`);
    return image;
  }

  /** Stands on the image's layers, pulled and unpacked. */
  async standOn(use: ImageUse): Promise<Standing> {
    const snapshot = await this.unpack(this.imageOf(use));
    const base = { id: snapshot?.id, depth: snapshot?.diffIds.length ?? 0 };
    return standOnCommitted(snapshot, { way: wayOfSnapshot(snapshot?.id), base });
  }

  /** Brings the image's layers into the snapshotter; a pulled image is then in the local store under its name. */
  unpack(image: UsableImage): Promise<CommittedSnapshot | undefined> {
    const running = this.#unpacked.get(image.manifestDigest);
    if (running !== undefined) return running;
    const unpacked = this.#unpack(image);
    this.#unpacked.set(image.manifestDigest, unpacked);
    return unpacked;
  }

  async #unpack(image: UsableImage): Promise<CommittedSnapshot | undefined> {
    const { parts } = this.#options;
    const diffIds = image.config.rootfs.diff_ids;
    parts.cache.hold(diffIds);
    const known = diffIds.length === 0 ? undefined : await parts.snapshotter.find(diffIds);
    let snapshot = known;
    if (known === undefined && diffIds.length > 0) snapshot = await this.#unpackAll(image);
    if (image.resolved !== undefined) {
      if (known !== undefined) await this.#fetch(image);
      await parts.images.put({
        config: image.resolved.configBytes,
        manifest: image.resolved.manifestBytes,
        layers: image.manifest.layers,
        names: [formatReference(image.reference)],
        beside: { platform: image.platform, another: !fits(image.config, parts.platform) },
        ...(image.resolved.indexBytes === undefined ? {} : { index: image.resolved.indexBytes }),
      });
    }
    return snapshot;
  }

  /** Unpacks layer on layer, each as soon as it is there, while those above it are still on their way. */
  async #unpackAll(image: UsableImage): Promise<CommittedSnapshot | undefined> {
    const { manifest, config } = image;
    const stop = new AbortController();
    const arrivals = new Map(manifest.layers.map(({ digest }) => [digest, Promise.withResolvers<void>()]));
    const fetching = this.#fetch(image, {
      signal: stop.signal,
      onBlob: (digest) => arrivals.get(digest)?.resolve(),
    });
    // Awaited below; until then a failure is that of the layer that is waited for.
    fetching.catch(() => {});
    try {
      let snapshot: CommittedSnapshot | undefined;
      for (const [index, diffId] of config.rootfs.diff_ids.entries()) {
        const descriptor = manifest.layers[index];
        if (descriptor === undefined)
          throw damaged(image, 'its manifest has fewer layers than its configuration');
        await Promise.race([fetching, arrivals.get(descriptor.digest)?.promise]);
        snapshot = await this.#layer(snapshot, { image, diffId, descriptor });
      }
      await fetching;
      return snapshot;
    } catch (error) {
      stop.abort(error);
      await fetching.catch(() => {});
      throw error;
    }
  }

  /** Brings the blobs that are missing. `onBlob` is told of each that is in the store. */
  async #fetch(image: UsableImage, { signal: ownSignal, onBlob }: FetchWatch = {}): Promise<void> {
    const { parts, beginPull } = this.#options;
    const signal =
      ownSignal === undefined ? this.#options.signal : AbortSignal.any([this.#options.signal, ownSignal]);
    const missing: Descriptor[] = [];
    for (const layer of image.manifest.layers) {
      if (await parts.blobs.has(layer.digest)) onBlob?.(layer.digest);
      else missing.push(layer);
    }
    if (missing.length === 0) return;
    using phase = beginPull?.(image.reference);
    const onProgress: TransferProgress = (progress) => {
      phase?.onProgress(progress);
      if (progress.state === 'done' || progress.state === 'exists') onBlob?.(progress.digest);
    };
    await parts.registry.fetchBlobs(image.reference, missing, { blobs: parts.blobs, signal, onProgress });
  }

  /** One layer on its parent; a layer that several processes want is unpacked by one of them. */
  async #layer(parent: CommittedSnapshot | undefined, layer: ImageLayer): Promise<CommittedSnapshot> {
    const { parts, signal } = this.#options;
    const stacked = await parts.snapshotter.stack(parent, layer.diffId);
    if (stacked !== undefined) return stacked;
    const key = digestOf(`unpack ${layer.diffId}`) as string as StepKey;
    return parts.cache.exclusively(
      key,
      async () => {
        const other = await parts.snapshotter.stack(parent, layer.diffId);
        if (other !== undefined) return other;
        return await this.#unpackLayer(parent, layer).catch(async (error: unknown) => {
          await this.#fetchDamaged(layer, error);
          return await this.#unpackLayer(parent, layer);
        });
      },
      signal,
    );
  }

  async #unpackLayer(parent: CommittedSnapshot | undefined, layer: ImageLayer): Promise<CommittedSnapshot> {
    const { snapshotter } = this.#options.parts;
    await using active = await snapshotter.prepare(parent);
    await this.#apply(active, layer);
    await using frozen = await active.freeze();
    return await frozen.commit(layer.diffId, { parentBound: true });
  }

  /** Fetches the blob of a layer anew if it is damaged on the disk. @throws `error` otherwise, or where its registry does not give it. */
  async #fetchDamaged({ image, descriptor }: ImageLayer, error: unknown): Promise<void> {
    const { blobs } = this.#options.parts;
    this.#options.signal.throwIfAborted();
    try {
      for await (const _ of blobs.open(descriptor.digest));
    } catch (damage) {
      await this.#fetch(image).catch(() => {
        throw damage;
      });
      return;
    }
    throw error;
  }

  async #apply(active: ActiveSnapshot, layer: ImageLayer): Promise<void> {
    const { parts, signal } = this.#options;
    const hash = createHash('sha256');
    const bytes = decompress(parts.blobs.open(layer.descriptor.digest));
    const tar = hashed(bytes, hash);
    try {
      await parts.treeOps.apply(active.root, unpackLayer(tar.stream, { signal }), signal);
      await tar.drain();
    } finally {
      await tar.close();
    }
    const found = `sha256:${hash.digest('hex')}`;
    if (found !== layer.diffId) {
      throw new MachineError(
        'layer-corrupt',
        `layer ${layer.descriptor.digest} unpacks to ${found}, not to ${layer.diffId} as its image says`,
        {
          hint: 'The image is damaged at its source: pull another one.',
        },
      );
    }
  }
}

/** Adds to what a registry said that the local store has the image, for another platform. */
function refuse(error: unknown, stored: StoredImage | undefined): never {
  if (stored === undefined || !(error instanceof MachineError)) throw error;
  throw new MachineError(error.code, error.message, {
    hint: `The local store has it for ${formatPlatform(stored.config)} alone.`,
    cause: error,
  });
}

/** The name of the way that begins with a committed snapshot (see Standing). */
export function wayOfSnapshot(id: SnapshotId | undefined): StepKey {
  return digestOf(`snapshot ${id ?? 'scratch'}`) as string as StepKey;
}

function fits(config: ImageConfig, platform: Platform): boolean {
  return config.architecture === platform.architecture && platformRank(platform, config) !== undefined;
}

function damaged(image: UsableImage, why: string): MachineError {
  const name = `${formatReference(image.reference)} (${formatPlatform(image.config)})`;
  return new MachineError('image-damaged', `image ${name} cannot be used: ${why}`, {
    hint: 'Pull the image again.',
  });
}

/**
 * Passes `bytes` on and feeds them to `hash`. A reader of a tar stops at its end mark; `drain` reads what lies behind it, so that the
 * hash covers the whole stream; `close` releases the file behind it, wherever reading stopped.
 */
function hashed(
  bytes: AsyncIterable<Uint8Array>,
  hash: { update(chunk: Uint8Array): unknown },
): { readonly stream: AsyncIterable<Uint8Array>; drain(): Promise<void>; close(): Promise<void> } {
  const iterator = bytes[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    const result = await iterator.next();
    if (result.done !== true) hash.update(result.value);
    return result;
  };
  return {
    stream: { [Symbol.asyncIterator]: () => ({ next }) },
    async drain() {
      let result = await next();
      while (result.done !== true) result = await next();
    },
    async close() {
      await iterator.return?.();
    },
  };
}
