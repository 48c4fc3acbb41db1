import type {
  DiffId,
  Digest,
  Entry,
  FileType,
  HostPath,
  ImagePath,
  Observation,
  ObservedTree,
  SnapshotId,
  StatRow,
  StepInfo,
  StepKey,
  StepKind,
  StepOutcome,
  StoredDiff,
  Tree,
} from '../core/index.ts';
import type { FactList } from './fact-list.ts';
import type { UnchangedNote } from './unchanged-note.ts';

/** What can stand in a key: JSON without floats; objects are encoded with their keys sorted by code unit. */
export type Canonical =
  | null
  | boolean
  | number
  | string
  | readonly Canonical[]
  | { readonly [key: string]: Canonical | undefined };

/** A step without its parent and its inputs: what is done, in every word that can change the result. */
export interface Action {
  /** Raised when the meaning of a field changes, so that old records no longer match. */
  readonly version: number;
  readonly kind: StepKind;
  /**
   * Fields with names that a person understands in `why`: `command`, `environment`, `user`, `workdir`, `network`.
   * `environment` and `buildArgs` are objects `{NAME: value}`: a miss names the variable that differs, never its value.
   */
  readonly definition: { readonly [field: string]: Canonical | undefined };
}

/** One file as a COPY sees it. Time stamps are left out: they alone invalidate nothing. */
export interface FileFact {
  /** Where it lands, relative to the destination. */
  readonly path: ImagePath;
  readonly type: FileType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Content of a file; absent for others. */
  readonly digest?: Digest;
  readonly linkTarget?: string;
  /** Another path of the same tree that is the same file: a copy keeps hard links among what it copies. */
  readonly hardlinkTo?: ImagePath;
  /** Extended attributes by name, as hex. */
  readonly xattrs?: Readonly<Record<string, string>>;
  /** Major and minor of device nodes. */
  readonly device?: string;
}

/** A named set of files that a step takes in, e.g. `context` or `stage build`. */
export interface TreeInput {
  readonly name: string;
  /** Digest over all facts in path order. */
  readonly digest: Digest;
  /** In path order; none for a snapshot that is taken as a whole, which `digest` names by its ChainID. */
  readonly facts: FactList;
}

/** Everything that the exact answer compares. */
export interface StepQuery {
  readonly action: Action;
  /** Absent: the step stands on nothing (`FROM scratch`). */
  readonly parent: SnapshotId | undefined;
  readonly inputs: readonly TreeInput[];
  /** Says which step of which Dockerfile this is, to find what it was compared with last time. No part of the key. */
  readonly slot: string;
}

/**
 * How a record came by its result. `ran`: the step left it on this very parent. `observed`: it was recorded on another parent, and
 * reused here. `adopted`: the step ran here, and left what is equal to an earlier result but for times and noise.
 */
export type RecordOrigin = 'ran' | 'observed' | 'adopted';

export interface StepRecord {
  readonly key: StepKey;
  readonly origin: RecordOrigin;
  /** Absent: the step changed nothing. */
  readonly diffId?: DiffId;
  /** Bytes of the diff's layer as a plain tar; present with `diffId`. */
  readonly layerBytes?: number;
  /** When its layer came about, which is what images say of it. */
  readonly createdAtMs: number;
  /** When the step ran last with this result: later than `createdAtMs` where it left again what was there before. */
  readonly ranAtMs: number;
  /** How long the step took when it ran. */
  readonly durationMs: number;
}

/** The parent of a step as diffs. */
export interface StandsOn {
  /** Lowest first. */
  readonly diffs: readonly DiffId[];
  /** How many of the lowest are the base image's. */
  readonly base: number;
}

/** A record with what its step was, so that it can be run again. */
export interface RepeatableStep {
  readonly record: StepRecord;
  readonly title: string;
  readonly action: Action;
  readonly standsOn: StandsOn;
}

/** What a step that ran left behind. */
export interface StepResult {
  /** Absent: the step changed nothing. */
  readonly layer?: {
    readonly diffId: DiffId;
    /** Bytes of its plain tar. */
    readonly size: number;
  };
  readonly durationMs: number;
  /** When the step began to run; absent: `durationMs` ago. */
  readonly ranAtMs?: number;
  /** Absent: `ran`. */
  readonly origin?: RecordOrigin;
  /** Of a layer that is older than this record; absent: now. */
  readonly createdAtMs?: number;
  /** What the step stood on, so that it can be run again; absent: unknown. */
  readonly standsOn?: StandsOn;
  /** One line that says what the step does (`RUN npm ci`); absent: made from the definition. */
  readonly title?: string;
}

/** What the observed answer compares: the action on today's tree, whatever the parent, or a mounted tree, is as a whole. */
export interface ObservedQuery {
  /**
   * The action with all that a step depends on beside the traced tree and its inputs: the identity of the base below the tree, the
   * ids that its user was found to have.
   */
  readonly action: Action;
  /** What is not part of `tree`. */
  readonly inputs: readonly TreeInput[];
  readonly tree: ObservedTree;
}

