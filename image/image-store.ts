import { readFile, rm } from 'node:fs/promises';
import {
  asDigest,
  type Digest,
  digestHex,
  digestOf,
  errnoOf,
  formatReference,
  type HostPath,
  isDigest,
  joinHost,
  MachineError,
  type Platform,
  parseReference,
} from '../core/index.ts';
import { namesIn } from './blob-store.ts';
import type { ImageStore, StoredImage } from './contract.ts';
import { diskError, writeWhole } from './durable.ts';
import { invalid, isObject, textField } from './json.ts';
import { type LayerSources, layerFrom } from './layers.ts';
import { encodeManifest, parseConfig, parseManifest } from './manifest.ts';
import { formatPlatform } from './platform.ts';

/** Raised when the meaning of a name file changes; an older varve then refuses it. */
const NAME_VERSION = 1;

/**
 * Names below `root`: `images/names/<sha256 of the name>.json` points a name at a manifest, `images/manifests/<hex>` marks a
 * manifest as an image of this machine, with or without a name. Every change replaces one small file as a whole, so
 * that processes need no lock among them: of two that move one name at once, the later wins.
 */
export function createImageStore(options: LayerSources & { readonly root: HostPath }): ImageStore {
  const { blobs, root } = options;
  const names = createNameFiles(joinHost(root, 'images', 'names'));
  const marks = joinHost(root, 'images', 'manifests');
  const markOf = (digest: Digest): HostPath => joinHost(marks, digestHex(digest));

  async function load(manifestDigest: Digest, ownNames: readonly string[]): Promise<StoredImage> {
    const manifest = parseManifest(await blobs.read(manifestDigest));
    const config = parseConfig(await blobs.read(manifest.config.digest));
    return { manifestDigest, manifest, configDigest: manifest.config.digest, config, names: ownNames };
  }

  async function list(): Promise<readonly StoredImage[]> {
    const byDigest = new Map<Digest, string[]>();
    for (const hex of await namesIn(marks)) {
      if (isDigest(`sha256:${hex}`)) byDigest.set(asDigest(`sha256:${hex}`), []);
    }
    for (const entry of await names.all())
      for (const manifest of meanings(entry)) byDigest.get(manifest)?.push(entry.name);
    const images = await Promise.all([...byDigest].map(([digest, own]) => loadIfThere(digest, own.sort())));
    return images.filter((image) => image !== undefined);
  }

  /** Undefined where another process has removed the image and its blobs since the folder was read. */
  async function loadIfThere(digest: Digest, ownNames: readonly string[]): Promise<StoredImage | undefined> {
    try {
      return await load(digest, ownNames);
    } catch (error) {
      if (error instanceof MachineError && error.code === 'blob-missing') return undefined;
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
    await writeWhole(markOf(digest), '');
    for (const name of image.names) {
      const before = image.beside === undefined ? undefined : await names.get(name);
      await names.set(withMeaning({ name, manifest: digest }, before, image.beside));
    }
    return load(digest, await names.of(digest));
  }

  async function untag(name: string): Promise<StoredImage | undefined> {
    const entry = await names.get(name);
    if (entry === undefined) return undefined;
    const image = await load(entry.manifest, await names.of(entry.manifest));
    await names.remove(name);
    // Whoever takes the name away knows of one image alone: those for other platforms go with it.
    for (const other of meanings(entry)) {
      if (other !== entry.manifest && (await names.of(other)).length === 0) await remove(other);
    }
    return image;
  }

  async function remove(manifestDigest: Digest): Promise<void> {
    const left = await names.of(manifestDigest);
    if (left.length > 0) throw new Error(`${manifestDigest} still has the names ${left.join(', ')}`);
    await rm(markOf(manifestDigest), { force: true });
  }

  return {
    resolve: (nameOrId, platform) =>
      resolveImage(nameOrId, {
        platform,
        list,
        names,
        load: async (digest) => loadIfThere(digest, await names.of(digest)),
      }),
    list,
    put,
    layersOf: async ({ manifest, config }) =>
      config.rootfs.diff_ids.map((diffId, at) => {
        const descriptor = manifest.layers[at];
        if (descriptor === undefined) throw invalid('the manifest has fewer layers than the configuration');
        return layerFrom(diffId, descriptor, options);
      }),
    tag: async (manifestDigest, name) => {
      await writeWhole(markOf(manifestDigest), '');
      await names.set({ name, manifest: manifestDigest });
    },
    untag,
    delete: remove,
  };
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
  if (/^[0-9a-f]{64}$/.test(hex)) return (await byId(hex, lookup))[0];
  const named = await byName(nameOrId, lookup);
  if (named !== undefined || !/^[0-9a-f]{4,63}$/.test(hex)) return named;
  const matching = await byId(hex, lookup);
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
  { list, names, load, platform }: Lookup,
): Promise<StoredImage | undefined> {
  const reference = parseReference(text);
  if (!reference.ok) return undefined;
  const { host, repository, digest } = reference.value;
  const entry = await names.get(formatReference(reference.value));
  if (entry !== undefined) {
    const special = platform === undefined ? undefined : entry.platforms?.[formatPlatform(platform)];
    return load(special ?? entry.manifest);
  }
  if (digest === undefined) return undefined;
  const sameRepository = (name: string): boolean => name.startsWith(`${host}/${repository}:`);
  return (await list()).find((image) => image.manifestDigest === digest && image.names.some(sameRepository));
}

/** What a name means: an image, and others for whoever asks for their platforms. */
interface NamedImage {
  readonly name: string;
  readonly manifest: Digest;
  readonly platforms?: Readonly<Record<string, Digest>>;
}

function meanings({ manifest, platforms = {} }: NamedImage): ReadonlySet<Digest> {
  return new Set([manifest, ...Object.values(platforms)]);
}

function withMeaning(
  named: NamedImage,
  before: NamedImage | undefined,
  beside: Parameters<ImageStore['put']>[0]['beside'],
): NamedImage {
  if (beside === undefined) return named;
  const platforms = { ...before?.platforms, [formatPlatform(beside.platform)]: named.manifest };
  return {
    ...named,
    manifest: beside.another ? (before?.manifest ?? named.manifest) : named.manifest,
    platforms,
  };
}

interface NameFiles {
  get(name: string): Promise<NamedImage | undefined>;
  set(named: NamedImage): Promise<void>;
  remove(name: string): Promise<void>;
  all(): Promise<readonly NamedImage[]>;
  of(manifest: Digest): Promise<readonly string[]>;
}

/** One file for each name, called by the name's digest: names are longer than file names may be. */
function createNameFiles(folder: HostPath): NameFiles {
  const fileOf = (name: string): HostPath => joinHost(folder, `${digestHex(digestOf(name))}.json`);

  async function read(file: HostPath): Promise<NamedImage | undefined> {
    try {
      return parseName(await readFile(file, 'utf8'), file);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw diskError(error, 'reading the names of images');
    }
  }

  async function all(): Promise<readonly NamedImage[]> {
    const files = (await namesIn(folder)).filter((file) => /^[0-9a-f]{64}\.json$/.test(file));
    const found = await Promise.all(files.map((file) => read(joinHost(folder, file))));
    return found.filter((entry) => entry !== undefined);
  }

  return {
    get: (name) => read(fileOf(name)),
    set: (named) => writeWhole(fileOf(named.name), JSON.stringify({ version: NAME_VERSION, ...named })),
    remove: (name) => rm(fileOf(name), { force: true }),
    all,
    of: async (manifest) =>
      (await all())
        .filter((entry) => meanings(entry).has(manifest))
        .map((entry) => entry.name)
        .sort(),
  };
}

function parseName(text: string, file: HostPath): NamedImage {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new MachineError('store-corrupt', `${file} is damaged`, { hint: 'remove the file', cause: error });
  }
  if (isObject(value) && value['version'] === NAME_VERSION) {
    const name = textField(value, 'name');
    const manifest = textField(value, 'manifest');
    const platforms = platformsOf(value['platforms']);
    if (name !== undefined && manifest !== undefined && isDigest(manifest))
      return { name, manifest, ...(platforms === undefined ? {} : { platforms }) };
  }
  throw new MachineError('store-version', `${file} was written by a newer version of varve`, {
    hint: 'update varve, or choose another folder with --root',
  });
}

function platformsOf(value: unknown): Readonly<Record<string, Digest>> | undefined {
  if (!isObject(value)) return undefined;
  const found: Record<string, Digest> = {};
  for (const [platform, digest] of Object.entries(value)) {
    if (typeof digest === 'string' && isDigest(digest)) found[platform] = digest;
  }
  return found;
}
