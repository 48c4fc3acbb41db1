import type {
  BuildSuccess,
  CallAnswer,
  CallKind,
  FailedBuild,
  UnchangedBuild,
  VerifiedStep,
} from '../builder/index.ts';
import type { BuildReport, NotedOutput, RecordUsage, TimeSpan } from '../cache/index.ts';
import type {
  BuildRequest,
  BuildSession,
  EventSink,
  Mount,
  Observation,
  ResourceLimits,
  Result,
  SandboxIo,
  SandboxProcess,
  StepKey,
  Ulimit,
} from '../core/index.ts';
import type { StoredImage, TransferProgress } from '../image/index.ts';

/**
 * All that the commands ask of varve's rooms: one object, composed in `engine.ts`, opened by the commands that need a
 * store. Errors of the machine are `MachineError`s; every long call ends early, with an error, when its signal aborts.
 */
export interface Engine extends AsyncDisposable {
  /** Builds, and sends what happens to `onEvent` as it happens; the last event is `build.finished`. */
  build(request: BuildRequest, options: BuildCallOptions): Promise<Result<BuildSuccess, FailedBuild>>;

  /**
   * Leaves a note of a build in which nothing had to be done, for the native program: the same call is answered by it as long as nothing
   * changes. Does nothing where that could be noticed.
   */
  noteUnchanged(
    unchanged: UnchangedBuild,
    told: {
      readonly call: Uint8Array;
      readonly output: readonly NotedOutput[];
      /** When it may be said; absent: always. */
      readonly during?: TimeSpan | undefined;
    },
  ): Promise<void>;

  /**
   * Answers a question about a Dockerfile without building it; sends no events. Needs neither root nor the native program.
   */
  call(
    request: BuildRequest,
    call: CallKind,
    options: BuildCallOptions,
  ): Promise<Result<CallAnswer, FailedBuild>>;

  /**
   * Starts a container: finds the image (pulling it where `request.pull` says so), lays a writable layer on it and starts
   * its process. The layer is thrown away when the process has ended, before `outcome` resolves.
   * Rejects with `MachineError` `image-unknown` where there is no such image.
   */
  run(request: RunRequest, io: SandboxIo, options: TransferOptions): Promise<SandboxProcess>;

  /** Every image of the store, newest first. */
  images(): Promise<readonly ImageSummary[]>;
  /**
   * By name, ID or unique prefix of an ID; undefined where there is none. `platform`: that one of several; rejects with `no-platform`
   * where it is not among them, as all do that take one.
   */
  findImage(nameOrId: string, platform?: string): Promise<ImageDetails | undefined>;
  /** Gives all that `source` means the further name `target` (full reference). Rejects with `image-unknown`. */
  tag(source: string, target: string): Promise<void>;
  /**
   * Takes a name away, or, given an ID, the image with all of its names; `force` allows the latter for several names.
   * Layers that nothing else needs are removed unless `prune` is false. Rejects with `image-unknown`, `image-in-use`.
   */
  remove(
    nameOrId: string,
    options: { readonly force: boolean; readonly prune: boolean; readonly platform?: string },
  ): Promise<readonly RemovedImage[]>;

  pull(
    reference: string,
    options: TransferOptions & { readonly platform?: string },
  ): Promise<{ readonly image: StoredImage; readonly upToDate: boolean }>;
  /** Resolves to the digest and size of the manifest, or of the index over several platforms, as pushed. */
  push(
    reference: string,
    options: TransferOptions & { readonly platform?: string },
  ): Promise<{ readonly digest: string; readonly size: number }>;
  /** Asks the registry whether these credentials are good. Rejects with `registry-denied`. */
  checkLogin(
    host: string,
    credentials: { readonly username: string; readonly password: string },
    signal: AbortSignal,
  ): Promise<void>;

