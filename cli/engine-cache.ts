import type { CacheMountUsage } from '../cache/index.ts';
import type { DiffId, Digest, StepKey } from '../core/index.ts';
import type { CacheEntry, DiskUsage, PruneOptions, PruneResult, VerifiedStep } from './engine-contract.ts';
import { type EngineParts, isProcess } from './engine-parts.ts';

/** Blobs younger than this may belong to an image that another process is about to store. */
const BLOB_GRACE_MS = 60 * 60 * 1000;

/** What the commands do with the cache. */
export class EngineCache {
  readonly #parts: EngineParts;
  readonly #limitBytes: number | undefined;

  constructor(parts: EngineParts, limitBytes: number | undefined) {
    this.#parts = parts;
    this.#limitBytes = limitBytes;
  }

  async records(): Promise<readonly CacheEntry[]> {
    const { cache, snapshotter } = this.#parts;
    const sizes = new Map((await snapshotter.diffs()).map(({ diffId, bytes }) => [diffId, bytes]));
    const inUse = new Set([...cache.held(), ...(await this.#imageDiffs())]);
    const { cacheMounts } = this.#parts;
    const steps = cache.usage().map(
      (record): CacheEntry => ({
        ...record,
        bytes: record.diffId === undefined ? 0 : (sizes.get(record.diffId) ?? 0),
        inUse: record.diffId !== undefined && inUse.has(record.diffId),
      }),
    );
    const mounts = (await cacheMounts.list()).map(entryOfMount);
    return [...steps, ...mounts].sort((a, b) => b.lastUsedAtMs - a.lastUsedAtMs);
  }

  /** Looks at every layer and blob; what is not what its name says is removed, and told. */
  async dropDamaged(signal: AbortSignal): Promise<readonly VerifiedStep[]> {
    const { blobs, snapshotter } = this.#parts;
    const verdict = { kind: 'damaged-store' } as const;
    const layers = await snapshotter.removeDamaged(signal);
    const damaged: VerifiedStep[] = layers.map((diffId) => ({ name: `layer ${diffId}`, verdict }));
    for (const { digest } of await blobs.list()) {
      signal.throwIfAborted();
      if (!(await blobs.isWhole(digest))) damaged.push({ name: `blob ${digest}`, verdict });
    }
    return damaged;
  }

  async diskUsage(): Promise<DiskUsage> {
    const { blobs, cache, images, snapshotter } = this.#parts;
    const [diffs, blobList, imageList] = await Promise.all([
      snapshotter.diffs(),
      blobs.list(),
      images.list(),
    ]);
    const ofImages = await this.#imageDiffs();
    const held = cache.held();
    const needed = await this.#neededBlobs();
    const rest = diffs.filter(({ diffId }) => !ofImages.has(diffId));
    const inImages = diffs.filter(({ diffId }) => ofImages.has(diffId));
    const free = rest.filter(({ diffId }) => !held.has(diffId));
    const mounts = await this.#parts.cacheMounts.list();
    const freeMounts = mounts.filter(({ inUse }) => !inUse);
    const loose = blobList.filter(({ digest }) => !needed.has(digest));
    const rows = [
      { type: 'images', count: imageList.length, bytes: total(inImages), reclaimableBytes: 0 },
      { type: 'step cache', count: rest.length, bytes: total(rest), reclaimableBytes: total(free) },
      {
        type: 'cache mounts',
        count: mounts.length,
        bytes: total(mounts),
        reclaimableBytes: total(freeMounts),
      },
      { type: 'blobs', count: blobList.length, bytes: sizeOf(blobList), reclaimableBytes: sizeOf(loose) },
      ...(await this.#repositoryRows()),
    ];
    return { rows, ...(this.#limitBytes === undefined ? {} : { limitBytes: this.#limitBytes }) };
  }

  async prune(options: PruneOptions): Promise<PruneResult> {
    const { blobs, cache, images, now, snapshotter } = this.#parts;
    const swept =
      (await snapshotter.sweep((session) => cache.isAlive(session))) + (await blobs.sweep(isProcess));
    if (options.all) {
      for (const image of await images.list())
        if (image.names.length === 0) await images.delete(image.manifestDigest);
    }
    const mounts = options.type === 'regular' ? NO_MOUNTS : await this.#pruneMounts(options);
    if (options.type === 'exec.cachemount')
      return { removed: mounts.removed, freedBytes: swept + mounts.freed };
    const everything = options.keepBytes === undefined && options.unusedForMs === undefined;
    const result = await this.#prune({
      limitBytes:
        options.keepBytes === undefined
          ? Number.POSITIVE_INFINITY
          : Math.max(0, options.keepBytes - mounts.keptBytes),
      usedBeforeMs: everything
        ? Number.POSITIVE_INFINITY
        : options.unusedForMs === undefined
          ? undefined
          : now() - options.unusedForMs,
      signal: options.signal,
    });
    const blobBytes = await this.removeUnneededBlobs();
    const repositoryBytes =
      options.keepBytes === undefined
        ? await this.#pruneRepositories(now() - (options.unusedForMs ?? 0), options.signal)
        : 0;
    return {
      removed: result.records + mounts.removed,
      freedBytes: swept + result.bytes + blobBytes + mounts.freed + repositoryBytes,
    };
  }

  /** Cache mounts that nobody uses, the least recently used ones first; they count towards what is to be kept. */
  async #pruneMounts({ keepBytes, unusedForMs }: PruneOptions) {
    const { cacheMounts, now } = this.#parts;
    const all = await cacheMounts.list();
    let keptBytes = total(all);
    const doomed = new Set<string>();
    for (const mount of all.toSorted((a, b) => a.lastUsedAtMs - b.lastUsedAtMs)) {
      const isOld = unusedForMs === undefined || mount.lastUsedAtMs < now() - unusedForMs;
      const isTooMuch = keepBytes === undefined || keptBytes > keepBytes;
      if (mount.inUse || !isOld || !isTooMuch) continue;
      doomed.add(mount.key);
      keptBytes -= mount.bytes;
    }
    const gone = await cacheMounts.remove(doomed);
    return { removed: gone.length, freed: total(gone), keptBytes };
  }

  /** What is kept of Git repositories; no row where there is nothing. */
  async #repositoryRows(): Promise<DiskUsage['rows']> {
    const kept = await this.#parts.sources.repositories();
    const bytes = sizeOf(kept.map((one) => ({ size: one.bytes })));
    return kept.length === 0
      ? []
      : [{ type: 'repositories', count: kept.length, bytes, reclaimableBytes: bytes }];
  }

  /** Removes repositories that nobody used since `before`. @returns bytes freed. */
  async #pruneRepositories(before: number, signal: AbortSignal): Promise<number> {
    const { sources } = this.#parts;
    let freed = 0;
    for (const kept of await sources.repositories()) {
      if (kept.lastUsedAtMs <= before) freed += await sources.removeRepository(kept, signal);
    }
    return freed;
  }

  /** Brings the cache below its limit again, where it has one. */
  async keepLimit(signal: AbortSignal): Promise<void> {
    if (this.#limitBytes !== undefined)
      await this.#prune({ limitBytes: this.#limitBytes, usedBeforeMs: undefined, signal });
  }

  /** Removes blobs that no image names, but for fresh ones. @returns bytes freed. */
  async removeUnneededBlobs(): Promise<number> {
    const { blobs, now } = this.#parts;
    const needed = await this.#neededBlobs();
    let freed = 0;
    for (const { digest, size, modifiedAtMs } of await blobs.list()) {
      if (needed.has(digest) || now() - modifiedAtMs < BLOB_GRACE_MS) continue;
      await blobs.remove(digest);
      freed += size;
    }
    return freed;
  }

  async #prune(request: {
    readonly limitBytes: number;
    readonly usedBeforeMs: number | undefined;
    readonly signal: AbortSignal;
  }) {
    const { cache, snapshotter } = this.#parts;
    const { limitBytes, usedBeforeMs, signal } = request;
    return cache.prune(
      {
        stored: await snapshotter.diffs(),
        images: await this.#imageDiffs(),
        limitBytes,
        ...(usedBeforeMs === undefined ? {} : { usedBeforeMs }),
      },
      async (diffIds) => {
        // A build may have ended, and left an image on a diff, since the images were listed.
        const ofImages = await this.#imageDiffs();
        await snapshotter.remove(diffIds.filter((diffId) => !ofImages.has(diffId)));
      },
      signal,
    );
  }

