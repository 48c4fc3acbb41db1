import { LRUCache } from 'lru-cache';
import {
  type DiffId,
  type Digest,
  digestOf,
  isDigest,
  type Observation,
  type StepKey,
  type TreeChange,
} from '../core/index.ts';
import { observedKey } from './canonical.ts';
import {
  MOST_PATH_SETS,
  type ObservedHit,
  type ObservedLookup,
  type ObservedQuery,
  type StepRecord,
} from './contract.ts';
import {
  bytesOf,
  DamagedRow,
  type Database,
  digestOfRow,
  jsonOf,
  numberOf,
  type Row,
  textOf,
} from './database.ts';
import { contentsOf, fingerprintOf, type Outline, outlineOf } from './observation.ts';
import { decodeMarks, encodeMarks, firstChangeRead, marksOf, type ObservedMarks } from './observed-marks.ts';
import {
  decodePrograms,
  encodePrograms,
  type PathSet,
  type Programs,
  pack,
  pathSetOf,
  programAt,
  sortObservations,
  unpack,
} from './path-set.ts';
import { recordOf } from './record-row.ts';
import { StoredPaths } from './stored-paths.ts';

/** Observations that are kept of one path set; the least recently used go. */
export const MOST_OBSERVATIONS = 64;

/** Paths that are kept in memory. */
const MAX_CACHED_PATHS = 200_000;

/** Observations of one path set, the last used ones, whose trees today's is compared with. */
const MOST_COMPARED = 4;

type ObservedMiss = Extract<ObservedLookup, { kind: 'miss' }>;

/** What a hit is marked with. */
export interface ObservedUse {
  readonly nowMs: number;
  /** Called in the transaction that finds the hit. */
  readonly hold: (diffId: DiffId) => void;
}

interface StoredSet {
  readonly id: number;
  readonly paths: StoredPaths;
}

/** What a path set says today; its content only where it had to be read. */
interface Compared {
  readonly id: number;
  readonly set: PathSet;
  readonly outline: Outline;
  readonly contents: readonly Digest[] | undefined;
}

/**
 * Path sets, and what their paths said when the step of a record ran. An observation ends with its record, a path set with its last
 * observation.
 */
