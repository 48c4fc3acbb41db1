import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import {
  changePath,
  comparePaths,
  type DiffFiles,
  type DiffFolders,
  type Entry,
  errnoOf,
  fsPath,
  type HostPath,
  type ImagePath,
  parentPath,
  placeIn,
  ROOT_PATH,
  type Time,
} from '../core/index.ts';
import { sameXattrs } from './root-folder.ts';
import { onStore } from './store-folders.ts';

/** A diff as `FrozenSnapshot` and `CommittedSnapshot.top()` give it, with the time in which its step ran. */
export interface DiffContent extends DiffFiles {
  /** By the machine's clock, in ms since 1970. */
  readonly ran: { readonly fromMs: number; readonly toMs: number };
}

export interface ComparisonRules {
  /** Whether what lies at a path, with all below it, is of no account. */
  readonly isNoise: (path: ImagePath) => boolean;
  /** Seconds since 1970: later times count as this one, as in a layer that was packed so. */
  readonly sourceDateEpoch?: number;
  readonly signal?: AbortSignal;
}

/**
 * What differs at a path. `added`: the right diff leaves a name there and the left one does not (it says nothing of it, or takes it
 * away); `removed` is the reverse. `hard-link`: the name belongs to different files. The rest: both have the name, and that
 * differs.
 */
export type DifferenceKind =
  | 'added'
  | 'removed'
  | 'type'
  | 'mode'
  | 'owner'
  | 'xattrs'
  | 'link-target'
  | 'device'
  | 'hard-link'
  | 'size'
  | 'time'
  | 'opaque'
  | 'content';

export interface DiffDifference {
  readonly path: ImagePath;
  readonly what: DifferenceKind;
}

/** File systems stamp files with a clock that moves once in a tick of the kernel, 10 ms at the longest. */
const CLOCK_SLACK_MS = 20;

/**
 * Compares two diffs of one parent. They are the same where all that lstat, listxattr and read tell is the same, times but for
 * those that the step's run has left: two that both lie within the run of their own step count as equal. A folder's time is of no
 * account either where noise lies right in the folder.
 *
 * @returns the first difference in path order, of content only where nothing else differs; undefined where there is none.
 * @throws MachineError `store-io` where a file cannot be read; the reason of `rules.signal` when it aborts.
 */
export async function firstDifference(
  left: DiffContent,
  right: DiffContent,
  rules: ComparisonRules,
): Promise<DiffDifference | undefined> {
  const noise = new Noise(rules.isNoise);
  const [ours, theirs] = [withoutNoise(left, noise), withoutNoise(right, noise)];
  const { sourceDateEpoch: latest = Number.POSITIVE_INFINITY } = rules;
  const isLate = ({ sec }: Time) => sec >= latest;
  const isFresh = (one: Time, other: Time) =>
    (isWithin(one, left.ran) && isWithin(other, right.ran)) || (isLate(one) && isLate(other));
  const files: Entry[] = [];
  for (const [was, is] of pairs(ours, theirs)) {
    const path = was?.path ?? is?.path ?? ROOT_PATH;
    const what = differenceOf(was, is, (one, other) => isFresh(one, other) || noise.liesIn(path));
    if (what !== undefined) return { path, what };
    const entry = was?.entry;
    if (entry?.type === 'file' && entry.hardlinkTo === undefined && entry.size > 0) files.push(entry);
  }
  // A patch and its original, or two patches, share most of their files.
  const apart = files.filter((file) => placeIn(left, file.path) !== placeIn(right, file.path));
  const folders = [left, right] as const;
  const path = await onStore('compare two diffs', () => firstOtherContent(folders, apart, rules.signal));
  return path === undefined ? undefined : { path, what: 'content' };
}

function isWithin({ sec, nsec }: Time, { fromMs, toMs }: DiffContent['ran']): boolean {
  const ms = sec * 1000 + nsec / 1_000_000;
  return ms >= fromMs - CLOCK_SLACK_MS && ms <= toMs + CLOCK_SLACK_MS;
}

/** All that a diff says of one path. */
interface Item {
  readonly path: ImagePath;
  /** Undefined: a whiteout. */
  readonly entry: Entry | undefined;
  readonly opaque: boolean;
}

/** Remembers what is noise, and in which folders noise was found. The root folder is none, whatever the rules say. */
class Noise {
  readonly #isNoise: (path: ImagePath) => boolean;
  readonly #known = new Map<ImagePath, boolean>();
  readonly #folders = new Set<ImagePath>();

  constructor(isNoise: (path: ImagePath) => boolean) {
    this.#isNoise = isNoise;
  }

