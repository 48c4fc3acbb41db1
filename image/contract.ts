import type {
  Descriptor,
  DiffFiles,
  DiffId,
  Digest,
  HostPath,
  ImageConfig,
  ImageManifest,
  Platform,
  Reference,
  StoreFact,
  TreeOp,
} from '../core/index.ts';
import type { Credentials } from './registry/credentials.ts';

/** Blobs by digest in one folder. Written to a temporary name, verified, renamed: a blob under its digest is whole. */
export interface BlobStore {
  has(digest: Digest): Promise<boolean>;
  size(digest: Digest): Promise<number | undefined>;
  /** Whether a blob that is there fits its digest; one that does not is removed. */
  isWhole(digest: Digest): Promise<boolean>;
  /**
   * The bytes, verified as they flow: the stream fails with `blob-corrupt` at its end where they do not fit the digest. Such a blob is
   * removed.
   */
  open(digest: Digest): AsyncIterable<Uint8Array>;
  read(digest: Digest): Promise<Uint8Array>;
  /** Stores `bytes`; fails with `digest-mismatch` where `expected` does not fit, and then keeps nothing. */
  put(
    bytes: AsyncIterable<Uint8Array> | Uint8Array,
    expected?: { digest?: Digest; size?: number },
  ): Promise<BlobInfo>;
  remove(digest: Digest): Promise<void>;
  list(): Promise<
    readonly { readonly digest: Digest; readonly size: number; readonly modifiedAtMs: number }[]
  >;
  pathOf(digest: Digest): HostPath;
  /** Removes what processes left behind that died while they wrote. Gives the bytes that became free. */
  sweep(isAlive: (pid: number) => boolean): Promise<number>;
}

export interface BlobInfo {
  readonly digest: Digest;
  readonly size: number;
  /** Told by `put`: the store had this blob before. */
  readonly existed?: boolean;
}

/** A layer of an image: its diff's name, and how to get the bytes of its tar. */
export interface Layer {
  readonly diffId: DiffId;
  /** As it is stored or travels: digest, size and media type (plain tar, gzip or zstd). */
  readonly descriptor: Descriptor;
  /** The bytes that the descriptor names. */
  open(): AsyncIterable<Uint8Array>;
}

/** An image in the local store. Names are full references (`docker.io/library/app:latest`). */
export interface StoredImage {
  readonly manifestDigest: Digest;
  readonly manifest: ImageManifest;
  readonly configDigest: Digest;
  readonly config: ImageConfig;
  readonly names: readonly string[];
  /** Those of `names` that mean it only to who asks for its platform. */
  readonly platformNames?: readonly string[];
  /** By name, the digest of the index that the name means; absent for a name that means the manifest alone. */
  readonly indexDigests?: Readonly<Record<string, Digest>>;
}

/** What a name means: an image, and others for who asks for their platforms. */
export interface NameMeaning {
  /** The manifest for who asks for no platform. */
  readonly manifest: Digest;
  /** Manifests by platform, in `formatPlatform`'s words. */
  readonly platforms?: Readonly<Record<string, Digest>>;
  /** The index that names all of them, and maybe others, as it was built or came: its digest names the whole. */
  readonly index?: string;
}

/**
 * Names and manifests of the images on this machine. A layer that varve built has no blob: its tar is made again from
 * the diff when it is asked for, byte for byte the same, and checked against its digest.
 */
export interface ImageStore {
  /**
   * By name, by image ID (config digest) or manifest digest, or by a unique prefix of an ID (at least 4 hex digits). A name
   * that means several images, or the digest of their index, gives that for `platform`, else the one for this machine.
   */
  resolve(nameOrId: string, platform?: Platform): Promise<StoredImage | undefined>;
  /** All that a name, or the digest of an index, means; of any other ID that one image. */
  meaningOf(nameOrId: string): Promise<NameMeaning | undefined>;
  /** The images of a meaning that are here, that for who asks for no platform first. */
  imagesOf(meaning: NameMeaning): Promise<readonly StoredImage[]>;
  list(): Promise<readonly StoredImage[]>;
  /**
   * Stores config and manifest and points `names` at it; names move from whatever had them. `manifest`: the bytes to keep
   * where they are another's (a pulled image keeps its digest); they must name this config and these layers. Absent: made
   * by `encodeManifest`. `beside`: the names go on meaning what they do on other platforms; where that is `another`
   * platform than this machine's, only who asks for it finds the image by them. `index`: where the image came from; kept while
   * it names all that the names mean.
   */
  put(image: {
    readonly config: Uint8Array;
    readonly layers: readonly Descriptor[];
    readonly names: readonly string[];
    readonly manifest?: Uint8Array;
    readonly beside?: { readonly platform: Platform; readonly another: boolean };
    readonly index?: Uint8Array;
  }): Promise<StoredImage>;
  /** The layers of an image, lowest first; `open` fails with `layer-missing` where neither blob nor diff is there. */
  layersOf(image: StoredImage): Promise<readonly Layer[]>;
  /** Makes `name` mean an image, or all that another name means. */
  tag(meant: Digest | NameMeaning, name: string): Promise<void>;
  /** Takes a name away, or `only` one image out of what it means. Returns the images that had it, with their names before that. */
  untag(name: string, only?: Digest): Promise<readonly StoredImage[]>;
  /**
   * What the images rest on that this process has resolved and put; undefined where one was found otherwise than by its name.
   */
  facts(): readonly StoreFact[] | undefined;
  /** Forgets an image without names; its blobs go with the next prune. */
  delete(manifestDigest: Digest): Promise<void>;
}