export class Observations {
  readonly #database: Database;
  readonly #sets = new LRUCache<Digest, StoredPaths>({
    maxSize: MAX_CACHED_PATHS,
    sizeCalculation: ({ count }) => count + 1,
  });

  constructor(database: Database) {
    this.#database = database;
  }

  /** See `StepCache.lookupObserved`. */
  async lookup(query: ObservedQuery, use: ObservedUse): Promise<ObservedLookup> {
    const key = observedKey(query);
    const rows = this.#database.all(
      'SELECT id FROM path_sets WHERE observed_key = ? ORDER BY used_at DESC, id DESC',
      key,
    );
    const ids = rows.map((row) => this.#database.reading(() => numberOf(row, 'id')));
    const unchanged = this.#unchanged(ids, query, use);
    if (unchanged !== undefined) return unchanged;
    let last: Compared | undefined;
    for (const id of ids) {
      const stored = this.#database.reading(() => this.#storedSet(id));
      if (stored === undefined) continue;
      const set = stored.paths.decoded();
      const outline = outlineOf(set, query.tree);
      // Files are read only where all the rest is as it was for some observation.
      const known = this.#knowsOutline(stored, outline.digest);
      const contents = known ? await contentsOf(set, query.tree, outline) : undefined;
      last ??= { id, set, outline, contents };
      if (contents === undefined) continue;
      const hit = this.#hit(stored, fingerprintOf(outline, contents), use);
      if (hit !== undefined) return hit;
    }
    return last === undefined ? { kind: 'miss' } : this.#miss(last, query);
  }

  /**
   * A hit without a look at any path: where the diffs of today's tree differ from those of a tree that was asked before in nothing that reaches an
   * observed path, each says what it said then. That tells the fingerprint.
   */
  #unchanged(
    ids: readonly number[],
    { tree: { stack } }: ObservedQuery,
    use: ObservedUse,
  ): ObservedHit | undefined {
    if (stack === undefined) return undefined;
    const compared = new Map<string, readonly TreeChange[] | undefined>();
    for (const id of ids) {
      for (const { noted, fingerprint } of this.#lastStacks(id)) {
        const stored = this.#database.reading(() => this.#storedSet(id));
        const name = stored === undefined ? undefined : stackNamed(noted, stored.paths.digest, fingerprint);
        if (stored === undefined || name === undefined) continue;
        if (!compared.has(name)) compared.set(name, stack.changesSince(name));
        const changes = compared.get(name);
        if (changes === undefined || stored.paths.isTouchedBy(changes)) continue;
        const hit = this.#hit(stored, fingerprint, use);
        if (hit !== undefined) return hit;
      }
    }
    return undefined;
  }

  #lastStacks(id: number): readonly { readonly noted: string; readonly fingerprint: Digest }[] {
    const sql = `SELECT stack, fingerprint FROM observations WHERE path_set = ? AND stack IS NOT NULL
      ORDER BY used_at DESC, rowid DESC LIMIT ${MOST_COMPARED}`;
    return this.#database.reading(() =>
      this.#database
        .all(sql, id)
        .map((row) => ({ noted: textOf(row, 'stack'), fingerprint: digestOfRow(row, 'fingerprint') })),
    );
  }

  #knowsOutline({ id }: StoredSet, outline: Digest): boolean {
    const sql = 'SELECT 1 FROM observations WHERE path_set = ? AND outline = ? LIMIT 1';
    return this.#database.get(sql, id, outline) !== undefined;
  }

  #hit({ id, paths }: StoredSet, fingerprint: Digest, use: ObservedUse): ObservedHit | undefined {
    return this.#database.transaction(() => {
      // Of several results for the same facts, that of the last run. The fingerprint names the path set too: in a database begun anew
      // this number may stand for another one.
      const row = this.#database.get(
        `SELECT records.*, observations.record, observations.parent_diffs FROM observations
           JOIN records ON records.key = observations.record
           WHERE path_set = ? AND fingerprint = ?
           ORDER BY records.ran_at DESC, observations.used_at DESC LIMIT 1`,
        id,
        fingerprint,
      );
      if (row === undefined) return undefined;
      const record = recordOf(row, textOf(row, 'record') as StepKey);
      const { nowMs } = use;
      this.#markUsed(record, id, nowMs);
      if (record.diffId !== undefined) use.hold(record.diffId);
      const observation = { pathSet: id, set: paths.digest, fingerprint };
      return { kind: 'hit', record, paths: paths.count, parentDiffs: parentDiffsOf(row), observation };
    });
  }

  #markUsed({ key }: StepRecord, id: number, nowMs: number): void {
    const database = this.#database;
    database.run('UPDATE records SET last_used_at = ?, uses = uses + 1 WHERE key = ?', nowMs, key);
    database.run('UPDATE observations SET used_at = ? WHERE record = ? AND path_set = ?', nowMs, key, id);
    database.run('UPDATE path_sets SET used_at = ? WHERE id = ?', nowMs, id);
  }

  async #miss({ id, set, ...today }: Compared, { tree }: ObservedQuery): Promise<ObservedMiss> {
    const row = this.#database.get(
      `SELECT marks, programs FROM observations JOIN path_sets ON path_sets.id = observations.path_set
         WHERE path_set = ? ORDER BY observations.used_at DESC, observations.rowid DESC LIMIT 1`,
      id,
    );
    const kept = row === undefined ? undefined : this.#database.reading(() => keptOf(row, set));
    if (kept === undefined) return { kind: 'miss' };
    const { before, programs } = kept;
    const now = await marksOf(set, tree, today);
    const first = await firstChangeRead(set, tree, { before, now });
    const path = first === undefined ? undefined : set.paths[first.at];
    if (first === undefined || path === undefined) return { kind: 'miss' };
    const by = programAt(programs, first.at);
    const who = by === undefined ? {} : { by };
    const { change, others } = first;
    return { kind: 'miss', why: { reason: 'observed-changed', path, change, ...who, others } };
  }

  /** See `StepCache.observe`. */
  async observe(
    key: StepKey,
    query: ObservedQuery,
    seen: {
      readonly observations: readonly Observation[];
      readonly parentDiffs: readonly DiffId[];
      readonly nowMs: number;
    },
  ): Promise<void> {
    const { set, bytes, programs } = pathSetOf(sortObservations(seen.observations));
    const outline = outlineOf(set, query.tree);
    const contents = await contentsOf(set, query.tree, outline);
    const fingerprint = fingerprintOf(outline, contents);
    const [paths, names, marks] = await Promise.all([
      pack(bytes),
      pack(encodePrograms(programs)),
      pack(encodeMarks(await marksOf(set, query.tree, { outline, contents }))),
    ]);
    const database = this.#database;
    const diffs = JSON.stringify(seen.parentDiffs);
    database.transaction(() => {
      // Evicted meanwhile: nothing to find by these paths.
      if (database.get('SELECT 1 FROM records WHERE key = ?', key) === undefined) return;
      const owner = observedKey(query);
      const id = this.#insertSet(owner, set, { paths, names, nowMs: seen.nowMs });
      database.run(
        `INSERT INTO observations (record, path_set, outline, fingerprint, parent_diffs, stack, marks, used_at)
           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
           ON CONFLICT DO UPDATE
             SET outline = ?3, fingerprint = ?4, parent_diffs = ?5, stack = ?6, marks = ?7, used_at = ?8`,
        ...[
          key,
          id,
          outline.digest,
          fingerprint,
          diffs,
          stackNote(query, set.digest, fingerprint),
          marks,
          seen.nowMs,
        ],
      );
      this.#trim(owner, id);
    });
  }

  /** See `StepCache.observeAgain`. */
  observeAgain(
    key: StepKey,
    query: ObservedQuery,
    seen: { readonly found: ObservedHit; readonly parentDiffs: readonly DiffId[]; readonly nowMs: number },
  ): void {
    const { record, observation } = seen.found;
    const database = this.#database;
    database.transaction(() => {
      if (database.get('SELECT 1 FROM records WHERE key = ?', key) === undefined) return;
      // The fingerprint too: in a database begun anew the number may stand for another path set.
      database.run(
        `INSERT INTO observations (record, path_set, outline, fingerprint, parent_diffs, stack, marks, used_at)
           SELECT ?1, path_set, outline, fingerprint, ?2, ?3, marks, ?4 FROM observations
             WHERE record = ?5 AND path_set = ?6 AND fingerprint = ?7
           ON CONFLICT DO UPDATE SET outline = excluded.outline, fingerprint = excluded.fingerprint,
             parent_diffs = ?2, stack = ?3, marks = excluded.marks, used_at = ?4`,
        ...[
          key,
          JSON.stringify(seen.parentDiffs),
          stackNote(query, observation.set, observation.fingerprint),
          seen.nowMs,
        ],
        ...[record.key, observation.pathSet, observation.fingerprint],
      );
      this.#trim(observedKey(query), observation.pathSet);
    });
  }

  #insertSet(
    owner: Digest,
    set: PathSet,
    row: { readonly paths: Buffer; readonly names: Buffer; readonly nowMs: number },
  ): number {
    // A set that is there already is written again, which mends it where it was damaged.
    const { id } =
      this.#database.get(
        `INSERT INTO path_sets (observed_key, digest, paths, programs, used_at) VALUES (?1, ?2, ?3, ?4, ?5)
           ON CONFLICT DO UPDATE SET paths = ?3, programs = ?4, used_at = ?5
           RETURNING id`,
        ...[owner, set.digest, row.paths, row.names, row.nowMs],
      ) ?? {};
    if (typeof id !== 'number') throw new DamagedRow('a path set has no number');
    return id;
  }

  /**
   * Removes what is too much: the least recently used, and of observations first those whose fingerprint another one has too, so that
   * hits on ever other parents, each with a record of its own, do not push out what other states came to. A path set that loses
   * its last observation goes by a trigger.
   */
  #trim(owner: Digest, id: number): void {
    this.#database.run(
      `DELETE FROM observations WHERE path_set IN
         (SELECT id FROM path_sets WHERE observed_key = ? ORDER BY used_at DESC, id DESC LIMIT -1 OFFSET ?)`,
      owner,
      MOST_PATH_SETS,
    );
    this.#database.run(
      `DELETE FROM observations WHERE rowid IN
         (SELECT id FROM
           (SELECT rowid AS id, used_at,
              row_number() OVER (PARTITION BY fingerprint ORDER BY used_at DESC, rowid DESC) > 1 AS again
              FROM observations WHERE path_set = ?)
           ORDER BY again, used_at DESC, id DESC LIMIT -1 OFFSET ?)`,
      id,
      MOST_OBSERVATIONS,
    );
  }

  /** See `StepCache.reads`. */
  reads(key: StepKey): readonly Observation[] | undefined {
    return this.#database.reading(() => {
      const row = this.#database.get(
        `SELECT path_set, programs FROM observations JOIN path_sets ON path_sets.id = observations.path_set
           WHERE record = ? ORDER BY observations.used_at DESC, observations.rowid DESC LIMIT 1`,
        key,
      );
      const stored = row === undefined ? undefined : this.#storedSet(numberOf(row, 'path_set'));
      if (row === undefined || stored === undefined) return undefined;
      const set = stored.paths.decoded();
      const { paths, uses } = set;
      const programs = programsOf(row, set);
      return paths.map((path, at) => {
        const by = programAt(programs, at);
        return { path, uses: uses[at] ?? 0, ...(by === undefined ? {} : { by }) };
      });
    });
  }

  /** Undefined where its row is gone or damaged: then it counts as absent. */
  #storedSet(id: number): StoredSet | undefined {
    const row = this.#database.get('SELECT digest FROM path_sets WHERE id = ?', id);
    if (row === undefined) return undefined;
    const digest = digestOfRow(row, 'digest');
    const cached = this.#sets.get(digest);
    if (cached !== undefined) return { id, paths: cached };
    const packed = this.#database.get('SELECT paths FROM path_sets WHERE id = ?', id);
    const bytes = packed === undefined ? undefined : unpack(bytesOf(packed, 'paths'));
    const paths = bytes === undefined ? undefined : StoredPaths.open(bytes, digest);
    if (paths === undefined) return undefined;
    this.#sets.set(digest, paths);
    return { id, paths };
  }
}

