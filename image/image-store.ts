import { rm } from 'node:fs/promises';
import {
  asDigest,
  type Digest,
  digestHex,
  digestOf,
  formatReference,
  type HostPath,
  isDigest,
  joinHost,
  MachineError,
  type Platform,
  parseReference,
  type StoreFact,
} from '../core/index.ts';
import { namesIn } from './blob-store.ts';
import type { ImageStore, NameMeaning, StoredImage } from './contract.ts';
import { keepWhole } from './durable.ts';
import {
  besideOthers,
  createNameFiles,
  meanings,
  type NamedImage,
  type NameFiles,
  withoutManifest,
} from './image-names.ts';
import { invalid } from './json.ts';
import { type LayerSources, layerFrom } from './layers.ts';
import { encodeManifest, namesManifests, parseConfig, parseManifest } from './manifest.ts';
import { formatPlatform } from './platform.ts';

/**
 * Names below `root`: `images/names/<sha256 of the name>.json` points a name at a manifest, `images/manifests/<hex>` marks a
 * manifest as an image of this machine, with or without a name. Every change replaces one small file as a whole, so
 * that processes need no lock among them: of two that move one name at once, the later wins.
 */
export function createImageStore(options: LayerSources & { readonly root: HostPath }): ImageStore {
  const { blobs, root } = options;
  const used = new UsedFiles();
  const names = createNameFiles(joinHost(root, 'images', 'names'), ({ file, text }) =>
    text === undefined ? used.miss() : used.note(`images/names/${file}`, Buffer.from(text)),
  );
  const marks = joinHost(root, 'images', 'manifests');
  const markOf = (digest: Digest): HostPath => joinHost(marks, digestHex(digest));

  async function load(manifestDigest: Digest, all: readonly NamedImage[]): Promise<StoredImage> {
    const manifestBytes = await blobs.read(manifestDigest);
    const manifest = parseManifest(manifestBytes);
    const configBytes = await blobs.read(manifest.config.digest);
    const config = parseConfig(configBytes);
    used.note(`blobs/sha256/${digestHex(manifestDigest)}`, manifestBytes);
    used.note(`blobs/sha256/${digestHex(manifest.config.digest)}`, configBytes);
    const named = all.filter((entry) => meanings(entry).has(manifestDigest));
    const asked = named.filter((entry) => entry.manifest !== manifestDigest);
    const whole = named.flatMap(({ name, index }) =>
      index === undefined ? [] : [[name, digestOf(index)] as const],
    );
    return {
      manifestDigest,
      manifest,
      configDigest: manifest.config.digest,
      config,
      names: named.map(({ name }) => name).sort(),
      ...(asked.length === 0 ? {} : { platformNames: asked.map(({ name }) => name).sort() }),
      ...(whole.length === 0 ? {} : { indexDigests: Object.fromEntries(whole) }),
    };
  }

  async function list(): Promise<readonly StoredImage[]> {
    const digests = (await namesIn(marks)).map((hex) => `sha256:${hex}`).filter(isDigest);
    const all = await names.all();
    const images = await Promise.all(digests.map((digest) => loadIfThere(asDigest(digest), all)));
    return images.filter((image) => image !== undefined);
  }

  /** Undefined where the image's blobs are gone: another process has removed them, or the disk has damaged them. */
  async function loadIfThere(
    digest: Digest,
    all: readonly NamedImage[] | undefined = undefined,
  ): Promise<StoredImage | undefined> {
    try {
      return await load(digest, all ?? (await names.all()));
    } catch (error) {
      if (error instanceof MachineError && /^blob-(?:missing|corrupt)$/.test(error.code)) return undefined;
      throw error;
    }
  }

  async function put(image: Parameters<ImageStore['put']>[0]): Promise<StoredImage> {
    const manifestBytes = image.manifest ?? encodeManifest(image);
    const manifest = parseManifest(manifestBytes);
    const config = parseConfig(image.config);
    if (manifest.config.digest !== digestOf(image.config))
      throw invalid('the manifest names another configuration');
    if (manifest.layers.length !== config.rootfs.diff_ids.length) {
      throw invalid('the manifest and the configuration have different numbers of layers');
    }
    await blobs.put(image.config);
    const { digest } = await blobs.put(manifestBytes);
    await keepWhole(markOf(digest), '');
    used.note(`images/manifests/${digestHex(digest)}`, new Uint8Array());
    for (const name of image.names) {
      const named = { name, manifest: digest };
      const before = image.beside === undefined ? undefined : await names.get(name);
      const merged = image.beside === undefined ? named : besideOthers(named, before, image.beside);
      const index = image.index === undefined ? undefined : Buffer.from(image.index).toString();
      const isWhole = index !== undefined && namesManifests(index, meanings(merged));
      await names.set({ ...merged, ...(isWhole ? { index } : {}) });
    }
    return load(digest, await names.all());
  }

  async function tag(meant: Digest | NameMeaning, name: string): Promise<void> {
    const { manifest, platforms, index }: NameMeaning =
      typeof meant === 'string' ? { manifest: meant } : meant;
    for (const digest of meanings({ manifest, ...(platforms === undefined ? {} : { platforms }) }))
      await keepWhole(markOf(digest), '');
    await names.set({
      name,
      manifest,
      ...(platforms === undefined ? {} : { platforms }),
      ...(index === undefined ? {} : { index }),
    });
  }

  async function untag(name: string, only?: Digest): Promise<readonly StoredImage[]> {
    const entry = await names.get(name);
    if (entry === undefined) return [];
    const left = only === undefined ? undefined : withoutManifest(entry, only);
    const gone = await imagesOf(left === undefined ? entry : { manifest: only ?? entry.manifest });
    await (left === undefined ? names.remove(name) : names.set(left));
    return gone;
  }

  async function imagesOf(meaning: NameMeaning): Promise<readonly StoredImage[]> {
    const all = await names.all();
    const images = await Promise.all([...meanings(meaning)].map((digest) => loadIfThere(digest, all)));
    return images.filter((image) => image !== undefined);
  }

  async function meaningOf(nameOrId: string): Promise<NameMeaning | undefined> {
    const reference = parseReference(nameOrId);
    const entry = reference.ok ? await names.get(formatReference(reference.value)) : undefined;
    const hex = nameOrId.startsWith('sha256:') ? nameOrId.slice('sha256:'.length) : nameOrId;
    if (entry !== undefined && !/^[0-9a-f]{64}$/.test(hex)) return entry;
    const image = await resolve(nameOrId);
    const whole = await wholeOf(nameOrId, names);
    if (whole !== undefined && (image === undefined || whole.manifest === image.manifestDigest)) return whole;
    return image === undefined ? undefined : { manifest: image.manifestDigest };
  }

  const listAll = (): Promise<readonly StoredImage[]> => {
    used.miss();
    return list();
  };
  const resolve: ImageStore['resolve'] = (nameOrId, platform) =>
    resolveImage(nameOrId, { platform, list: listAll, names, load: loadIfThere });

  async function remove(manifestDigest: Digest): Promise<void> {
    const left = await names.of(manifestDigest);
    if (left.length > 0) throw new Error(`${manifestDigest} still has the names ${left.join(', ')}`);
    await rm(markOf(manifestDigest), { force: true });
  }

  return {
    resolve,
    meaningOf,
    imagesOf,
    list,
    put,
    layersOf: async ({ manifest, config }) =>
      config.rootfs.diff_ids.map((diffId, at) => {
        const descriptor = manifest.layers[at];
        if (descriptor === undefined) throw invalid('the manifest has fewer layers than the configuration');
        return layerFrom(diffId, descriptor, options);
      }),
    tag,
    untag,
    facts: () => used.facts(),
    delete: remove,
  };
}

