import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import {
  type Descriptor,
  type DiffId,
  type Digest,
  type LayerForm,
  MachineError,
  MEDIA_TYPE,
} from '../core/index.ts';
import type { BlobStore, DiffSource, Layer, LayerTable, PackedLayer } from './contract.ts';
import { decompress } from './decompress.ts';
import { gzipInBlocks } from './gzip-blocks.ts';
import { layerTar } from './layer-tar.ts';

export interface LayerSources {
  readonly blobs: BlobStore;
  readonly table: LayerTable;
  /** The diff of a layer that this machine built; undefined where it is gone. */
  readonly openDiff: (diffId: DiffId) => Promise<DiffSource | undefined>;
  /** Told of a diff whose files are not those of its layer any more, so that it is not used again; absent: it stays. */
  readonly dropDiff?: (diffId: DiffId) => Promise<void>;
}

/** How a layer is described that was packed here: its plain tar, named by its diffId. */
export function plainDescriptor(layer: PackedLayer): Descriptor {
  return { mediaType: MEDIA_TYPE.ociLayer, digest: layer.diffId, size: layer.size };
}

/**
 * The layer that `descriptor` names: its bytes come from the blob where there is one, else, for a plain tar, from the diff,
 * packed again and verified as they flow.
 */
export function layerFrom(diffId: DiffId, descriptor: Descriptor, sources: LayerSources): Layer {
  async function* open(): AsyncGenerator<Uint8Array> {
    if (await sources.blobs.has(descriptor.digest)) {
      yield* sources.blobs.open(descriptor.digest);
      return;
    }
    const diff = isPlain(diffId, descriptor) ? await sources.openDiff(diffId) : undefined;
    if (diff === undefined) {
      throw new MachineError('layer-missing', `layer ${descriptor.digest} is no longer in the store`, {
        hint: 'pull or build the image again',
      });
    }
    const { sourceDateEpoch } = await sources.table.get(diffId);
    const tar = layerTar(diff, sourceDateEpoch === undefined ? {} : { sourceDateEpoch });
    try {
      yield* verified(tar, descriptor.digest);
    } catch (error) {
      if (error instanceof MachineError && error.code === 'layer-changed') await sources.dropDiff?.(diffId);
      throw error;
    }
  }
  return { diffId, descriptor, open };
}

function isPlain(diffId: DiffId, descriptor: Descriptor): boolean {
  return descriptor.digest === (diffId as Digest);
}

async function* verified(tar: AsyncIterable<Uint8Array>, digest: Digest): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  for await (const chunk of tar) {
    hash.update(chunk);
    yield chunk;
  }
  const found = `sha256:${hash.digest('hex')}`;
  if (found === digest) return;
  throw new MachineError('layer-changed', `the files of layer ${digest} have changed since it was built`, {
    hint: 'its disk, or something outside of varve, changed the store: build the image again',
  });
}

/**
 * The layer in the form that is asked for. Its blob is stored, and noted in `table` where the level is the usual one, so that a
 * second call finds it. The same bytes come out for the same layer and the same zlib. A layer that is compressed already is
 * given back as it is, unless `force` asks for another form.
 */
export async function compressLayer(
  layer: Layer,
  form: LayerForm,
  { blobs, table }: Pick<LayerSources, 'blobs' | 'table'>,
): Promise<Layer> {
  const { compression, level, force = false } = form;
  const isCompressed = !isPlain(layer.diffId, layer.descriptor);
  const isAsked = compression === compressionIn(layer.descriptor) && level === undefined;
  if (isAsked || (isCompressed && !force)) return layer;
  const noted =
    compression === 'uncompressed' || level !== undefined
      ? undefined
      : (await table.get(layer.diffId))[compression];
  const kept = noted !== undefined && (await blobs.size(noted.digest)) === noted.size;
  const descriptor = kept
    ? { mediaType: LAYER_TYPE[compression], digest: noted.digest, size: noted.size }
    : await compressInto(layer, form, blobs);
  if (!kept && level === undefined && compression !== 'uncompressed')
    await table.note(layer.diffId, { [compression]: descriptor });
  return { diffId: layer.diffId, descriptor, open: () => blobs.open(descriptor.digest) };
}

function compressionIn({ mediaType }: Descriptor): LayerForm['compression'] {
  if (/[+.]gzip$/.test(mediaType)) return 'gzip';
  return /[+.]zstd$/.test(mediaType) ? 'zstd' : 'uncompressed';
}

const LAYER_TYPE = {
  uncompressed: MEDIA_TYPE.ociLayer,
  gzip: MEDIA_TYPE.ociLayerGzip,
  zstd: MEDIA_TYPE.ociLayerZstd,
} as const;

async function compressInto(layer: Layer, form: LayerForm, blobs: BlobStore): Promise<Descriptor> {
  const plain = isPlain(layer.diffId, layer.descriptor) ? layer.open() : decompress(layer.open());
  const { digest, size } = await blobs.put(compress(plain, form));
  return { mediaType: LAYER_TYPE[form.compression], digest, size };
}

/** Takes seven tenths of the time that the usual 6 takes, for a layer that is half a percent larger. */
const GZIP_LEVEL = 5;
/** That of BuildKit and containerd. */
const ZSTD_LEVEL = 3;

async function* compress(
  plain: AsyncIterable<Uint8Array>,
  { compression, level }: LayerForm,
): AsyncGenerator<Uint8Array> {
  if (compression === 'uncompressed') {
    yield* plain;
    return;
  }
  if (compression === 'gzip') {
    yield* gzipInBlocks(plain, level ?? GZIP_LEVEL);
    return;
  }
  const codec = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: level ?? ZSTD_LEVEL },
    chunkSize: 128 * 1024,
  });
  const flowing = pipeline(Readable.from(plain, { objectMode: true }), codec);
  // The reader below sees the same error; this keeps it from being reported as unhandled as well.
  flowing.catch(() => {});
  try {
    for await (const chunk of codec as AsyncIterable<Uint8Array>) yield chunk;
    await flowing;
  } finally {
    codec.destroy();
  }
}
