import type { Digest } from './digest.ts';
import type { Diagnostic, SourceRange } from './failure.ts';
import type { Descriptor } from './oci.ts';
import type { HostPath } from './path.ts';
import type { ResourceLimits, SandboxSpec, Ulimit } from './sandbox.ts';

/** What a build is asked to do. Plain JSON, so that a daemon can take the same request over a socket. */
export interface BuildRequest {
  /** Names the build in records and in `why --build ID`. */
  readonly id: string;
  readonly context: BuildContext;
  readonly dockerfile: DockerfileSource;
  /** Further contexts by the name that Dockerfiles call them by, in {@link contextName}'s form. */
  readonly namedContexts?: Readonly<Record<string, NamedContext>>;
  /** Stage name or number; absent: the last stage. */
  readonly target?: string;
  readonly buildArgs: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  /** References to give the result, as the user wrote them. */
  readonly tags: readonly string[];
  readonly noCache: boolean;
  /** Stages that are not looked up (`--no-cache-filter`). */
  readonly noCacheFilter: readonly string[];
  /** What the cache may answer where a step says nothing else; absent: {@link DEFAULT_CACHING}. */
  readonly caching?: StepCaching;
  /** Run every step that was reused again, after the image is out, and compare. */
  readonly verifyCache?: boolean;
  /** Ask the registry for base images even when the local store has them. */
  readonly pull: boolean;
  /** OCI platforms, `linux/amd64`, `local` for this machine's; none: this machine's. Several make an index. */
  readonly platforms?: readonly string[];
  readonly network: NetworkMode;
  /** What holds for all RUN steps; absent: nothing special. */
  readonly runLimits?: RunLimits;
  /** Rights that steps may take (`--allow`): `network.host`, `security.insecure`, `device`, `device=NAME`. */
  readonly entitlements?: readonly string[];
  readonly outputs: readonly Output[];
  readonly annotations?: readonly ImageAnnotation[];
  /** Most steps at once over all stages. */
  readonly parallelism: number;
}

/** What the cache may answer for a step. */
export interface StepCaching {
  /**
   * `observed`: also what was recorded on another parent, where all that the step had read there is the same here.
   * `exact`: only what was recorded on this very parent, as in Docker.
   */
  readonly mode: 'observed' | 'exact';
  /** Results that the step came to longer ago than this are not reused. */
  readonly ttlMs?: number;
  /**
   * Paths in the image, with Go's wildcards, that differ in every run by their nature: left out when a fresh result is
   * compared with earlier ones, with all that lies below them.
   */
  readonly noise: readonly string[];
}

export const DEFAULT_CACHING: StepCaching = { mode: 'observed', noise: [] };

/** What `COPY` and `ADD` read from. */
export type BuildContext =
  | { readonly kind: 'directory'; readonly path: HostPath }
  | { readonly kind: 'empty' }
  /** A tar (plain or compressed) that was spooled to a file. */
  | { readonly kind: 'archive'; readonly path: HostPath }
  | RemoteContext;

export type RemoteContext =
  /** A repository, in a form that `parseGitUrl` reads. */
  | { readonly kind: 'git'; readonly url: string }
  /** One file: as the main context a tar that is unpacked, or a Dockerfile; as a named one a file called `context`. */
  | { readonly kind: 'http'; readonly url: string };

/** What `--build-context NAME=VALUE` gives: the files or the image that `FROM NAME` and `--from=NAME` mean. */
export type NamedContext =
  | { readonly kind: 'directory'; readonly path: HostPath }
  | RemoteContext
  /** `scratch`, or an image's name. */
  | { readonly kind: 'image'; readonly name: string }
  | OciLayoutContext;

/** An image in a folder of the OCI image layout: by digest, else by tag, else the only one. */
export interface OciLayoutContext {
  readonly kind: 'oci-layout';
  readonly path: HostPath;
  readonly tag?: string;
  readonly digest?: Digest;
}

export type DockerfileSource =
  /** A path inside the context, or absolute. `ignoreFile` rules follow from it (`<name>.dockerignore`). */
  | { readonly kind: 'file'; readonly path: string }
  /** An HTTP address. */
  | { readonly kind: 'remote'; readonly url: string }
  /** Text that came on standard input. */
  | { readonly kind: 'inline'; readonly text: string };

export type NetworkMode = 'default' | 'none' | 'host';

/** What the command line says of the sandboxes of RUN steps. */
export interface RunLimits {
  /** Further lines of /etc/hosts. */
  readonly extraHosts?: SandboxSpec['extraHosts'];
  readonly ulimits?: readonly Ulimit[];
  readonly shmSizeBytes?: number;
  readonly resources?: ResourceLimits;
  readonly cgroupParent?: string;
  readonly noNewPrivileges?: boolean;
}

/**
 * What the person who builds lends to steps while they run. It is asked at the moment of need, is kept nowhere, and is no part of the
 * request: a request is written down.
 */
export interface BuildSession {
  /** The value of a secret (`--secret`); undefined where none was given under this id. */
  readonly secret: (id: string) => Promise<Uint8Array | undefined>;
  /** The socket of an ssh agent (`--ssh`); undefined where none was given under this id. */
  readonly agent: (id: string) => Promise<HostPath | undefined>;
}