  /** A `docker save` archive of these images, as a stream of bytes. */
  save(names: readonly string[], signal: AbortSignal, platform?: string): AsyncIterable<Uint8Array>;
  /** Reads a `docker save` or OCI archive (plain or compressed). */
  load(archive: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<readonly StoredImage[]>;

  /** The build with this id (or unique prefix), else the newest; undefined where there is none. */
  report(id?: string): Promise<BuildReport | undefined>;
  /** What the step of a report's `key` looked at when it ran; undefined where that is not known. */
  reads(key: StepKey): Promise<readonly Observation[] | undefined>;
  /** Newest first. */
  reports(limit: number): Promise<readonly BuildReport[]>;
  cacheRecords(): Promise<readonly CacheEntry[]>;
  diskUsage(): Promise<DiskUsage>;
  /**
   * Checks layers and blobs, then runs recorded `RUN` steps again, each on the parent that it was recorded on, and compares. A record that turns out to be
   * wrong is dropped.
   */
  verify(options: VerifyOptions): Promise<readonly VerifiedStep[]>;
  /** Removes least-used records until `keepBytes` are left (0: all that nothing needs). */
  prune(options: PruneOptions): Promise<PruneResult>;
}

export interface BuildCallOptions {
  readonly onEvent: EventSink;
  readonly signal: AbortSignal;
  /** Takes the bytes of an output whose destination is standard output; resolves when they are taken. */
  readonly writeStdout: (chunk: Uint8Array) => Promise<void>;
  readonly session?: BuildSession;
}

export type { BuildSuccess, CallAnswer, CallKind, FailedBuild, VerifiedStep };

/** What `varve run` asks for: plain data. What is absent comes from the image's configuration. */
export interface RunRequest {
  readonly image: string;
  /** Absent: what the image's name means here, or this machine's. */
  readonly platform?: string;
  readonly pull: 'always' | 'missing' | 'never';
  /** Replaces the image's CMD where it is not empty. */
  readonly command: readonly string[];
  /** Replaces ENTRYPOINT and drops CMD; `''` means none. */
  readonly entrypoint?: string;
  /** `NAME=value`, on top of the image's. */
  readonly env: readonly string[];
  readonly workdir?: string;
  /** `name|uid[:group|gid]`, looked up in the image. */
  readonly user?: string;
  readonly name?: string;
  readonly hostname?: string;
  readonly mounts: readonly Mount[];
  readonly network: 'default' | 'host' | 'none';
  readonly extraHosts: readonly { readonly name: string; readonly address: string }[];
  readonly limits: ResourceLimits;
  readonly ulimits: readonly Ulimit[];
  readonly cgroupParent?: string;
  readonly readonlyRoot: boolean;
  readonly noNewPrivileges: boolean;
  readonly shmSizeBytes: number;
  /** A pseudo-terminal; sets TERM where the image does not. */
  readonly tty: boolean;
  readonly interactive: boolean;
}

export interface TransferOptions {
  readonly onProgress?: TransferProgress;
  readonly signal: AbortSignal;
}

/** One line of `varve images`. */
export interface ImageSummary {
  readonly image: StoredImage;
  /** Bytes of its uncompressed layers. */
  readonly size: number;
}

export interface ImageDetails extends ImageSummary {
  /** Bytes of each uncompressed layer, lowest first. */
  readonly layerSizes: readonly number[];
}

export type RemovedImage =
  | { readonly kind: 'untagged'; readonly name: string }
  | { readonly kind: 'deleted'; readonly id: string };

/** A record of a step, or a folder that steps keep (`exec.cachemount`). */
export interface CacheEntry extends Omit<RecordUsage, 'kind' | 'uses'> {
  readonly kind: RecordUsage['kind'] | 'exec.cachemount';
  /** Absent of a folder: its uses are not counted. */
  readonly uses?: number;
  /** Bytes of the record's diff; 0 where it changed nothing. */
  readonly bytes: number;
  /** An image or a running build holds it: eviction leaves it alone. */
  readonly inUse: boolean;
}

/** One line each of `varve cache du`. */
export interface DiskUsage {
  readonly rows: readonly DiskUsageRow[];
  /** The limit that eviction keeps; absent: none. */
  readonly limitBytes?: number;
}

export interface DiskUsageRow {
  /** `images`, `step cache`, `cache mounts`, `blobs`. */
  readonly type: string;
  readonly count: number;
  readonly bytes: number;
  readonly reclaimableBytes: number;
}

export interface VerifyOptions {
  /** So many records, chosen at random; absent: all. */
  readonly sample?: number;
  /** Paths that are left out, as `noise` of a build. */
  readonly noise: readonly string[];
  /** Called before each step with how many are done. */
  readonly onStep: (done: number) => void;
  readonly signal: AbortSignal;
}

/** Docker's words. */
export type PrunedType = 'regular' | 'exec.cachemount';

export interface PruneOptions {
  /** Also what was used lately, and images without a name. */
  readonly all: boolean;
  readonly keepBytes?: number;
  /** Only what was not used for this long. */
  readonly unusedForMs?: number;
  /** Steps' results (`regular`) or cache mounts alone. */
  readonly type?: PrunedType;
  readonly signal: AbortSignal;
}

export interface PruneResult {
  readonly removed: number;
  readonly freedBytes: number;
}

/** What an engine is composed from. */
export interface EngineOptions {
  /** The state folder, absolute. */
  readonly root: string;
  readonly config: VarveConfig;
  /** Folder of Docker's config.json. */
  readonly dockerConfig: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly now: () => number;
  /** How long a server may be silent in the middle of an exchange; absent: as `TransportOptions` has it. */
  readonly stallMs?: number;
}

export type OpenEngine = (options: EngineOptions) => Promise<Engine>;

/** What `config.toml` says; see `config.ts`. */
export interface VarveConfig {
  /** By host, `docker.io`. */
  readonly registries: Readonly<Record<string, RegistryConfig>>;
  readonly cache: { readonly maxBytes?: number };
  readonly build: { readonly parallelism?: number };
}

export interface RegistryConfig {
  /** Hosts (with optional path) that are asked first, in order. */
  readonly mirrors: readonly string[];
  /** Plain HTTP. Absent: only for loopback. */
  readonly http?: boolean;
  /** HTTPS whose certificate is not checked. */
  readonly insecure?: boolean;
}
