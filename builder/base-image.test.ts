import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { StepCache } from '../cache/index.ts';
import {
  type ActiveSnapshot,
  asDigest,
  type CommittedSnapshot,
  type DiffId,
  type Digest,
  type FrozenSnapshot,
  type ImageConfig,
  type ImageManifest,
  type Snapshotter,
  type TreeOps,
} from '../core/index.ts';
import type { BlobStore, ImageStore, Registry } from '../image/index.ts';
import { BaseImages, type UsableImage } from './base-image.ts';

const END_OF_TAR = Buffer.alloc(1024);
const platform = { os: 'linux', architecture: 'amd64' };

/** A layer without files, unlike any other: what stands behind a tar's end counts for its digest alone. */
function layer(name: string): { readonly bytes: Buffer; readonly digest: Digest } {
  const bytes = Buffer.concat([END_OF_TAR, Buffer.from(name)]);
  return { bytes, digest: asDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`) };
}

const LAYERS = [layer('lower'), layer('upper')] as const;
const [LOWER, UPPER] = LAYERS;

function image(): UsableImage {
  const layers = LAYERS.map(({ digest, bytes }) => ({ mediaType: 'tar', digest, size: bytes.length }));
  const diff_ids = LAYERS.map(({ digest }) => digest as DiffId);
  return {
    reference: { host: 'localhost', repository: 'base', tag: '1' },
    manifestDigest: LOWER.digest,
    manifest: { layers } as Partial<ImageManifest> as ImageManifest,
    config: { ...platform, rootfs: { type: 'layers', diff_ids } } as Partial<ImageConfig> as ImageConfig,
    platform,
  };
}

/** A store without layers; `fetch` is what the registry does, and `bring` puts a blob into the store. */
function rig(fetch: (bring: (digest: Digest) => void, signal: AbortSignal) => Promise<void>) {
  const here = new Set<Digest>();
  const unpacked: (Digest | 'began')[] = [];
  const commit: FrozenSnapshot['commit'] = async (diffId) => {
    unpacked.push(diffId);
    return { diffIds: [diffId] } as Partial<CommittedSnapshot> as CommittedSnapshot;
  };
  const ended = { [Symbol.asyncDispose]: async () => {} };
  const frozen = { commit, ...ended } as Partial<FrozenSnapshot> as FrozenSnapshot;
  const active = { freeze: async () => frozen, ...ended } as Partial<ActiveSnapshot> as ActiveSnapshot;
  const snapshotter: Partial<Snapshotter> = {
    find: async () => undefined,
    stack: async () => undefined,
    prepare: async () => active,
  };
  const apply: TreeOps['apply'] = async (_root, ops) => {
    unpacked.push('began');
    for await (const _ of ops);
  };
  const blobs: Partial<BlobStore> = {
    has: async (digest) => here.has(digest),
    async *open(digest) {
      yield LAYERS.find((one) => one.digest === digest)?.bytes ?? Buffer.alloc(0);
    },
  };
  const fetchBlobs: Registry['fetchBlobs'] = async (_reference, _descriptors, { onProgress, signal }) => {
    const bring = (digest: Digest): void => {
      here.add(digest);
      onProgress?.({ digest, current: 1, total: 1, state: 'done' });
    };
    if (signal === undefined) throw new Error('nothing could end it');
    await fetch(bring, signal);
  };
  const cache: Partial<StepCache> = { hold: () => {}, exclusively: (_key, work) => work() };
  const images = new BaseImages({
    parts: {
      snapshotter: snapshotter as Snapshotter,
      treeOps: { apply } as Partial<TreeOps> as TreeOps,
      cache: cache as StepCache,
      images: {} as Partial<ImageStore> as ImageStore,
      blobs: blobs as BlobStore,
      registry: { fetchBlobs } as Partial<Registry> as Registry,
      platform,
    },
    pull: false,
    signal: new AbortController().signal,
  });
  return { images, unpacked };
}

describe('BaseImages.unpack', () => {
  it('unpacks a layer as soon as it is there, while the next one is on its way', async () => {
    const lower = Promise.withResolvers<void>();
    const { images, unpacked } = rig(async (bring) => {
      bring(LOWER.digest);
      await lower.promise;
      bring(UPPER.digest);
    });
    const unpacking = images.unpack(image());
    await expect.poll(() => unpacked).toEqual(['began', LOWER.digest]);
    lower.resolve();
    await unpacking;
    expect(unpacked).toEqual(['began', LOWER.digest, 'began', UPPER.digest]);
  });

  it('takes layers in their order, whichever comes first', async () => {
    const { images, unpacked } = rig(async (bring) => {
      bring(UPPER.digest);
      bring(LOWER.digest);
    });
    await images.unpack(image());
    expect(unpacked.filter((one) => one !== 'began')).toEqual([LOWER.digest, UPPER.digest]);
  });

  it('fails where a layer does not come, and unpacks none above', async () => {
    const { images, unpacked } = rig(async (bring) => {
      bring(LOWER.digest);
      throw new Error('the line is cut');
    });
    await expect(images.unpack(image())).rejects.toThrow('the line is cut');
    expect(unpacked).not.toContain(UPPER.digest);
  });

  it('ends the fetching where a layer cannot be unpacked', async () => {
    let reason: unknown;
    const { images } = rig(async (bring, signal) => {
      bring(LOWER.digest);
      await new Promise<void>((_, reject) => {
        signal.addEventListener('abort', () => {
          reason = signal.reason;
          reject(reason);
        });
      });
    });
    const { manifest, config, ...rest } = image();
    const diff_ids = [UPPER.digest as DiffId, LOWER.digest as DiffId];
    const wrong = { ...rest, manifest, config: { ...config, rootfs: { type: 'layers', diff_ids } } } as const;
    await expect(images.unpack(wrong)).rejects.toMatchObject({ code: 'layer-corrupt' });
    expect(reason).toMatchObject({ code: 'layer-corrupt' });
  });
});