/** Finds a Docker daemon to hand images to. */
export interface DockerDaemons {
  /** The daemon of this machine's settings; undefined where none answers. */
  find(signal: AbortSignal): Promise<DockerDaemon | undefined>;
}

export interface DockerDaemon {
  /** Where it listens, as in `DOCKER_HOST`. */
  readonly name: string;
  /** Hands over an archive as `docker load` does. @throws MachineError `docker-load` where it is not taken. */
  load(archive: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
}

export interface PackedLayer {
  readonly diffId: DiffId;
  /** Bytes of the uncompressed tar. */
  readonly size: number;
}

/** A diff as it lies on disk: what to pack into a layer. */
export type DiffSource = DiffFiles;

/**
 * What is known about a layer beside its diff, on disk by diffId: with what it was packed, and its compressed forms, so that
 * a second push or export finds their blobs.
 */
export interface LayerTable {
  get(diffId: DiffId): Promise<LayerFacts>;
  /** Adds to what is known. */
  note(diffId: DiffId, facts: LayerFacts): Promise<void>;
}

export interface LayerFacts {
  /** `PackOptions.sourceDateEpoch` of its packing; without it the tar could not be made again. */
  readonly sourceDateEpoch?: number;
  readonly gzip?: Descriptor;
  readonly zstd?: Descriptor;
}

export interface PackOptions {
  /** SOURCE_DATE_EPOCH in seconds: later time stamps are set back to it. */
  readonly sourceDateEpoch?: number;
  /** Told of what a layer cannot hold and what is therefore left out (sockets), in words for a person. */
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/** Limits on what a layer may do to this machine; exceeding one fails with `layer-refused`. */
export interface UnpackLimits {
  /** Most bytes of an uncompressed layer. */
  readonly maxBytes: number;
  readonly maxEntries: number;
  /** Most bytes of one header's pax records or long names. */
  readonly maxHeaderBytes: number;
}

export interface UnpackOptions {
  readonly limits?: UnpackLimits;
  /** False: the tar is no layer, and names that begin with `.wh.` remove nothing. */
  readonly whiteouts?: boolean;
  readonly signal?: AbortSignal;
}

/** Turns a layer's tar into operations on a tree; see `TreeOps.apply`. */
export type UnpackLayer = (tar: AsyncIterable<Uint8Array>, options?: UnpackOptions) => AsyncIterable<TreeOp>;

export interface ResolvedImage {
  readonly reference: Reference;
  readonly manifestDigest: Digest;
  readonly manifest: ImageManifest;
  /** As the registry sent them: what `ImageStore.put` keeps. */
  readonly manifestBytes: Uint8Array;
  /** The index in which the registry has the manifest. */
  readonly indexBytes?: Uint8Array;
  readonly config: ImageConfig;
  readonly configBytes: Uint8Array;
}

export type TransferProgress = (progress: {
  readonly digest: Digest;
  readonly current: number;
  readonly total: number;
  readonly state: 'waiting' | 'downloading' | 'uploading' | 'exists' | 'mounted' | 'done';
}) => void;

/** A client of the OCI distribution API (distribution-spec v1.1). */
export interface Registry {
  /**
   * Manifest and config of `reference` for `platform`; fails with `image-unknown`, `registry-unreachable`, `registry-denied`,
   * `no-platform`. An image that stands in no index is given for whatever platform it is.
   */
  resolve(reference: Reference, platform: Platform, signal?: AbortSignal): Promise<ResolvedImage>;
  /** Brings the blobs that `blobs` lacks: several at once, resumed after a cut, verified. */
  fetchBlobs(
    reference: Reference,
    descriptors: readonly Descriptor[],
    options: {
      readonly blobs: BlobStore;
      readonly onProgress?: TransferProgress;
      readonly signal?: AbortSignal;
    },
  ): Promise<void>;
  /**
   * Uploads what the registry lacks, then the manifest. Blobs that it has are skipped; those it has in another
   * repository (`mountFrom`) are mounted from there.
   */
  push(
    reference: Reference,
    image: { readonly manifest: Uint8Array; readonly config: Uint8Array; readonly layers: readonly Layer[] },
    options: {
      readonly mountFrom?: readonly string[];
      readonly onProgress?: TransferProgress;
      readonly signal?: AbortSignal;
    },
  ): Promise<Digest>;
  /** Puts an index; what it names must be there already. @returns its digest. */
  pushIndex(reference: Reference, index: Uint8Array, signal?: AbortSignal): Promise<Digest>;
  /** Is `host` a registry that takes these credentials (absent: the stored ones)? Fails with `registry-denied`, `registry-unreachable`. */
  ping(host: string, credentials?: Credentials, signal?: AbortSignal): Promise<void>;
}
