import { mkdirSync, readdirSync, statSync } from 'node:fs';
import {
  type DiffId,
  digestHex,
  type HostPath,
  joinHost,
  MachineError,
  type Observation,
  type StepKey,
} from '../core/index.ts';
import { buildLog } from './build-log.ts';
import { actionDigest, keyPreimage, stepKey } from './canonical.ts';
import type {
  Action,
  BuildLog,
  Lookup,
  ObservedHit,
  ObservedLookup,
  ObservedQuery,
  PrunableCache,
  PruneRequest,
  PruneResult,
  RecordUsage,
  RepeatableStep,
  StepQuery,
  StepRecord,
  StepResult,
} from './contract.ts';
import { Database, digestOfRow, textOf } from './database.ts';
import { selectVictims, type Victim } from './evict.ts';
import { Generation } from './generation.ts';
import { isLocked, type KernelLock, NamedLocks, tryLock, waitForLockBlocking } from './locks.ts';
import { Observations } from './observed.ts';
import { checksumOf, recordOf, repeatableOf, titleOf, usageOf } from './record-row.ts';
import { MIGRATIONS } from './schema.ts';
import { Slots } from './slots.ts';
import { DISK_FULL_HINT, isDiskFull } from './store-error.ts';
import { UnchangedNotes } from './unchanged-notes.ts';
import { takeInUses, withUses } from './unchanged-uses.ts';

export interface StepCacheOptions {
  /** The store's folder; made where it does not exist. */
  readonly root: HostPath;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** Names this process among all that ever used the store: letters, digits, `.`, `_`, `-`; never used twice. */
  readonly session: string;
  /** Told where something was mended. */
  readonly onWarning?: (message: string) => void;
}

const SESSION_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const SESSION_WAIT_MS = 5000;
const LONGEST_TITLE = 200;
const DATABASE = 'varve.db';

/**
 * Opens the records of the store at `root`: `varve.db`, and beside it `locks/` (steps being worked on) and `sessions/` (one lock
 * a process that has the store open). From now until `close`, or the death of the process, `isAlive(session)` is true.
 *
 * @throws MachineError `store-newer`, `store-io`, `store-busy`, `disk-full`.
 */