  async #imageDiffs(): Promise<ReadonlySet<DiffId>> {
    const images = await this.#parts.images.list();
    return new Set(images.flatMap((image) => image.config.rootfs.diff_ids));
  }

  async #neededBlobs(): Promise<ReadonlySet<Digest>> {
    const { images, layerTable } = this.#parts;
    const needed = new Set<Digest>();
    for (const image of await images.list()) {
      needed.add(image.manifestDigest).add(image.configDigest);
      for (const layer of image.manifest.layers) needed.add(layer.digest);
      for (const diffId of image.config.rootfs.diff_ids) {
        const { gzip, zstd } = await layerTable.get(diffId);
        if (gzip !== undefined) needed.add(gzip.digest);
        if (zstd !== undefined) needed.add(zstd.digest);
      }
    }
    return needed;
  }
}

const NO_MOUNTS = { removed: 0, freed: 0, keptBytes: 0 };

function entryOfMount({ key, id, ...usage }: CacheMountUsage): CacheEntry {
  const title = `RUN --mount=type=cache,id=${id}`;
  return { ...usage, key: `sha256:${key}` as StepKey, kind: 'exec.cachemount', title, durationMs: 0 };
}

function total(diffs: readonly { readonly bytes: number }[]): number {
  return diffs.reduce((sum, { bytes }) => sum + bytes, 0);
}

function sizeOf(blobs: readonly { readonly size: number }[]): number {
  return blobs.reduce((sum, { size }) => sum + size, 0);
}