/** Small files of the store that answers were made of, as they were then. */
class UsedFiles {
  readonly #files = new Map<string, Uint8Array>();
  #isWhole = true;

  note(path: string, bytes: Uint8Array): void {
    const before = this.#files.get(path);
    // An image that takes its own base's name: what was found there will not be found again.
    if (before !== undefined && !Buffer.from(before).equals(bytes)) this.miss();
    this.#files.set(path, bytes);
  }

  /** An answer was made of what cannot be told by files. */
  miss(): void {
    this.#isWhole = false;
  }

  facts(): readonly StoreFact[] | undefined {
    if (!this.#isWhole) return undefined;
    return [...this.#files].map(([path, bytes]) => ({ kind: 'content', path, bytes }));
  }
}

interface Lookup {
  readonly list: ImageStore['list'];
  readonly names: NameFiles;
  readonly load: (manifest: Digest) => Promise<StoredImage | undefined>;
  readonly platform: Platform | undefined;
}

/** As Docker: a full ID first, then a name, then a prefix of an ID. */
async function resolveImage(nameOrId: string, lookup: Lookup): Promise<StoredImage | undefined> {
  const hex = nameOrId.startsWith('sha256:') ? nameOrId.slice('sha256:'.length) : nameOrId;
  const meant = ({ manifest, platforms }: NameMeaning) => {
    const { platform } = lookup;
    return lookup.load((platform && platforms?.[formatPlatform(platform)]) ?? manifest);
  };
  if (/^[0-9a-f]{64}$/.test(hex)) {
    const [image] = await byId(hex, lookup);
    const whole = image === undefined ? await wholeOf(nameOrId, lookup.names) : undefined;
    return whole === undefined ? image : meant(whole);
  }
  const named = await byName(nameOrId, lookup, meant);
  if (named !== undefined || !/^[0-9a-f]{4,63}$/.test(hex)) return named;
  const matching = await byId(hex, lookup);
  const whole = matching.length === 0 ? await wholeOf(nameOrId, lookup.names) : undefined;
  if (whole !== undefined) return meant(whole);
  if (matching.length <= 1) return matching[0];
  throw new MachineError('image-ambiguous', `${matching.length} images have an ID that begins with ${hex}`, {
    hint: 'write more digits of the ID',
  });
}

async function byId(hex: string, { list }: Lookup): Promise<readonly StoredImage[]> {
  const images = await list();
  return images.filter(({ configDigest, manifestDigest }) =>
    [configDigest, manifestDigest].some((id) => digestHex(id).startsWith(hex)),
  );
}

/** A name with a digest also finds the image that has a tag of the same repository. */
async function byName(
  text: string,
  { list, names }: Lookup,
  meant: (meaning: NameMeaning) => Promise<StoredImage | undefined>,
): Promise<StoredImage | undefined> {
  const reference = parseReference(text);
  if (!reference.ok) return undefined;
  const { host, repository, digest } = reference.value;
  const entry = await names.get(formatReference(reference.value));
  if (entry !== undefined) return meant(entry);
  if (digest === undefined) return undefined;
  const sameRepository = (name: string): boolean => name.startsWith(`${host}/${repository}:`);
  const whole = (await names.all()).find(
    ({ name, index }) => index !== undefined && sameRepository(name) && digestOf(index) === digest,
  );
  if (whole !== undefined) return meant(whole);
  return (await list()).find((image) => image.manifestDigest === digest && image.names.some(sameRepository));
}

/** What an index means that is named by its digest, or by a prefix of it. */
async function wholeOf(id: string, names: NameFiles): Promise<NameMeaning | undefined> {
  const hex = id.startsWith('sha256:') ? id.slice('sha256:'.length) : id;
  if (!/^[0-9a-f]{4,64}$/.test(hex)) return undefined;
  const all = await names.all();
  return all.find(({ index }) => index !== undefined && digestHex(digestOf(index)).startsWith(hex));
}
