import { createHash } from 'node:crypto';
import type { Brand } from './brand.ts';

/**
 * The name of content: `sha256:` and 64 lower-case hex digits (OCI image-spec, descriptor.md, "Digests").
 * Equal digests mean equal bytes; only a digest may decide a cache hit.
 */
export type Digest = Brand<string, 'Digest'>;

/** The digest of a layer's uncompressed tar (OCI image-spec, config.md, "Layer DiffID"). */
export type DiffId = Digest & Brand<string, 'DiffId'>;

/**
 * Names a stack of diffs, lowest first, by content: the OCI ChainID (image-spec, config.md, "Layer ChainID").
 * Two machines that hold the same stack give it the same id.
 */
export type SnapshotId = Brand<string, 'SnapshotId'>;

/** Says "probably unchanged" about a file inside this machine's own index; never decides a hit. 64 bits. */
export type FileMark = Brand<bigint, 'FileMark'>;

/** The digest of a step's canonical key struct. */
export type StepKey = Brand<string, 'StepKey'>;

const DIGEST = /^sha256:[0-9a-f]{64}$/;

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** @throws Error where `text` is no sha256 digest; callers check foreign text with {@link isDigest} first. */
export function asDigest(text: string): Digest {
  if (!isDigest(text)) throw new Error(`not a sha256 digest: ${JSON.stringify(text.slice(0, 100))}`);
  return text;
}

/** The 64 hex digits without the algorithm's name, as file names use them. */
export function digestHex(digest: Digest | SnapshotId | StepKey): string {
  return digest.slice('sha256:'.length);
}

export function digestOf(bytes: string | Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

/** ChainID of `diffId` laid on `parent`; `parent` is undefined for the lowest layer. */
export function chainId(parent: SnapshotId | undefined, diffId: DiffId): SnapshotId {
  if (parent === undefined) return diffId as string as SnapshotId;
  return digestOf(`${parent} ${diffId}`) as string as SnapshotId;
}

/** ChainID of a whole stack, lowest first; undefined for no layers (`FROM scratch`). */
export function chainIdOf(diffIds: readonly DiffId[]): SnapshotId | undefined {
  let chain: SnapshotId | undefined;
  for (const diffId of diffIds) chain = chainId(chain, diffId);
  return chain;
}