/**
 * The name of a tree's stack as it is kept: with a digest that ties it to the paths and to what they said there, since a row that a disk has
 * changed must not tell of others.
 */
function stackNote({ tree: { stack } }: ObservedQuery, set: Digest, fingerprint: Digest): string | null {
  return stack === undefined ? null : `${tieOf(stack.name, set, fingerprint)} ${stack.name}`;
}

/** The name in a {@link stackNote}; undefined where that is of other paths, or damaged. */
function stackNamed(noted: string, set: Digest, fingerprint: Digest): string | undefined {
  const end = noted.indexOf(' ');
  const name = noted.slice(end + 1);
  return noted.slice(0, end) === tieOf(name, set, fingerprint) ? name : undefined;
}

function tieOf(name: string, set: Digest, fingerprint: Digest): Digest {
  return digestOf(`varve stack 1\0${set}\0${fingerprint}\0${name}`);
}

/** What a row of `observations` and `path_sets` keeps to tell a change with. Undefined where that is damaged. */
function keptOf(
  row: Row,
  set: PathSet,
): { readonly before: ObservedMarks; readonly programs: Programs } | undefined {
  const bytes = unpack(bytesOf(row, 'marks'));
  const before = bytes === undefined ? undefined : decodeMarks(bytes, set.paths.length);
  return before === undefined ? undefined : { before, programs: programsOf(row, set) };
}

/** Nobody, where the row is damaged: programs are for people only. */
function programsOf(row: Row, { paths }: PathSet): Programs {
  const bytes = unpack(bytesOf(row, 'programs'));
  const programs = bytes === undefined ? undefined : decodePrograms(bytes, paths.length);
  return programs ?? { names: [], of: new Uint16Array() };
}

function parentDiffsOf(row: Row): readonly DiffId[] {
  const diffs = jsonOf<readonly string[]>(row, 'parent_diffs');
  if (!Array.isArray(diffs) || !diffs.every(isDigest)) throw new DamagedRow('no list of diffs');
  return diffs as readonly string[] as readonly DiffId[];
}
