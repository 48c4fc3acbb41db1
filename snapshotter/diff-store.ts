import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, open, readFile, rename, rmdir, symlink, unlink } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import {
  asDigest,
  type DiffId,
  type Digest,
  digestHex,
  errnoOf,
  type HostPath,
  type ImagePath,
  isDigest,
  joinHost,
  MachineError,
  rowOf,
  type SnapshotId,
  type StoredDiff,
  type StoreFact,
  type TreeOps,
} from '../core/index.ts';
import { Diff, originalIn } from './diff.ts';
import { DiffIndex } from './diff-index.ts';
import { digestsOf, writeNotes } from './digest-notes.ts';
import { FolderFiles } from './folder-files.ts';
import {
  decodeHeader,
  decodeManifest,
  encodeManifest,
  isWholeManifest,
  LONGEST_HEADER,
  type Manifest,
  type ManifestHeader,
} from './manifest.ts';
import { check, type Judges, wasChecked } from './soundness.ts';
import { ignoreAbsent, makeUnique, namesIn, readNow } from './store-folders.ts';

export interface DiffStoreOptions {
  readonly root: HostPath;
  /** Names the process in what it has not committed yet. */
  readonly session: string;
  readonly tree: TreeOps;
  readonly userXattrs: boolean;
  readonly digestFile: (path: HostPath) => Promise<Digest>;
  readonly clock: { now(): number };
  /** See {@link Judges}. */
  readonly makesLayer?: Judges['makesLayer'];
}

/** Indexes of about this many changes are kept in memory. */
const MOST_CACHED_CHANGES = 1_000_000;

const LINK_TARGET = /^\.\.\/data\/([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)?)$/;

const HEX_DIGITS = 64;

/** To remove a folder takes a disk some time, to start a process for it too. */
const IDLE_AT_ONCE = 16;

/** Tries to commit under a name that exists but leads to nothing, because another process removes it meanwhile. */
const MOST_TRIES = 16;

/** A parent that a diff is bound to; `parent` is undefined for the empty root folder. */
export interface Parent {
  readonly parent: SnapshotId | undefined;
}

/** What becomes a diff. */
export interface Adoption extends Omit<Manifest, 'createdAtMs'> {
  /** Of files that it sets, where they are known; others are of no account. */
  readonly digests: ReadonlyMap<ImagePath, Digest> | undefined;
  /** Of a patch: the whole diff that it stands on, of which the store has all but what is `own`. */
  readonly original?: Diff;
}

function boundName(diffId: DiffId, parent: SnapshotId | undefined): string {
  return `${digestHex(diffId)}.${parent === undefined ? 'scratch' : digestHex(parent)}`;
}

/**
 * Diffs on disk, as docs/on-disk-format.md states: data folders that never move, and commits that are symlinks from
 * a digest to a data folder.
 */
