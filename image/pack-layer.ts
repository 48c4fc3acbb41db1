import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  asDigest,
  type Change,
  type DiffFolders,
  type DiffId,
  type HashTar,
  MachineError,
} from '../core/index.ts';
import type { DiffSource, PackedLayer, PackOptions } from './contract.ts';
import { layerTar, tarPieces } from './layer-tar.ts';

/** Below these a worker thread takes longer to start than the packing takes. */
const INLINE_BYTES = 2 * 1024 * 1024;
const INLINE_CHANGES = 300;
const BATCH = 1000;

export interface PackLayerOptions extends PackOptions {
  /** The module of the worker thread: `pack-worker.ts` beside this file, or what a bundler made of it. */
  readonly workerUrl?: URL;
  /** Hashes large layers; absent: a worker thread does. */
  readonly hashTar?: HashTar;
}

/** What the packing thread is told: the changes in batches, then where and how. */
export type PackRequest =
  | { readonly type: 'changes'; readonly changes: readonly Change[] }
  | { readonly type: 'pack'; readonly folders: DiffFolders; readonly sourceDateEpoch: number | undefined };

/** What the packing thread answers; the last message is `done` or `failed`. */
export type PackReply =
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'done'; readonly diffId: DiffId; readonly size: number }
  | {
      readonly type: 'failed';
      readonly code: string;
      readonly message: string;
      readonly hint: string | undefined;
    };

/**
 * The digest and size of the tar that {@link layerTar} makes of `source`; the tar itself is not kept. Large diffs are read
 * and hashed beside this thread.
 *
 * @throws MachineError as {@link layerTar}; the signal's reason when it is aborted.
 */
export async function packLayer(source: DiffSource, options: PackLayerOptions = {}): Promise<PackedLayer> {
  options.signal?.throwIfAborted();
  if (isSmall(source.changes)) return packHere(source, options);
  const { hashTar, signal } = options;
  if (hashTar === undefined) return packOnThread(source, options);
  const { digest, size } = await hashTar(foldersOf(source), tarPieces(source.changes, options), signal);
  return { diffId: digest as DiffId, size };
}

function isSmall(changes: readonly Change[]): boolean {
  if (changes.length > INLINE_CHANGES) return false;
  let bytes = 0;
  for (const change of changes) if (change.kind === 'set') bytes += change.entry.size;
  return bytes <= INLINE_BYTES;
}

async function packHere(source: DiffSource, options: PackOptions): Promise<PackedLayer> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of layerTar(source, options)) {
    hash.update(chunk);
    size += chunk.byteLength;
  }
  return { diffId: asDigest(`sha256:${hash.digest('hex')}`) as DiffId, size };
}

async function packOnThread(source: DiffSource, options: PackLayerOptions): Promise<PackedLayer> {
  const url = options.workerUrl ?? new URL('./pack-worker.ts', import.meta.url);
  const worker = new Worker(url, { name: 'varve-pack', execArgv: [] });
  const packed = Promise.withResolvers<PackedLayer>();
  const abort = (): void => packed.reject(options.signal?.reason);
  worker.on('message', (reply: PackReply) => {
    if (reply.type === 'warning') options.onWarning?.(reply.message);
    else if (reply.type === 'done') packed.resolve({ diffId: reply.diffId, size: reply.size });
    else
      packed.reject(
        new MachineError(reply.code, reply.message, reply.hint === undefined ? {} : { hint: reply.hint }),
      );
  });
  worker.on('error', packed.reject);
  worker.on('exit', () => packed.reject(new Error('the packing thread ended without a result')));
  options.signal?.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([send(worker, source, options), packed.promise]);
    return await packed.promise;
  } finally {
    options.signal?.removeEventListener('abort', abort);
    await worker.terminate();
  }
}

/** Batches keep the copying of a large diff's changes from holding up this thread. */
async function send(worker: Worker, source: DiffSource, options: PackOptions): Promise<void> {
  const post = (request: PackRequest): void => worker.postMessage(request);
  for (let at = 0; at < source.changes.length; at += BATCH) {
    post({ type: 'changes', changes: source.changes.slice(at, at + BATCH) });
    await nextTurn();
  }
  post({ type: 'pack', folders: foldersOf(source), sourceDateEpoch: options.sourceDateEpoch });
}

function foldersOf({ folder, original }: DiffSource): DiffFolders {
  return original === undefined ? { folder } : { folder, original };
}