export type ObservedLookup =
  | {
      readonly kind: 'hit';
      readonly record: StepRecord;
      /** How many paths had been observed. */
      readonly paths: number;
      /** The diffs, lowest first, that the step stood on when it was observed. */
      readonly parentDiffs: readonly DiffId[];
      /** What was found to be the same, for {@link StepCache.observeAgain}. */
      readonly observation: { readonly pathSet: number; readonly set: Digest; readonly fingerprint: Digest };
    }
  /** `why` is absent where nothing was observed of this action with these inputs before. */
  | { readonly kind: 'miss'; readonly why?: Extract<MissReason, { reason: 'observed-changed' }> };

export type ObservedHit = Extract<ObservedLookup, { kind: 'hit' }>;

/** The first thing that differs from the last time. Rendered by `explain`. */
export type MissReason =
  | { readonly reason: 'never-ran' }
  | { readonly reason: 'no-cache' }
  | { readonly reason: 'evicted' }
  | { readonly reason: 'parent-changed' }
  /** Its record is older than the step's `ttl`. */
  | { readonly reason: 'too-old'; readonly ageMs: number }
  /** A path that the step had looked at is another one now. */
  | {
      readonly reason: 'observed-changed';
      readonly path: ImagePath;
      readonly change:
        | 'added'
        | 'removed'
        | 'content'
        | 'metadata'
        | 'attributes'
        | 'listing'
        | 'link-target'
        | 'type';
      /** The program that had looked at it. */
      readonly by?: string;
      /** How many more observed paths differ. */
      readonly others: number;
    }
  | {
      readonly reason: 'field-changed';
      readonly field: string;
      readonly before: string;
      readonly after: string;
    }
  | {
      readonly reason: 'variable-changed';
      readonly name: string;
      readonly change: 'added' | 'changed' | 'removed';
    }
  | {
      readonly reason: 'file-changed';
      readonly input: string;
      readonly path: ImagePath;
      readonly change:
        | 'added'
        | 'content'
        | 'removed'
        | 'mode'
        | 'owner'
        | 'type'
        | 'link-target'
        | 'hard-link'
        | 'xattrs';
      /** How many more files differ. */
      readonly others: number;
    };

export type Lookup =
  | { readonly kind: 'hit'; readonly record: StepRecord }
  | { readonly kind: 'miss'; readonly key: StepKey; readonly why: MissReason };

/** Path sets that are kept of one action with the same inputs. */
export const MOST_PATH_SETS = 8;

