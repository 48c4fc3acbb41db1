import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { chmod, chown, lstat, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Digest,
  digestOf,
  errnoOf,
  fsPath,
  type HostPath,
  joinHost,
  MachineError,
  ownerFailure,
} from '../core/index.ts';
import { encodeCanonical } from './canonical.ts';
import { type KernelLock, NamedLocks } from './locks.ts';
import { tryMountLock } from './mount-locks.ts';
import { DISK_FULL_HINT, isDiskFull } from './store-error.ts';

/** Which cache mount: steps that say the same share it. */
export interface CacheMountName {
  readonly id: string;
  /** The files that it held the first time; absent: none. */
  readonly base?: Digest;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface CacheMountRequest {
  readonly name: CacheMountName;
  /** Where another step uses it: use it with that step, use another copy, or wait. */
  readonly sharing: 'shared' | 'private' | 'locked';
  /** Puts the first content into an empty folder. */
  readonly fill?: (folder: HostPath) => Promise<void>;
}

/** The right to use a folder, until disposal or the end of this process. */
export interface CacheMountLease extends AsyncDisposable {
  readonly folder: HostPath;
}

export interface CacheMountUsage {
  /** Names this copy. */
  readonly key: string;
  readonly id: string;
  readonly bytes: number;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number;
  readonly inUse: boolean;
}

/**
 * Folders that steps keep between builds. Each name has one copy, or more where steps that would not share it ran at the same time.
 *
 *     mounts/<digest of the name>/about.json   {"id": ..., "createdAtMs": ...}
 *     mounts/<digest of the name>/<n>.lock     who uses copy n; its time of change is that of the last use
 *     mounts/<digest of the name>/<n>          copy n
 *     mounts/<digest of the name>/new-*        a copy that is being made, or removed
 *
 * All that changes this folder, and every try for a lock, happens under a lock of the name; a copy is used without it.
 */
export interface CacheMounts {
  acquire(request: CacheMountRequest, signal: AbortSignal): Promise<CacheMountLease>;
  /** Every copy, in no order. */
  list(): Promise<readonly CacheMountUsage[]>;
  /** Removes copies, but for those that somebody uses. @returns those that are gone. */
  remove(keys: ReadonlySet<string>): Promise<readonly CacheMountUsage[]>;
}

export interface CacheMountsOptions {
  readonly root: HostPath;
  readonly clock: () => number;
}

const FIRST_WAIT_MS = 5;
const LONGEST_WAIT_MS = 100;
const UNFINISHED = /^new-/;
const COPY = /^\d+$/;

export function openCacheMounts({ root, clock }: CacheMountsOptions): CacheMounts {
  mkdirSync(joinHost(root, 'locks'), { recursive: true, mode: 0o700 });
  return new FolderMounts(joinHost(root, 'mounts'), new NamedLocks(joinHost(root, 'locks')), clock);
}

class FolderMounts implements CacheMounts {
  readonly #home: HostPath;
  readonly #doors: NamedLocks;
  readonly #clock: () => number;

  constructor(home: HostPath, doors: NamedLocks, clock: () => number) {
    this.#home = home;
    this.#doors = doors;
    this.#clock = clock;
  }