  covers(path: ImagePath): boolean {
    if (path === ROOT_PATH) return false;
    const folder = parentPath(path);
    if (this.#coversFolder(folder)) return true;
    if (!this.#isNoise(path)) return false;
    this.#folders.add(folder);
    return true;
  }

  /** Folders alone are remembered: of files there may be many times as many, which are asked for once or twice. */
  #coversFolder(folder: ImagePath): boolean {
    const known = this.#known.get(folder);
    if (known !== undefined) return known;
    const covered = this.covers(folder);
    this.#known.set(folder, covered);
    return covered;
  }

  liesIn(folder: ImagePath): boolean {
    return this.#folders.has(folder);
  }
}

/** The items of a diff in path order; a hard link is told by the first name of its file that is no noise. */
function withoutNoise({ changes }: DiffContent, noise: Noise): readonly Item[] {
  const firsts = new Map<ImagePath, ImagePath>();
  const marked = new Set<ImagePath>();
  const items: Item[] = [];
  const leaders = new Set<ImagePath>();
  for (const change of changes) {
    if (change.kind === 'opaque') marked.add(change.path);
    else if (change.kind === 'set' && change.entry.hardlinkTo !== undefined)
      leaders.add(change.entry.hardlinkTo);
  }
  for (const change of changes) {
    const path = changePath(change);
    if (change.kind === 'opaque' || noise.covers(path)) continue;
    if (change.kind === 'whiteout') {
      items.push({ path, entry: undefined, opaque: false });
      continue;
    }
    if (change.entry.hardlinkTo === undefined && !leaders.has(path)) {
      items.push({ path, entry: change.entry, opaque: marked.has(path) });
      continue;
    }
    const { hardlinkTo: leader = path, ...rest } = change.entry;
    const first = firsts.get(leader);
    if (first === undefined) firsts.set(leader, path);
    const entry = first === undefined ? rest : { ...rest, hardlinkTo: first };
    items.push({ path, entry, opaque: marked.has(path) });
  }
  return items;
}

/** Items of two lists in path order, those of one path together. */
function* pairs(
  left: readonly Item[],
  right: readonly Item[],
): Generator<readonly [Item | undefined, Item | undefined]> {
  let [i, j] = [0, 0];
  for (;;) {
    const [one, other] = [left[i], right[j]];
    if (one === undefined && other === undefined) return;
    const order = one === undefined ? 1 : other === undefined ? -1 : comparePaths(one.path, other.path);
    yield [order <= 0 ? one : undefined, order >= 0 ? other : undefined];
    if (order <= 0) i++;
    if (order >= 0) j++;
  }
}

function differenceOf(
  was: Item | undefined,
  is: Item | undefined,
  isSameTime: (one: Time, other: Time) => boolean,
): DifferenceKind | undefined {
  if (was === undefined) return is?.entry === undefined ? 'removed' : 'added';
  if (is === undefined) return was.entry === undefined ? 'added' : 'removed';
  if (was.entry === undefined || is.entry === undefined) {
    if (was.entry === is.entry) return undefined;
    return was.entry === undefined ? 'added' : 'removed';
  }
  const [a, b] = [was.entry, is.entry];
  if (a.type !== b.type) return 'type';
  if (a.mode !== b.mode) return 'mode';
  if (a.uid !== b.uid || a.gid !== b.gid) return 'owner';
  if (!sameXattrs(a, b)) return 'xattrs';
  if (a.linkTarget !== b.linkTarget) return 'link-target';
  if (a.device?.major !== b.device?.major || a.device?.minor !== b.device?.minor) return 'device';
  if (a.hardlinkTo !== b.hardlinkTo) return 'hard-link';
  if (a.size !== b.size) return 'size';
  if (was.opaque !== is.opaque) return 'opaque';
  const sameTime = a.mtime.sec === b.mtime.sec && a.mtime.nsec === b.mtime.nsec;
  return sameTime || isSameTime(a.mtime, b.mtime) ? undefined : 'time';
}

/** Files that are read side by side. */
const FILES_AT_ONCE = 8;

const CHUNK_BYTES = 128 * 1024;

/** The path of the first of `files`, which are in path order, whose bytes differ between two diffs. */
async function firstOtherContent(
  folders: readonly [DiffFolders, DiffFolders],
  files: readonly Entry[],
  signal: AbortSignal | undefined,
): Promise<ImagePath | undefined> {
  let next = 0;
  let first = files.length;
  const work = async (): Promise<void> => {
    const buffers = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)] as const;
    while (next < first) {
      const at = next++;
      const file = files[at];
      if (file === undefined) return;
      // What comes behind a difference is of no interest any more.
      const goOn = () => {
        signal?.throwIfAborted();
        return at < first;
      };
      if (!(await hasSameBytes({ file, folders, buffers, goOn }).catch(tooLong))) first = Math.min(first, at);
    }
  };
  const stopAll = (error: unknown): never => {
    next = files.length;
    throw error;
  };
  const workers = Array.from({ length: Math.min(FILES_AT_ONCE, files.length) }, () => work().catch(stopAll));
  const ends = await Promise.allSettled(workers);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return files[first]?.path;
}

interface FilePair {
  readonly file: Entry;
  readonly folders: readonly [DiffFolders, DiffFolders];
  readonly buffers: readonly [Buffer, Buffer];
  /** False: the answer is not needed. */
  readonly goOn: () => boolean;
}

async function hasSameBytes({ file, folders, buffers, goOn }: FilePair): Promise<boolean> {
  await using left = await openFile(placeIn(folders[0], file.path));
  await using right = await openFile(placeIn(folders[1], file.path));
  for (let todo = file.size; todo > 0 && goOn(); todo -= CHUNK_BYTES) {
    const chunk = Math.min(todo, CHUNK_BYTES);
    const [one, other] = await Promise.all([fill(left, buffers[0], chunk), fill(right, buffers[1], chunk)]);
    if (!one.equals(other)) return false;
  }
  return true;
}

/** What cannot be opened by one path counts as different. */
function tooLong(error: unknown): false {
  if (errnoOf(error) === 'ENAMETOOLONG') return false;
  throw error;
}

function openFile(path: HostPath): Promise<FileHandle> {
  return open(fsPath(path), constants.O_RDONLY | constants.O_NOFOLLOW);
}

/** The next `size` bytes of a file; fewer where it ends. */
async function fill(file: FileHandle, buffer: Buffer, size: number): Promise<Buffer> {
  let filled = 0;
  while (filled < size) {
    const { bytesRead } = await file.read(buffer, filled, size - filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}