/** Records of steps, shared by all varve processes on one store. */
export interface StepCache {
  /** A hit marks its record as used. `hold` is called before the hit is told, so that eviction leaves its diff alone. */
  lookup(query: StepQuery): Promise<Lookup>;
  /**
   * Notes what `query` came to. The layer's diff must be held, then committed in the snapshotter, before. Replaces an older
   * record.
   */
  record(query: StepQuery, result: StepResult): Promise<StepRecord>;
  /**
   * Finds a record of `query.action` with the same inputs, all of whose observed paths are in today's tree what they were: by way
   * of the action's path sets, the one used last first. A hit marks path set and record as used and holds the diff.
   */
  lookupObserved(query: ObservedQuery): Promise<ObservedLookup>;
  /**
   * Notes what the step of record `key` looked at, in `query.tree` as it was then. An action keeps at most
   * {@link MOST_PATH_SETS} path sets with the same inputs; the least recently used goes.
   */
  observe(
    key: StepKey,
    query: ObservedQuery,
    seen: { readonly observations: readonly Observation[]; readonly parentDiffs: readonly DiffId[] },
  ): Promise<void>;
  /**
   * Notes of record `key` what was noted of the record that `found` told, when `query` was looked up: all that was looked at says the same, so
   * nothing is worked out again.
   */
  observeAgain(
    key: StepKey,
    query: ObservedQuery,
    seen: { readonly found: ObservedHit; readonly parentDiffs: readonly DiffId[] },
  ): void;
  /** What the step of record `key` looked at, in path order; undefined where nothing is known. */
  reads(key: StepKey): readonly Observation[] | undefined;
  /** The record that the step of this slot came to last, on whatever parent; undefined where there is none any more. */
  previous(slot: string): StepRecord | undefined;
  /** The newest records of `action`, on any parent and with any inputs: whose results a new run may have left again. */
  earlier(action: Action, limit: number): readonly StepRecord[];
  /** Is there any record of this action, on any parent? If not, a miss is certain before the parent is hashed. */
  knows(action: Action): boolean;
  /** The step of record `key`; undefined where there is no such record, or what it stood on is not known. */
  repeatable(key: StepKey): RepeatableStep | undefined;
  /** Drops a record that turned out to be unusable (its diff is gone). */
  forget(key: StepKey): void;
  /**
   * Runs `work` while no other process (and no other call here) works on the same key: the second one waits, then
   * finds the first one's record. Freed by the kernel when a process dies.
   */
  exclusively<T>(key: StepKey, work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /**
   * From now until this process ends, eviction by any process leaves these diffs alone. Whether a diff is there at all is
   * asked of the snapshotter after holding it, never before: see {@link PrunableCache.prune}.
   */
  hold(diffIds: readonly DiffId[]): void;
  close(): void;
}

/** stat tuple -> digest of one folder's files, kept between builds, as Git's index does. */
export interface FileIndex {
  /**
   * The digest of the regular file at `path` in the folder, read only if its stat tuple (device, inode, size, mtime ns, ctime ns,
   * mode) is new or so young that it cannot be trusted yet.
   */
  digest(path: ImagePath, row: StatRow): Promise<Digest>;
  /** As `digest` of each, in their order; those that must be read are read in bulk. */
  digests(files: readonly IndexedFile[]): Promise<readonly Digest[]>;
  /** Writes the index where it changed (temporary name, then rename). */
  save(): Promise<void>;
}

export interface IndexedFile {
  readonly path: ImagePath;
  /** What lstat(2) said of it last. */
  readonly row: StatRow;
}

/** What `varve why` tells of one step. */
export interface StepReport {
  readonly info: StepInfo;
  readonly outcome: StepOutcome;
  readonly reason: string;
  readonly ms: number;
  readonly key?: StepKey;
}

/** One build as `varve why` shows it; plain JSON. */
export interface BuildReport {
  readonly id: string;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  readonly dockerfile: string;
  readonly context: string;
  readonly target: string;
  readonly ok: boolean;
  readonly error?: string;
  readonly steps: readonly StepReport[];
}

export interface BuildLog {
  save(report: BuildReport): void;
  /** The newest, or the one with this id (or a prefix of it that fits one only). */
  load(id?: string): BuildReport | undefined;
  list(limit: number): readonly BuildReport[];
}

/** One selected file of a tree and where it lands. */
export interface Selection {
  readonly tree: Tree;
  readonly from: ImagePath;
  readonly to: ImagePath;
  /** What the tree says of `from`, where it was asked already. */
  readonly entry?: Entry;
}

/** A record with what eviction weighs. */
export interface RecordUsage {
  readonly key: StepKey;
  readonly diffId?: DiffId;
  /** Bytes of the diff's layer as a plain tar; present with `diffId`. */
  readonly layerBytes?: number;
  /** What the step stood on; absent for `FROM scratch`. */
  readonly parent?: SnapshotId;
  readonly kind: StepKind;
  /** First line of what the step does, for people. */
  readonly title: string;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number;
  readonly uses: number;
  readonly durationMs: number;
}

/** What may go, and what must stay. */
export interface PruneRequest {
  /** Every diff of the snapshotter, listed before the call. */
  readonly stored: readonly StoredDiff[];
  /** Diffs that images stand on: never removed, and no part of the limit. */
  readonly images: ReadonlySet<DiffId>;
  /** Most bytes that diffs outside of images may take after the call. */
  readonly limitBytes: number;
  /** Records last used before this moment go whatever the limit is; `Infinity`: all that nobody holds. */
  readonly usedBeforeMs?: number;
}

export interface PruneResult {
  readonly records: number;
  readonly diffs: number;
  /** Bytes of the removed diffs. */
  readonly bytes: number;
}

/** The step cache as its owner, the composition root, sees it: with what `varve cache` and `varve why` need. */
export interface PrunableCache extends StepCache {
  readonly builds: BuildLog;
  /**
   * Leaves a note of a build in which nothing had to be done: the same call is answered by it, without varve, as long as all in it is so.
   * Does nothing where a record was taken away or replaced since this cache was opened. @param temporary a folder of this process
   */
  noteUnchanged(note: Omit<UnchangedNote, 'generation' | 'database'>, temporary: HostPath): void;
  /** Forgets what processes that died left here: their sessions, what they held, their locks. */
  sweep(): void;
  /** Sessions that have the store open, and those that died without closing it. */
  sessions(): readonly string[];
  /** Does the process that named its session so still run? For the snapshotter's `sweep`. */
  isAlive(session: string): boolean;
  /** Every record, in no order. */
  usage(): readonly RecordUsage[];
  /** The diffs that living sessions hold. */
  held(): ReadonlySet<DiffId>;
  /** Forgets records; their diffs stay. Returns how many there were. */
  removeRecords(keys: readonly StepKey[]): number;
  /**
   * Forgets the least recently used records and has their diffs removed, so that what stays fits the limit. Also cleans up
   * after sessions that died.
   *
   * The protocol: a builder holds a diff, then asks the snapshotter for it. The pruner takes one diff at a time; in a write
   * transaction, which keeps every `hold` of every process waiting, it makes sure that no living session holds the
   * diff, forgets its records and awaits `remove`. So whoever holds before that finds the diff and keeps it; whoever
   * holds after that finds it gone, which is a miss. Nobody sees a diff vanish that he found while holding it.
   *
   * Until it settles no other method of this object may be called (plain Error); other processes only wait, so `remove`
   * should take a diff out of sight and may leave the deletion of its files for later.
   */
  prune(
    request: PruneRequest,
    remove: (diffIds: readonly DiffId[]) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<PruneResult>;
}