  async acquire(request: CacheMountRequest, signal: AbortSignal): Promise<CacheMountLease> {
    const name = digestOf(encodeCanonical({ ...request.name, version: 1 })).slice('sha256:'.length);
    const home = joinHost(this.#home, name);
    for (let wait = FIRST_WAIT_MS; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
      const lease = await this.#behindDoor(name, () => this.#tryAcquire(home, request), signal);
      if (lease !== undefined) return lease;
      // Waiters that started together must not go on trying in step.
      await sleep(wait * (0.5 + Math.random()), undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }

  #behindDoor<T>(name: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#doors.run(`mount-${name}`, () => onStore(work), signal);
  }

  /** The first copy that is free, else a new one; undefined where the step has to wait. */
  async #tryAcquire(home: HostPath, request: CacheMountRequest): Promise<CacheMountLease | undefined> {
    mkdirSync(home, { recursive: true, mode: 0o700 });
    this.#clear(home);
    const copies = copiesIn(home);
    const how = request.sharing === 'shared' ? 'shared' : 'alone';
    for (const copy of copies) {
      const lock = tryMountLock(lockOf(home, copy), how);
      if (lock !== undefined) return this.#lease(home, copy, lock);
    }
    if (request.sharing === 'locked' && copies.length > 0) return undefined;
    const copy = (copies.at(-1) ?? 0) + 1;
    const lock = tryMountLock(lockOf(home, copy), how);
    if (lock === undefined) throw new Error('a copy that nobody knows is locked');
    try {
      await this.#make(home, copy, request);
      return this.#lease(home, copy, lock);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  #lease(home: HostPath, copy: number, lock: KernelLock): CacheMountLease {
    const touch = () => {
      const now = this.#clock() / 1000;
      // Only its time is changed: to open the file here would end this process's locks on it.
      utimesSync(lockOf(home, copy), now, now);
    };
    touch();
    return {
      folder: joinHost(home, String(copy)),
      [Symbol.asyncDispose]: async () => {
        touch();
        lock[Symbol.dispose]();
      },
    };
  }

  async #make(home: HostPath, copy: number, { name, fill }: CacheMountRequest): Promise<void> {
    const fresh = joinHost(home, `new-${randomBytes(6).toString('hex')}`);
    await mkdir(fresh, { mode: 0o700 });
    try {
      if (fill === undefined) {
        await chown(fresh, name.uid, name.gid).catch((cause: unknown) => {
          throw ownerFailure(cause, name);
        });
        await chmod(fresh, name.mode);
      } else await fill(fresh);
      const about = joinHost(home, 'about.json');
      const text = JSON.stringify({ id: name.id, createdAtMs: this.#clock() });
      writeFileSync(`${about}.new`, text, { mode: 0o600 });
      renameSync(`${about}.new`, about);
      await rename(fresh, joinHost(home, String(copy)));
    } catch (error) {
      await rm(fresh, { recursive: true, force: true });
      throw error;
    }
  }

  /** Removes what a process that died was making or removing. */
  #clear(home: HostPath): void {
    for (const name of readdirSync(home)) {
      if (UNFINISHED.test(name)) rmSync(joinHost(home, name), { recursive: true, force: true });
    }
  }

  async list(): Promise<readonly CacheMountUsage[]> {
    const usages: CacheMountUsage[] = [];
    for (const name of namesIn(this.#home)) {
      const home = joinHost(this.#home, name);
      const found = await this.#behindDoor(name, async () =>
        copiesIn(home).map((copy) => ({ copy, inUse: isInUse(home, copy) })),
      );
      for (const { copy, inUse } of found) {
        const usage = await usageOf(home, { name, copy, inUse });
        if (usage !== undefined) usages.push(usage);
      }
    }
    return usages;
  }

  async remove(keys: ReadonlySet<string>): Promise<readonly CacheMountUsage[]> {
    const gone: CacheMountUsage[] = [];
    for (const name of namesIn(this.#home)) {
      const home = joinHost(this.#home, name);
      await this.#behindDoor(name, async () => {
        for (const copy of copiesIn(home)) {
          if (!keys.has(keyOf(name, copy))) continue;
          const usage = await usageOf(home, { name, copy, inUse: false });
          if (usage !== undefined && (await removeCopy(home, copy))) gone.push(usage);
        }
        if (copiesIn(home).length === 0) await rm(home, { recursive: true, force: true });
      });
    }
    return gone;
  }
}

function keyOf(name: string, copy: number): string {
  return copy === 1 ? name : `${name}-${copy}`;
}

function lockOf(home: HostPath, copy: number): HostPath {
  return joinHost(home, `${copy}.lock`);
}

function copiesIn(home: HostPath): readonly number[] {
  return namesIn(home)
    .filter((name) => COPY.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

function namesIn(folder: HostPath): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

function isInUse(home: HostPath, copy: number): boolean {
  const lock = tryMountLock(lockOf(home, copy), 'alone');
  lock?.[Symbol.dispose]();
  return lock === undefined;
}

/** False where somebody uses it. */
async function removeCopy(home: HostPath, copy: number): Promise<boolean> {
  const lock = tryMountLock(lockOf(home, copy), 'alone');
  if (lock === undefined) return false;
  const doomed = joinHost(home, `new-${randomBytes(6).toString('hex')}`);
  renameSync(joinHost(home, String(copy)), doomed);
  lock[Symbol.dispose]();
  rmSync(lockOf(home, copy), { force: true });
  await rm(doomed, { recursive: true, force: true });
  return true;
}

/** Undefined where the copy has gone meanwhile. */
async function usageOf(
  home: HostPath,
  { name, copy, inUse }: { readonly name: string; readonly copy: number; readonly inUse: boolean },
): Promise<CacheMountUsage | undefined> {
  try {
    const about = parsed(readFileSync(joinHost(home, 'about.json'), 'utf8'));
    const { id, createdAtMs } = { id: '', createdAtMs: 0, ...(typeof about === 'object' ? about : {}) };
    const lastUsedAtMs = statSync(lockOf(home, copy)).mtimeMs;
    const bytes = await bytesBelow(joinHost(home, String(copy)));
    return {
      key: keyOf(name, copy),
      id: String(id),
      bytes,
      createdAtMs: Number(createdAtMs),
      lastUsedAtMs,
      inUse,
    };
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** What a power cut has left of it may be no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Bytes of all files; what goes away meanwhile does not count. */
async function bytesBelow(folder: HostPath): Promise<number> {
  let bytes = 0;
  const todo: Buffer[] = [Buffer.from(fsPath(folder))];
  for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
    for (const entry of await readdir(at, { withFileTypes: true, encoding: 'buffer' }).catch(absent)) {
      const path = Buffer.concat([at, Buffer.from('/'), entry.name]);
      if (entry.isDirectory()) todo.push(path);
      else if (entry.isFile()) bytes += (await lstat(path).catch(absentFile)).size;
    }
  }
  return bytes;
}

function absent(error: unknown): [] {
  if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
  throw error;
}

function absentFile(error: unknown): { readonly size: number } {
  absent(error);
  return { size: 0 };
}

/** What the file system refuses is told as such. */
async function onStore<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const code = errnoOf(cause);
    if (cause instanceof MachineError || code === undefined) throw cause;
    const full = isDiskFull(cause);
    throw new MachineError(full ? 'disk-full' : 'store-io', `cannot keep a cache mount: ${code}`, {
      ...(full ? { hint: DISK_FULL_HINT } : {}),
      cause,
    });
  }
}
