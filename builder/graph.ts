import type {
  ContainerConfig,
  Digest,
  GitSource,
  ImagePath,
  NetworkMode,
  Platform,
  Reference,
  RunLimits,
  SourceRange,
  StepCaching,
  StepInfo,
} from '../core/index.ts';

/**
 * A Dockerfile made ready to be carried out: every word expanded, every stage and image that is named found, stages that
 * the target does not need left out. Plain data.
 */
export interface BuildGraph {
  /** The needed stages, in Dockerfile order, for one platform after the other. */
  readonly stages: readonly StagePlan[];
  /** The stages that are asked for: one for each platform. */
  readonly targets: readonly BuildTarget[];
}

export interface BuildTarget {
  /** Index of the stage. */
  readonly stage: number;
  /** What the image says that it runs on. */
  readonly platform: Platform;
}

export interface StagePlan {
  /** Position in the Dockerfile, from 0; in a graph for several platforms, position in the graph. */
  readonly index: number;
  /** The stage's name, or its number where it has none. */
  readonly name: string;
  readonly base: StageBase;
  readonly steps: readonly Step[];
  /** The image's configuration when all instructions of the stage are done. */
  readonly config: ContainerConfig;
  readonly author?: string;
  readonly platform: Platform;
  /** One item an instruction, in order, after the base's own history. */
  readonly history: readonly HistoryItem[];
}

export type StageBase =
  | { readonly kind: 'scratch' }
  | { readonly kind: 'stage'; readonly index: number }
  | { readonly kind: 'image'; readonly image: ImageUse };

/** An image that the build reads: where its name stands and what it was found to be. */
export interface ImageUse {
  readonly reference: Reference;
  readonly manifestDigest: Digest;
  readonly range: SourceRange;
}

export interface HistoryItem {
  readonly createdBy: string;
  /** The step that makes this instruction's layer; absent for instructions without one. */
  readonly step?: number;
}

/** An instruction that can change files. */
export type Step = RunStep | CopyStep | WorkdirStep;

interface StepBase {
  readonly info: StepInfo;
  /** Index of its stage. */
  readonly stage: number;
  /** True: not looked up, always carried out. */
  readonly noCache: boolean;
  readonly caching: StepCaching;
  /** Which step of which Dockerfile this is; finds what it was last time, to say what changed. */
  readonly slot: string;
}

export interface RunStep extends StepBase {
  readonly kind: 'RUN';
  /** `BUILDKIT_SANDBOX_HOSTNAME`; absent: the usual one. */
  readonly hostname?: string;
  /** What its programs are made for. */
  readonly platform: Platform;
  readonly args: readonly string[];
  /** A heredoc that starts with `#!`: written to `/dev/pipes/<name>`, which the shell starts. */
  readonly script?: { readonly name: string; readonly text: string };
  readonly environment: Readonly<Record<string, string>>;
  /** Given to the command but no part of the key or the history (predefined proxy arguments). */
  readonly hiddenEnvironment: Readonly<Record<string, string>>;
  readonly user: string;
  readonly workdir: ImagePath;
  readonly network: NetworkMode;
  readonly mounts: readonly RunMount[];
  readonly security: 'sandbox' | 'insecure';
  readonly devices: readonly DeviceRequest[];
  /** What the command line says of all RUN steps. */
  readonly limits: RunLimits;
}

/** `RUN --mount`. */
export type RunMount = TmpfsMount | BindMount | CacheMount | SecretMount | AgentMount;

export interface TmpfsMount {
  readonly type: 'tmpfs';
  readonly target: ImagePath;
  readonly sizeBytes?: number;
  readonly readonly?: boolean;
}

/** Files of the context, a stage or an image; what the command writes there is thrown away. */
export interface BindMount {
  readonly type: 'bind';
  readonly target: ImagePath;
  readonly from: TreeRef;
  /** Inside of `from`, symlinks not resolved yet. */
  readonly source: ImagePath;
  readonly readonly: boolean;
  readonly range: SourceRange;
}

/** A folder that is kept between builds. */
export interface CacheMount extends Ownership {
  readonly type: 'cache';
  readonly target: ImagePath;
  readonly id: string;
  readonly sharing: CacheSharing;
  readonly readonly: boolean;
  /** What it holds the first time. */
  readonly from: TreeRef;
  readonly source: ImagePath;
  readonly range: SourceRange;
}

/**
 * What happens where another step uses a cache mount: both use it at once, one gets another copy, or one waits.
 */
export type CacheSharing = 'shared' | 'private' | 'locked';

/** A value that `--secret` gives, as a file, as a variable, or as both. */
export interface SecretMount extends Ownership {
  readonly type: 'secret';
  readonly id: string;
  readonly target?: ImagePath;
  readonly env?: string;
  /** False: the step runs without it where it was not given. */
  readonly required: boolean;
  readonly range: SourceRange;
}

/** The socket of an agent that `--ssh` gives. */
export interface AgentMount extends Ownership {
  readonly type: 'ssh';
  readonly id: string;
  readonly target: ImagePath;
  readonly required: boolean;
  readonly range: SourceRange;
}

/** `RUN --device`: a name of the Container Device Interface. */
export interface DeviceRequest {
  readonly name: string;
  /** False: the step runs without it where the machine has none. */
  readonly required: boolean;
  /** False: only a device that its specification lets everybody have. */
  readonly granted: boolean;
  readonly range: SourceRange;
}

export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface CopyStep extends StepBase {
  readonly kind: 'COPY' | 'ADD';
  readonly sources: readonly CopySourcePlan[];
  /** Absolute or, joined to the work folder, made so; a trailing slash is kept: it asks for a folder. */
  readonly destination: string;
  /** `user[:group]` as written; absent: owners are 0:0 for the context and kept for stages and images. */
  readonly chown?: string;
  /** Permission bits for everything that is copied, or a symbolic mode that changes those of the source (chmod(1)). */
  readonly chmod?: number | string;
  /** The layer is made on nothing and laid on whatever the stage has: it sees nothing of its parent. */
  readonly link?: true;
  /** Folders on the way to a source are kept. */
  readonly parents?: true;
  /** Patterns of what is left out; valid ones. */
  readonly exclude?: readonly string[];
  /** ADD: whether archives are unpacked; absent: as it is for their kind of source. */
  readonly unpack?: boolean;
}

export type CopySourcePlan =
  | { readonly kind: 'path'; readonly from: TreeRef; readonly pattern: string; readonly range: SourceRange }
  | { readonly kind: 'inline'; readonly name: string; readonly text: string }
  /** ADD from a web server; `name` is the file's where the destination is a folder. */
  | {
      readonly kind: 'http';
      readonly url: string;
      readonly name: string;
      readonly checksum?: Digest;
      readonly range: SourceRange;
    }
  /** ADD of a repository's files. */
  | { readonly kind: 'git'; readonly source: GitSource; readonly range: SourceRange };

/** Whose files a COPY reads. */
export type TreeRef =
  | { readonly kind: 'context' }
  /** A context of `--build-context` that is no image. */
  | { readonly kind: 'named'; readonly name: string }
  | { readonly kind: 'stage'; readonly index: number; readonly name: string }
  | { readonly kind: 'image'; readonly image: ImageUse }
  /** No files at all. */
  | { readonly kind: 'scratch' };

export interface WorkdirStep extends StepBase {
  readonly kind: 'WORKDIR';
  readonly path: ImagePath;
  /** Owner of folders that are made. */
  readonly user: string;
}
