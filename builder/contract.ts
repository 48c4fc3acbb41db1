import type { BuildLog, BuildReport, CacheMounts, FileIndex, StepCache, StepRecord } from '../cache/index.ts';
import type {
  BuildFailure,
  BuiltImage,
  FileLooks,
  HostFact,
  HostPath,
  LookInto,
  Platform,
  Runner,
  Snapshotter,
  StepSummary,
  TreeOps,
} from '../core/index.ts';
import type {
  BlobStore,
  DiffSource,
  DockerDaemons,
  ImageStore,
  LayerTable,
  PackedLayer,
  PackOptions,
  Registry,
} from '../image/index.ts';
import type { Sources } from './sources/index.ts';
import type { HitReport } from './verify-report.ts';
import type { VerifiedStep } from './verify-reused.ts';

/** What the builder stands on: one object, put together where the program starts. */
export interface BuilderParts {
  readonly snapshotter: Snapshotter;
  readonly runner: Runner;
  readonly treeOps: TreeOps;
  readonly cache: StepCache;
  readonly cacheMounts: CacheMounts;
  readonly buildLog: BuildLog;
  readonly openFileIndex: (context: HostPath, looks: FileLooks | undefined) => Promise<FileIndex>;
  /** Absent: files are looked at one by one, in this thread. */
  readonly lookInto?: LookInto;
  readonly images: ImageStore;
  readonly blobs: BlobStore;
  readonly layerTable: LayerTable;
  readonly registry: Registry;
  readonly daemon: DockerDaemons;
  readonly sources: Sources;
  readonly packLayer: (source: DiffSource, options: PackOptions) => Promise<PackedLayer>;
  /** A folder of this process, on the store's file system, that is gone when it ends. */
  readonly temporary: HostPath;
  /** Who runs varve: owns what is written outside of the store. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Files and processes can have one owner only: what a command comes to may then be something else. */
  readonly hasOneId: boolean;
  /** This machine's. */
  readonly platform: Platform;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Writes what is needed to reproduce a wrong hit. @returns the file's path. */
  readonly writeReport: (report: HitReport) => Promise<string>;
}

/** What came of a build that succeeded. */
export interface BuildSuccess {
  /** Absent where no image was asked for (`--output type=local` alone). */
  readonly image?: BuiltImage;
  /** The text that the ranges of warnings point into. */
  readonly dockerfile?: { readonly file: string; readonly text: string };
  readonly steps: readonly StepSummary[];
  /** Gives something where there was nothing to do, nor will be as long as what it rests on stays as it is. */
  readonly unchanged?: () => UnchangedBuild | undefined;
  /** What running the reused steps again showed, where that was asked for. */
  readonly verified?: readonly VerifiedStep[];
}

/** A build in which each step was an exact hit. */
export interface UnchangedBuild {
  /** All that it looked at on the machine, as it was then. */
  readonly host: readonly HostFact[];
  /** The records that were hit, and the step's slot, by the position of their step. */
  readonly hits: ReadonlyMap<number, { readonly record: StepRecord; readonly slot: string }>;
  /** What the log of builds has of it. */
  readonly report: BuildReport;
}

/** What came of one that did not. */
export interface FailedBuild {
  readonly failure: BuildFailure;
  /** The text that `failure.range` points into; absent where it could not be read at all. */
  readonly dockerfile?: { readonly file: string; readonly text: string };
  readonly steps: readonly StepSummary[];
}