export function openStepCache(options: StepCacheOptions): PrunableCache {
  const { root, session } = options;
  if (!SESSION_NAME.test(session)) throw new Error(`no name of a session: ${JSON.stringify(session)}`);
  for (const folder of [root, joinHost(root, 'locks'), joinHost(root, 'sessions')]) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    } catch (cause) {
      const full = isDiskFull(cause);
      throw new MachineError(full ? 'disk-full' : 'store-io', `cannot make the folder ${folder}`, {
        hint: full ? DISK_FULL_HINT : 'Choose another folder for the store with --root.',
        cause,
      });
    }
  }
  const lock = waitForLockBlocking(sessionLock(root, session), SESSION_WAIT_MS);
  try {
    return new SqliteStepCache(options, lock);
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

/** Does the process that opened the store at `root` as `session` still run and have it open? */
export function isSessionAlive(root: HostPath, session: string): boolean {
  return SESSION_NAME.test(session) && isLocked(sessionLock(root, session));
}

function sessionLock(root: HostPath, session: string): HostPath {
  return joinHost(root, 'sessions', `${session}.lock`);
}

class SqliteStepCache implements PrunableCache {
  readonly builds: BuildLog;
  readonly #options: StepCacheOptions;
  readonly #lock: KernelLock;
  readonly #database: Database;
  readonly #slots: Slots;
  readonly #observations: Observations;
  readonly #steps: NamedLocks;
  readonly #generation: Generation;
  /** The generation in which this process found the store; what it notes holds as long as that lasts. */
  readonly #found: string | undefined;
  readonly #notes: UnchangedNotes;
  /** What this process holds: written again into a database that took the place of a damaged one. */
  readonly #held = new Set<DiffId>();
  #state: 'open' | 'pruning' | 'closed' = 'open';

  constructor(options: StepCacheOptions, lock: KernelLock) {
    const { root } = options;
    this.#options = options;
    this.#lock = lock;
    this.#generation = new Generation(root);
    this.#notes = new UnchangedNotes(root);
    this.#found = this.#generation.read();
    this.#database = new Database({
      path: joinHost(root, DATABASE),
      repairLock: joinHost(root, 'locks', 'repair.lock'),
      migrations: MIGRATIONS,
      onOpen: (database) => this.#register(database),
      onWarning: (message) => options.onWarning?.(message),
      onMigrate: () => this.#generation.renew(),
    });
    // Before notes were known there was none; and a disk that was full had no room for one.
    if (this.#found === undefined && this.#generation.read() === undefined) this.#generation.renew();
    this.#slots = new Slots(this.#database);
    this.#observations = new Observations(this.#database);
    this.#steps = new NamedLocks(joinHost(root, 'locks'));
    this.builds = withUses(buildLog(this.#database), () => takeInUses(this.#database, this.#notes));
  }

  async lookup(query: StepQuery): Promise<Lookup> {
    this.#mustBeOpen();
    const key = stepKey(query);
    const nowMs = this.#now();
    const found = this.#database.transaction(() => {
      const row = this.#database.get('SELECT * FROM records WHERE key = ?', key);
      if (row === undefined) return undefined;
      const record = recordOf(row, key);
      this.#database.run('UPDATE records SET last_used_at = ?, uses = uses + 1 WHERE key = ?', nowMs, key);
      if (record.diffId !== undefined) this.#insertHold(this.#database, record.diffId);
      return { record, known: this.#slots.touch(query.slot, key, nowMs) };
    });
    if (found === undefined) return { kind: 'miss', key, why: this.#slots.why(query, key) };
    if (found.record.diffId !== undefined) this.#held.add(found.record.diffId);
    if (!found.known) {
      const listings = await this.#slots.pack(query);
      this.#database.transaction(() => this.#slots.write(query, listings, { key, ms: nowMs }));
    }
    return { kind: 'hit', record: found.record };
  }

  async record(query: StepQuery, result: StepResult): Promise<StepRecord> {
    this.#mustBeOpen();
    const preimage = keyPreimage(query);
    const key = stepKey(query);
    const nowMs = this.#now();
    const { layer, durationMs, title = titleOf(query.action), origin = 'ran' } = result;
    const createdAtMs = Math.round(result.createdAtMs ?? nowMs);
    const ranAtMs = Math.round(result.ranAtMs ?? nowMs - durationMs);
    const listings = await this.#slots.pack(query);
    const row = {
      key,
      parent: query.parent ?? null,
      diff_id: layer?.diffId ?? null,
      layer_bytes: layer?.size ?? null,
      created_at: createdAtMs,
      ran_at: ranAtMs,
      duration_ms: durationMs,
      origin,
      stands_on: result.standsOn === undefined ? null : JSON.stringify(result.standsOn),
    };
    const replaced = this.#database.transaction(() => {
      if (layer !== undefined) this.#insertHold(this.#database, layer.diffId);
      const replaces = this.#database.get('SELECT 1 FROM records WHERE key = ?', key) !== undefined;
      if (replaces) this.#generation.renew();
      this.#database.run(
        `INSERT OR REPLACE INTO records
           (key, parent, diff_id, layer_bytes, created_at, ran_at, duration_ms, origin, stands_on, checksum,
            action, preimage, kind, title, last_used_at, uses)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)`,
        ...Object.values(row),
        ...[checksumOf(row), actionDigest(query.action), preimage, query.action.kind],
        ...[title.slice(0, LONGEST_TITLE).toWellFormed(), nowMs],
      );
      this.#slots.write(query, listings, { key, ms: nowMs });
      return replaces;
    });
    if (replaced) this.#generation.renew();
    if (layer !== undefined) this.#held.add(layer.diffId);
    const diff = layer === undefined ? {} : { diffId: layer.diffId, layerBytes: layer.size };
    return { key, origin, ...diff, createdAtMs, ranAtMs, durationMs };
  }

  async lookupObserved(query: ObservedQuery): Promise<ObservedLookup> {
    this.#mustBeOpen();
    const hold = (diffId: DiffId): void => this.#insertHold(this.#database, diffId);
    const found = await this.#observations.lookup(query, { nowMs: this.#now(), hold });
    if (found.kind === 'hit' && found.record.diffId !== undefined) this.#held.add(found.record.diffId);
    return found;
  }

  async observe(
    key: StepKey,
    query: ObservedQuery,
    seen: { readonly observations: readonly Observation[]; readonly parentDiffs: readonly DiffId[] },
  ): Promise<void> {
    this.#mustBeOpen();
    await this.#observations.observe(key, query, { ...seen, nowMs: this.#now() });
  }

  observeAgain(
    key: StepKey,
    query: ObservedQuery,
    seen: { readonly found: ObservedHit; readonly parentDiffs: readonly DiffId[] },
  ): void {
    this.#mustBeOpen();
    this.#observations.observeAgain(key, query, { ...seen, nowMs: this.#now() });
  }

  reads(key: StepKey): readonly Observation[] | undefined {
    this.#mustBeOpen();
    return this.#observations.reads(key);
  }

  previous(slot: string): StepRecord | undefined {
    this.#mustBeOpen();
    const sql = 'SELECT records.* FROM slots JOIN records ON records.key = slots.key WHERE slots.slot = ?';
    return this.#database.reading(() => this.#database.all(sql, slot).map((row) => recordOf(row))[0]);
  }

  earlier(action: Action, limit: number): readonly StepRecord[] {
    this.#mustBeOpen();
    const sql = 'SELECT * FROM records WHERE action = ? ORDER BY ran_at DESC, rowid DESC LIMIT ?';
    return this.#database.reading(() =>
      this.#database.all(sql, actionDigest(action), limit).map((row) => recordOf(row)),
    );
  }

  knows(action: Action): boolean {
    this.#mustBeOpen();
    return (
      this.#database.get('SELECT 1 FROM records WHERE action = ? LIMIT 1', actionDigest(action)) !== undefined
    );
  }

  repeatable(key: StepKey): RepeatableStep | undefined {
    this.#mustBeOpen();
    return this.#database.reading(() => {
      const row = this.#database.get('SELECT * FROM records WHERE key = ?', key);
      return row === undefined ? undefined : repeatableOf(row, key);
    });
  }

  noteUnchanged(note: Parameters<PrunableCache['noteUnchanged']>[0], temporary: HostPath): void {
    this.#mustBeOpen();
    const generation = this.#generation.read();
    if (generation === undefined || generation !== this.#found) return;
    const { size } = statSync(joinHost(this.#options.root, DATABASE));
    this.#notes.write({ ...note, generation, database: { path: DATABASE, bytes: size } }, temporary);
  }

  forget(key: StepKey): void {
    this.removeRecords([key]);
  }

  async exclusively<T>(key: StepKey, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#mustBeOpen();
    return this.#steps.run(digestHex(key), work, signal);
  }

  hold(diffIds: readonly DiffId[]): void {
    this.#mustBeOpen();
    const fresh = diffIds.filter((diffId) => !this.#held.has(diffId));
    if (fresh.length === 0) return;
    this.#database.transaction(() => {
      for (const diffId of fresh) this.#insertHold(this.#database, diffId);
    });
    for (const diffId of fresh) this.#held.add(diffId);
  }

  sessions(): readonly string[] {
    return this.#sessionFiles();
  }

  isAlive(session: string): boolean {
    if (session === this.#options.session) return this.#state !== 'closed';
    return isSessionAlive(this.#options.root, session);
  }

  usage(): readonly RecordUsage[] {
    this.#mustBeOpen();
    takeInUses(this.#database, this.#notes);
    return this.#usage();
  }

  held(): ReadonlySet<DiffId> {
    this.#mustBeOpen();
    return this.#database.reading(() => this.#heldByLiving());
  }

  removeRecords(keys: readonly StepKey[]): number {
    this.#mustBeOpen();
    return this.#removeRecords(keys);
  }

  async prune(
    request: PruneRequest,
    remove: (diffIds: readonly DiffId[]) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<PruneResult> {
    this.#mustBeOpen();
    this.#state = 'pruning';
    takeInUses(this.#database, this.#notes);
    this.#generation.renew();
    try {
      const victims = this.#database.transaction(() => {
        this.#cleanUp();
        return selectVictims({ ...request, records: this.#usage(), held: this.#heldByLiving() });
      });
      const result = { records: 0, diffs: 0, bytes: 0 };
      for (const victim of victims) {
        signal?.throwIfAborted();
        const removed = await this.#database.longTransaction(() => this.#evict(victim, remove));
        if (removed === 'stop') break;
        if (removed === 'kept') continue;
        result.records += removed;
        if (victim.diffId !== undefined) result.diffs += 1;
        result.bytes += victim.bytes;
      }
      return result;
    } finally {
      this.#generation.renew();
      this.#notes.clear();
      this.#state = 'open';
    }
  }

  sweep(): void {
    this.#mustBeOpen();
    this.#database.transaction(() => this.#cleanUp());
  }

  close(): void {
    if (this.#state === 'closed') return;
    this.#mustBeOpen();
    this.#state = 'closed';
    try {
      this.#database.run('DELETE FROM sessions WHERE session = ?', this.#options.session);
    } finally {
      this.#database[Symbol.dispose]();
      this.#lock[Symbol.dispose]();
    }
  }

  /**
   * Removes one victim inside a write transaction and tells how many records went with it. `kept`: it may not go any more;
   * `stop`: nothing may go, for some living session has not written yet what it holds into a database begun anew.
   */
  async #evict(
    { diffId, keys }: Victim,
    remove: (diffIds: readonly DiffId[]) => Promise<void>,
  ): Promise<number | 'kept' | 'stop'> {
    const [stranger] = this.#strangers();
    if (stranger !== undefined) {
      this.#options.onWarning?.(
        `nothing can be pruned while ${stranger} runs: the database was begun anew since it started`,
      );
      return 'stop';
    }
    if (diffId === undefined) return this.#removeRecords(keys);
    if (this.#heldByLiving().has(diffId)) return 'kept';
    // Not only `keys`: a record may have come since they were chosen.
    const removed = this.#database.run('DELETE FROM records WHERE diff_id = ?', diffId);
    await remove([diffId]);
    return removed;
  }

  /**
   * Living sessions that this database does not know: it was begun anew while they ran, and until they write
   * into it again nobody can tell what they hold.
   */
  #strangers(): readonly string[] {
    const known = new Set(
      this.#database.all('SELECT session FROM sessions').map((row) => textOf(row, 'session')),
    );
    return this.#sessionFiles().filter((session) => !known.has(session) && this.isAlive(session));
  }

  #sessionFiles(): readonly string[] {
    return readdirSync(joinHost(this.#options.root, 'sessions'))
      .filter((name) => name.endsWith('.lock'))
      .map((name) => name.slice(0, -'.lock'.length));
  }

  /** Takes away what sessions that died have left: their holds, their lock files, and those of their steps. */
  #cleanUp(): void {
    const { root } = this.#options;
    // Whoever died may have been about to take records away.
    this.#generation.renew();
    for (const row of this.#database.all('SELECT session FROM sessions')) {
      const session = textOf(row, 'session');
      if (!this.isAlive(session)) this.#database.run('DELETE FROM sessions WHERE session = ?', session);
    }
    for (const session of this.#sessionFiles()) {
      if (session !== this.#options.session) tryLock(sessionLock(root, session))?.[Symbol.dispose]();
    }
    const locks = joinHost(root, 'locks');
    for (const name of readdirSync(locks)) {
      if (name.endsWith('.lock')) tryLock(joinHost(locks, name))?.[Symbol.dispose]();
    }
  }

  #register(database: Database): void {
    database.transaction(() => {
      database.run('INSERT OR IGNORE INTO sessions (session) VALUES (?)', this.#options.session);
      for (const diffId of this.#held) this.#insertHold(database, diffId);
    });
  }

  /** To be called in a transaction, and `#held` to be told after it: what was rolled back is not held. */
  #insertHold(database: Database, diffId: DiffId): void {
    database.run(
      'INSERT OR IGNORE INTO holds (session, diff_id) VALUES (?, ?)',
      this.#options.session,
      diffId,
    );
  }

  #heldByLiving(): ReadonlySet<DiffId> {
    const living = new Map<string, boolean>();
    const held = new Set<DiffId>();
    for (const row of this.#database.all('SELECT session, diff_id FROM holds')) {
      const session = textOf(row, 'session');
      const alive = living.get(session) ?? this.isAlive(session);
      living.set(session, alive);
      if (alive) held.add(digestOfRow(row, 'diff_id') as DiffId);
    }
    return held;
  }

  #usage(): readonly RecordUsage[] {
    return this.#database.reading(() => this.#database.all('SELECT * FROM records').map(usageOf));
  }

  #removeRecords(keys: readonly StepKey[]): number {
    return this.#generation.around(() =>
      this.#database.transaction(() => {
        let removed = 0;
        for (const key of keys) removed += this.#database.run('DELETE FROM records WHERE key = ?', key);
        return removed;
      }),
    );
  }

  #now(): number {
    return Math.round(this.#options.clock());
  }

  #mustBeOpen(): void {
    if (this.#state !== 'open') throw new Error(`the step cache is ${this.#state}`);
  }
}
