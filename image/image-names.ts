import { readFileSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import {
  type Digest,
  digestHex,
  digestOf,
  errnoOf,
  type HostPath,
  isDigest,
  joinHost,
  MachineError,
  type Platform,
} from '../core/index.ts';
import { namesIn } from './blob-store.ts';
import type { NameMeaning } from './contract.ts';
import { diskError, keepWhole } from './durable.ts';
import { isObject, textField } from './json.ts';
import { formatPlatform } from './platform.ts';

/** Raised when the meaning of a name file changes; an older varve then refuses it. */
const NAME_VERSION = 1;

/** What a name means: an image, and others for whoever asks for their platforms. */
export interface NamedImage extends NameMeaning {
  readonly name: string;
}

/** The manifests that a name means, that for who asks for no platform first. */
export function meanings({ manifest, platforms = {} }: NameMeaning): ReadonlySet<Digest> {
  return new Set([manifest, ...Object.values(platforms)]);
}

/** `named` with what the name meant `before` for other platforms. */
export function besideOthers(
  named: NamedImage,
  before: NamedImage | undefined,
  beside: { readonly platform: Platform; readonly another: boolean },
): NamedImage {
  const platforms = { ...before?.platforms, [formatPlatform(beside.platform)]: named.manifest };
  return {
    ...named,
    manifest: beside.another ? (before?.manifest ?? named.manifest) : named.manifest,
    platforms,
  };
}

/** What is left of a name's meaning without one image; undefined where that was all. */
export function withoutManifest(named: NamedImage, gone: Digest): NamedImage | undefined {
  const [first] = [...meanings(named)].filter((digest) => digest !== gone);
  if (first === undefined) return undefined;
  const { platforms, index: _index, ...rest } = named;
  const left = Object.entries(platforms ?? {}).filter(([, digest]) => digest !== gone);
  return {
    ...rest,
    manifest: named.manifest === gone ? first : named.manifest,
    ...(left.length === 0 ? {} : { platforms: Object.fromEntries(left) }),
  };
}

export interface NameFiles {
  get(name: string): Promise<NamedImage | undefined>;
  set(named: NamedImage): Promise<void>;
  remove(name: string): Promise<void>;
  all(): Promise<readonly NamedImage[]>;
  of(manifest: Digest): Promise<readonly string[]>;
}

/** What a name's file was found to hold, or was made to hold; no text: there is none. */
export interface NameUse {
  readonly file: string;
  readonly text: string | undefined;
}

/** One file for each name, called by the name's digest: names are longer than file names may be. */
export function createNameFiles(folder: HostPath, told: (use: NameUse) => void = () => {}): NameFiles {
  const fileOf = (name: string): HostPath => joinHost(folder, `${digestHex(digestOf(name))}.json`);

  function read(file: HostPath): NamedImage | undefined {
    return parsed(file, textOf(file));
  }

  /** @throws MachineError `store-corrupt` for a damaged file, which is removed; `store-version`. */
  function parsed(file: HostPath, text: string | undefined): NamedImage | undefined {
    if (text === undefined) return undefined;
    try {
      const named = parseName(text, file);
      if (fileOf(named.name) !== file) throw damagedName(file);
      return named;
    } catch (error) {
      // Told once: what it named can be had again, and a name of which nothing is left is a name that is not there.
      if (error instanceof MachineError && error.code === 'store-corrupt') rmSync(file, { force: true });
      throw error;
    }
  }

  /** At once: a name is a few bytes, and to hand a read over to another thread takes longer than it does. */
  function textOf(file: HostPath): string | undefined {
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw diskError(error, 'reading the names of images');
    }
  }

  async function all(): Promise<readonly NamedImage[]> {
    const files = (await namesIn(folder)).filter((file) => /^[0-9a-f]{64}\.json$/.test(file));
    return files.map((file) => read(joinHost(folder, file))).filter((entry) => entry !== undefined);
  }

  return {
    get: async (name) => {
      const file = fileOf(name);
      const text = textOf(file);
      told({ file: basename(file), text });
      return parsed(file, text);
    },
    set: async (named) => {
      const file = fileOf(named.name);
      const text = JSON.stringify({ version: NAME_VERSION, ...named });
      await keepWhole(file, text);
      told({ file: basename(file), text });
    },
    remove: (name) => rm(fileOf(name), { force: true }),
    all,
    of: async (manifest) =>
      (await all())
        .filter((entry) => meanings(entry).has(manifest))
        .map((entry) => entry.name)
        .sort(),
  };
}

function damagedName(file: HostPath, cause?: unknown): MachineError {
  const hint = 'It was removed: pull, load or build again what it named.';
  return new MachineError('store-corrupt', `${file} is damaged`, { hint, cause });
}

function parseName(text: string, file: HostPath): NamedImage {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damagedName(file, error);
  }
  if (!isObject(value) || typeof value['version'] !== 'number') throw damagedName(file);
  if (value['version'] === NAME_VERSION) {
    const name = textField(value, 'name');
    const manifest = textField(value, 'manifest');
    const platforms = platformsOf(value['platforms']);
    const index = textField(value, 'index');
    if (name !== undefined && manifest !== undefined && isDigest(manifest))
      return {
        name,
        manifest,
        ...(platforms === undefined ? {} : { platforms }),
        ...(index === undefined ? {} : { index }),
      };
    throw damagedName(file);
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