export const NO_SESSION: BuildSession = { secret: async () => undefined, agent: async () => undefined };

export type Output =
  /** Into varve's own store, under the tags; with `push` to their registries too, or `byDigest` alone. */
  | {
      readonly type: 'image';
      readonly push: boolean;
      readonly byDigest?: boolean;
      readonly form?: ImageForm;
    }
  /** Into a Docker daemon where one answers, and into varve's own store. */
  | { readonly type: 'daemon'; readonly form?: ImageForm }
  | {
      readonly type: 'oci' | 'docker';
      readonly dest: OutputDest;
      readonly tar: boolean;
      readonly form?: ImageForm;
    }
  /** `platformSplit`: a folder for each platform; absent: where there are several. */
  | { readonly type: 'tar'; readonly dest: OutputDest; readonly platformSplit?: boolean }
  | { readonly type: 'local'; readonly dest: HostPath; readonly platformSplit?: boolean };

/** How an image is written; what is absent is up to the output. */
export interface ImageForm {
  readonly layers?: LayerForm;
  readonly mediaTypes?: 'oci' | 'docker';
  /** Beside those of the request. */
  readonly annotations?: readonly ImageAnnotation[];
}

export interface LayerForm {
  readonly compression: 'uncompressed' | 'gzip' | 'zstd';
  /** Absent: the usual one. */
  readonly level?: number;
  /** Also layers of the base that are compressed otherwise. */
  readonly force?: boolean;
}

/** OCI image-spec, annotations.md. */
export interface ImageAnnotation {
  /** The document, or the descriptor that names it, that gets the annotation. */
  readonly at: 'manifest' | 'manifest-descriptor' | 'index' | 'index-descriptor';
  /** Absent: every platform. */
  readonly platform?: string;
  readonly name: string;
  readonly value: string;
}

export type OutputDest = { readonly kind: 'file'; readonly path: HostPath } | { readonly kind: 'stdout' };

export type StepKind = 'RUN' | 'COPY' | 'ADD' | 'WORKDIR';

/** How a step came to its result; the words of `--metadata-file`. */
export type StepOutcome = 'exact' | 'observed' | 'ran' | 'failed';

export interface StepInfo {
  /** Position in the Dockerfile among the steps of this build, from 0. */
  readonly index: number;
  readonly kind: StepKind;
  /** The instruction as written, one line: `RUN npm ci`. */
  readonly name: string;
  /** The stage's name, or its number where it has none. */
  readonly stage: string;
  /** The stage's platform; absent in a build for one platform alone. */
  readonly platform?: string;
  readonly range: SourceRange;
}

/** One step of `varve.steps` in the metadata file. */
export interface StepSummary {
  readonly name: string;
  readonly stage: string;
  readonly platform?: string;
  readonly outcome: StepOutcome;
  readonly reason: string;
  readonly ms: number;
}

/** What happened, as it happens. Plain JSON: `--progress=rawjson` prints one a line. `at` is ms since the build began. */
export type BuildEvent =
  | { readonly type: 'build.started'; readonly at: number; readonly id: string; readonly dockerfile: string }
  | { readonly type: 'build.planned'; readonly at: number; readonly steps: readonly StepInfo[] }
  | { readonly type: 'phase.started'; readonly at: number; readonly phase: string; readonly name: string }
  | {
      readonly type: 'phase.progress';
      readonly at: number;
      readonly phase: string;
      /** Bytes, files or steps, as `unit` says; `total` is absent while unknown. */
      readonly current: number;
      readonly total?: number;
      readonly unit: 'bytes' | 'files' | 'steps';
    }
  | { readonly type: 'phase.finished'; readonly at: number; readonly phase: string; readonly detail?: string }
  | { readonly type: 'step.started'; readonly at: number; readonly step: number }
  | {
      readonly type: 'step.log';
      readonly at: number;
      readonly step: number;
      readonly stream: 'stdout' | 'stderr';
      /** Decoded as UTF-8; lines may be split over events. */
      readonly text: string;
    }
  | {
      readonly type: 'step.finished';
      readonly at: number;
      readonly step: number;
      readonly outcome: StepOutcome;
      readonly reason: string;
      readonly ms: number;
    }
  | { readonly type: 'warning'; readonly at: number; readonly diagnostic: Diagnostic }
  | {
      readonly type: 'build.finished';
      readonly at: number;
      readonly ok: boolean;
      readonly image?: BuiltImage;
      readonly error?: string;
    };

export interface BuiltImage {
  /** Digest of the manifest as stored or, after a push, as pushed; of several platforms, of the index. */
  readonly manifestDigest: Digest;
  /** Digest of the configuration: Docker's image ID. Absent of several platforms, which have one each. */
  readonly configDigest?: Digest;
  /** What names the image in a registry. */
  readonly descriptor?: Descriptor;
  readonly names: readonly string[];
}

export type EventSink = (event: BuildEvent) => void;

/** What `--iidfile` holds and a quiet build prints: the image's ID, of several platforms the digest of their index. */
export function idOf({ configDigest, manifestDigest }: BuiltImage): Digest {
  return configDigest ?? manifestDigest;
}