export class DiffStore {
  readonly options: DiffStoreOptions;
  readonly dataFolder: HostPath;
  /** An empty folder: the bottom of overlays that would have no lower folder, or too few. */
  readonly emptyFolder: HostPath;
  readonly folders: FolderFiles;
  readonly #names: HostPath;
  readonly #active: HostPath;
  readonly #trash: HostPath;
  readonly #indexes = new LRUCache<string, DiffIndex>({
    maxSize: MOST_CACHED_CHANGES,
    sizeCalculation: (index) => index.changes.length + 1,
  });
  readonly #diffs = new Map<string, Diff>();
  /** Data folders that were found sound since this machine's last start. */
  readonly #sound = new Set<string>();
  readonly #idle: HostPath[] = [];
  readonly #removals: Promise<void>[] = [];
  /** Names that led to a sound diff, and its data folder. */
  readonly #found = new Map<string, string>();
  #ready: Promise<void> | undefined;
  #bootId: string | undefined;

  constructor(options: DiffStoreOptions) {
    if (!/^[A-Za-z0-9._-]+$/.test(options.session) || options.session.startsWith('.')) {
      throw new Error(`not a session's name: ${JSON.stringify(options.session)}`);
    }
    this.options = options;
    this.dataFolder = joinHost(options.root, 'diffs/data');
    this.emptyFolder = joinHost(options.root, 'diffs/empty');
    this.folders = new FolderFiles(this.dataFolder);
    this.#names = joinHost(options.root, 'diffs/sha256');
    this.#active = joinHost(options.root, 'active');
    this.#trash = joinHost(options.root, 'trash');
  }

  /** Makes the store's folders, once. */
  ready(): Promise<void> {
    this.#ready ??= (async () => {
      const own = joinHost(this.#active, this.options.session);
      for (const folder of [this.dataFolder, this.emptyFolder, this.#names, own, this.#trash]) {
        await mkdir(folder, { recursive: true, mode: 0o700 });
      }
    })();
    return this.#ready;
  }

  /** A fresh folder for an active snapshot: `active/<session>/<n>`. */
  async makeActive(): Promise<HostPath> {
    await this.ready();
    return makeUnique(joinHost(this.#active, this.options.session));
  }

  /** Takes `fs` of an active snapshot's folder for a diff's; nobody may have it mounted. What else lies there stays. */
  async adopt(active: HostPath, { digests, original, ...manifest }: Adoption): Promise<Diff> {
    const home = joinHost(active, 'diff');
    const boot = this.#boot();
    const createdAtMs = this.options.clock.now();
    // Small files, in this thread: to hand each call to another thread and back takes longer, and every step waits for it.
    mkdirSync(home, { mode: 0o700 });
    writeFileSync(joinHost(home, 'owner'), this.options.session);
    writeFileSync(joinHost(home, 'boot'), boot);
    writeFileSync(joinHost(home, 'manifest'), encodeManifest({ ...manifest, createdAtMs }));
    const known = digests === undefined ? undefined : digestsOf(manifest.changes, digests);
    if (known !== undefined) await writeNotes(joinHost(home, 'digests'), known);
    const index = new DiffIndex(manifest.changes, manifest.own);
    const folders =
      original === undefined
        ? this.folders.write(home, index, known)
        : this.folders.writePatched(home, index, { digests: known, original: original.uid });
    renameSync(joinHost(active, 'fs'), joinHost(home, 'fs'));
    const uid = this.#place(home, original);
    this.#sound.add(uid);
    this.#indexes.set(uid, index);
    this.folders.keep(uid, folders);
    const diff = new Diff(this, uid, { original, made: manifest });
    this.#diffs.set(uid, diff);
    return diff;
  }

  /**
   * Puts `diff` under its digest, or finds that another process was first. Returns the one that is stored.
   *
   * @param bound the only parent that the diff may be laid on; absent: any.
   */
  async commit(diff: Diff, diffId: DiffId, bound?: Parent): Promise<Diff> {
    const name = bound === undefined ? digestHex(diffId) : boundName(diffId, bound.parent);
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      try {
        // Unlike a rename, this never replaces what another process has put there.
        await symlink(`../data/${diff.uid}`, joinHost(this.#names, name));
        return diff;
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
      }
      const theirs = await this.#named(name);
      if (theirs !== undefined) return theirs;
    }
    throw new MachineError('snapshot-corrupt', `${joinHost(this.#names, name)} leads to no diff`, {
      hint: 'remove that symlink',
    });
  }

  /** The committed diff that may be laid on `parent`; undefined where the store has none, or a power cut damaged it. */
  async find(diffId: DiffId, parent: SnapshotId | undefined): Promise<Diff | undefined> {
    return (await this.findUnbound(diffId)) ?? (await this.#named(boundName(diffId, parent)));
  }

  /** The committed diff that may be laid on any parent. */
  findUnbound(diffId: DiffId): Promise<Diff | undefined> {
    return this.#named(digestHex(diffId));
  }

  async remove(diffIds: readonly DiffId[]): Promise<void> {
    await this.ready();
    const doomed = new Set<string>(diffIds.map(digestHex));
    await this.#forget((await namesIn(this.#names)).filter((name) => doomed.has(name.slice(0, HEX_DIGITS))));
  }

  /** See `Snapshotter.removeDamaged`. */
  async removeDamaged(signal: AbortSignal): Promise<readonly DiffId[]> {
    const damaged = new Set<DiffId>();
    for (const name of await namesIn(this.#names)) {
      signal.throwIfAborted();
      const digest = `sha256:${name.slice(0, HEX_DIGITS)}`;
      const uid = await this.#target(name);
      if (!isDigest(digest) || (uid !== undefined && (await this.#isWhole(uid, name)))) continue;
      await this.#forget([name]);
      damaged.add(asDigest(digest) as DiffId);
    }
    return [...damaged];
  }

  /**
   * Takes names away, then the data folders that they lead to: but not those that a patch stands on, which go with the last
   * patch. Nobody makes a new one meanwhile: who does holds the original, or another patch of it.
   */
  async #forget(names: readonly string[]): Promise<void> {
    const doomed = new Set<string>();
    for (const name of names) {
      const uid = await this.#target(name);
      await unlink(joinHost(this.#names, name)).catch(ignoreAbsent);
      if (uid !== undefined) doomed.add(uid);
    }
    if (doomed.size === 0) return;
    const staying = (await namesIn(this.dataFolder)).filter((uid) => !doomed.has(uid));
    const needed = new Set(staying.flatMap((uid) => originalIn(uid) ?? []));
    const lone = [...doomed].flatMap((uid) => originalIn(uid) ?? []).filter((uid) => !doomed.has(uid));
    const committed = lone.length === 0 ? new Set<string>() : await this.#committed();
    for (const uid of lone) if (!committed.has(uid)) doomed.add(uid);
    const free = [...doomed].filter((uid) => !needed.has(uid));
    await this.discard(free.map((uid) => joinHost(this.dataFolder, uid)));
  }

  /** The diff of one name; a damaged one is forgotten. */
  async #named(name: string): Promise<Diff | undefined> {
    const uid = await this.#target(name);
    if (uid === undefined) return undefined;
    if (this.#sound.has(uid) || (await this.#isSound(uid, name))) {
      this.#sound.add(uid);
      this.#found.set(name, uid);
      return this.#diff(uid);
    }
    await this.#forget([name]);
    return undefined;
  }

  /** Names the time since the machine's last start (random(4)). */
  #boot(): string {
    this.#bootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return this.#bootId;
  }

  async #isSound(uid: string, name: string): Promise<boolean> {
    const home = joinHost(this.dataFolder, uid);
    if (!wasChecked(home, this.#boot())) return this.#isWhole(uid, name);
    const manifest = await readFile(joinHost(home, 'manifest')).catch(ignoreAbsent);
    // A patch that was made or checked since then stands on an original that was.
    const { lowers } = this.#diff(uid);
    return (
      manifest !== undefined && isWholeManifest(manifest) && lowers.every((folder) => existsSync(folder))
    );
  }

  /** Compares all of a diff with its manifest, and with the digest that it is committed under. */
  async #isWhole(uid: string, name: string): Promise<boolean> {
    const { home, original } = this.#diff(uid);
    const manifest = await this.manifest(uid);
    if (manifest === undefined) return false;
    const { tree, userXattrs, makesLayer } = this.options;
    const diffId = name.length === HEX_DIGITS ? (asDigest(`sha256:${name}`) as DiffId) : undefined;
    const suspect = { home, diffId, manifest, original: original?.folder };
    return check(suspect, { tree, userXattrs, makesLayer });
  }

  /** See `Snapshotter.facts`. Data folders never change, so that it does not matter when they are looked at. */
  async facts(): Promise<readonly StoreFact[] | undefined> {
    const facts: StoreFact[] = [];
    for (const [name, uid] of this.#found) {
      facts.push({ kind: 'link', path: `diffs/sha256/${name}`, target: `../data/${uid}` });
      const original = originalIn(uid);
      const parts = [`${uid}/manifest`, `${uid}/fs`, ...(original === undefined ? [] : [`${original}/fs`])];
      for (const part of parts) {
        const stat = lstatSync(joinHost(this.dataFolder, part), { bigint: true, throwIfNoEntry: false });
        if (stat === undefined) return undefined;
        facts.push({ kind: 'stored', path: `diffs/data/${part}`, row: rowOf(stat) });
      }
    }
    return facts;
  }

  /** Moves folders out of sight, then removes them. */
  async discard(folders: readonly HostPath[]): Promise<void> {
    await this.options.tree.removeAll(await this.#throwAway(folders));
  }

  /**
   * One line per digest; a digest that is stored once per parent counts with all its bytes, and a patch with those of an original
   * that has no name any more and stays for its patches: the first of these.
   */
  async stored(): Promise<readonly StoredDiff[]> {
    const stored = new Map<DiffId, StoredDiff>();
    const counted = new Set(await this.#committed());
    for (const name of (await namesIn(this.#names)).toSorted()) {
      const digest = `sha256:${name.slice(0, HEX_DIGITS)}`;
      const uid = isDigest(digest) ? await this.#target(name) : undefined;
      const header = uid === undefined ? undefined : await this.header(uid);
      if (uid === undefined || header === undefined) continue;
      const diffId = asDigest(digest) as DiffId;
      const other = stored.get(diffId);
      const original = originalIn(uid);
      const isFirst = original !== undefined && !counted.has(original);
      if (isFirst) counted.add(original);
      const kept = isFirst ? ((await this.header(original))?.bytes ?? 0) : 0;
      const bytes = header.bytes + kept + (other?.bytes ?? 0);
      const createdAtMs = Math.min(header.createdAtMs, other?.createdAtMs ?? Number.POSITIVE_INFINITY);
      stored.set(diffId, { diffId, bytes, createdAtMs });
    }
    return [...stored.values()];
  }

  async sweep(isAlive: (session: string) => boolean): Promise<number> {
    await this.ready();
    const isDead = (session: string) => session !== this.options.session && !isAlive(session);
    const doomed: HostPath[] = [];
    for (const session of await namesIn(this.#active)) {
      if (isDead(session)) doomed.push(joinHost(this.#active, session));
    }
    doomed.push(...(await this.#orphans(isDead)));
    await this.#throwAway(doomed);
    const trash = (await namesIn(this.#trash)).map((name) => joinHost(this.#trash, name));
    let freed = 0;
    for (const folder of trash) freed += await this.#sizeOf(folder);
    await this.options.tree.removeAll(trash);
    return freed;
  }

  /**
   * Removes folders of this session's active snapshots, of which nobody needs to know that they are gone: several at once, beside all
   * else, the last ones by {@link close}.
   */
  removeLater(folder: HostPath): void {
    this.#idle.push(folder);
    if (this.#idle.length < IDLE_AT_ONCE) return;
    const removed = this.options.tree.removeAll(this.#idle.splice(0));
    // What it leaves is tried again by `close`.
    this.#removals.push(removed.catch(() => undefined));
  }

  async close(): Promise<void> {
    await Promise.all(this.#removals);
    const own = joinHost(this.#active, this.options.session);
    // Mostly nothing is left in it, and no process need be started.
    const isGone = await rmdir(own).then(
      () => true,
      (error) => errnoOf(error) === 'ENOENT',
    );
    if (!isGone) await this.options.tree.removeAll([own]);
  }

  async header(uid: string): Promise<ManifestHeader | undefined> {
    const file = await open(joinHost(this.dataFolder, uid, 'manifest')).catch(ignoreAbsent);
    if (file === undefined) return undefined;
    try {
      const start = Buffer.allocUnsafe(LONGEST_HEADER);
      const { bytesRead } = await file.read(start, 0, LONGEST_HEADER, 0);
      return decodeHeader(start.subarray(0, bytesRead));
    } finally {
      await file.close();
    }
  }

  async manifest(uid: string): Promise<Manifest | undefined> {
    const bytes = await readFile(joinHost(this.dataFolder, uid, 'manifest')).catch(ignoreAbsent);
    return bytes === undefined ? undefined : decodeManifest(bytes);
  }

  async index(diff: Diff): Promise<DiffIndex> {
    const known = this.#indexes.get(diff.uid);
    if (known !== undefined) return known;
    const { changes, own } = await diff.load();
    const index = new DiffIndex(changes, own);
    this.#indexes.set(diff.uid, index);
    return index;
  }

  #diff(uid: string): Diff {
    let diff = this.#diffs.get(uid);
    if (diff === undefined) {
      const original = originalIn(uid);
      diff = new Diff(this, uid, { original: original === undefined ? undefined : this.#diff(original) });
      this.#diffs.set(uid, diff);
    }
    return diff;
  }

  async #target(name: string): Promise<string | undefined> {
    const target = readNow(() => readlinkSync(joinHost(this.#names, name)));
    return target === undefined ? undefined : LINK_TARGET.exec(target)?.[1];
  }

  /** Gives a finished diff its place under a free name. */
  #place(home: HostPath, original: Diff | undefined): string {
    for (;;) {
      const own = randomBytes(6).toString('base64url');
      const uid = original === undefined ? own : `${own}.${original.uid}`;
      try {
        renameSync(home, joinHost(this.dataFolder, uid));
        return uid;
      } catch (error) {
        const errno = errnoOf(error);
        if (errno !== 'ENOTEMPTY' && errno !== 'EEXIST') throw error;
      }
    }
  }

  /**
   * Data folders of dead sessions that no commit names, and on which no other diff stands. Owners are asked before the commits are read: a session that is
   * dead by then commits nothing any more.
   */
  async #orphans(isDead: (session: string) => boolean): Promise<HostPath[]> {
    const dead: string[] = [];
    const all = await namesIn(this.dataFolder);
    for (const uid of all) {
      const owner = await readFile(joinHost(this.dataFolder, uid, 'owner'), 'utf8').catch(ignoreAbsent);
      if (owner === undefined || isDead(owner)) dead.push(uid);
    }
    if (dead.length === 0) return [];
    const committed = await this.#committed();
    const doomed = new Set(dead.filter((uid) => !committed.has(uid)));
    const needed = new Set(all.flatMap((uid) => (doomed.has(uid) ? [] : (originalIn(uid) ?? []))));
    return [...doomed].filter((uid) => !needed.has(uid)).map((uid) => joinHost(this.dataFolder, uid));
  }

  /** The data folders that a name leads to. */
  async #committed(): Promise<ReadonlySet<string>> {
    const committed = new Set<string>();
    for (const name of await namesIn(this.#names)) {
      const uid = await this.#target(name);
      if (uid !== undefined) committed.add(uid);
    }
    return committed;
  }

  async #throwAway(folders: readonly HostPath[]): Promise<HostPath[]> {
    const thrown: HostPath[] = [];
    for (const folder of folders) {
      const trash = makeUnique(this.#trash);
      const moved = await rename(folder, trash).then(() => true, ignoreAbsent);
      if (moved === undefined) continue;
      thrown.push(trash);
    }
    return thrown;
  }

  async #sizeOf(folder: HostPath): Promise<number> {
    try {
      const entries = await this.options.tree.scanTree(folder);
      return entries.reduce((sum, entry) => sum + (entry.hardlinkTo === undefined ? entry.size : 0), 0);
    } catch (error) {
      // Another process may be emptying the same trash: then the bytes are its to count.
      if (error instanceof MachineError) return 0;
      throw error;
    }
  }
}
