import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Bench } from '../bench.ts';
import type { ObservationsResult } from '../result.ts';
import type { TimedBuild } from '../store.ts';
import { dockerfileOf, prepare, TRACED, type TracedWorkload } from './tracing.ts';

const MOST_BYTES_A_PATH = 100;

/** Steps that look at few, at many and at very many paths. */
const STEPS = ['npm', 'gcc', 'tar', 'find'];

/** Runs each step once, and counts what the database then holds more of observed paths. */
export async function measureObservations(bench: Bench): Promise<ObservationsResult> {
  const sets: ObservationsResult['sets'][number][] = [];
  for (const workload of TRACED.filter(({ name }) => STEPS.includes(name))) {
    const { paths, bytes } = await observe(bench, workload);
    sets.push({ name: workload.title, paths, bytes });
    bench.say(`  ${workload.name}: ${paths} paths in ${bytes} bytes`);
  }
  return {
    kind: 'observations',
    workload: 'observations',
    title: 'bytes a path in the database',
    sets,
    limit: MOST_BYTES_A_PATH,
  };
}

async function observe(
  bench: Bench,
  workload: TracedWorkload,
): Promise<{ readonly paths: number; readonly bytes: number }> {
  const { store } = bench;
  const context = await prepare(bench, store, workload);
  const database = join(store.root, 'varve.db');
  const build = (step: 'none' | 'once'): Promise<TimedBuild> =>
    store.build(['--cache=observed', context], dockerfileOf(workload, { step }));
  await build('none');
  const before = storedBytes(database);
  const { steps } = await build('once');
  const listed = await store.varve(['why', String(steps.length), '--reads', '--format=json']);
  const reads: unknown = JSON.parse(listed);
  if (!Array.isArray(reads)) throw new Error('why --reads: no list');
  return { paths: reads.length, bytes: storedBytes(database) - before };
}

/** Bytes of the rows and index entries of path sets and of what they said: SQLite's own count (dbstat). */
function storedBytes(database: string): number {
  const db = new DatabaseSync(database, { readOnly: true });
  try {
    const counted = db
      .prepare(
        `SELECT total(payload) AS bytes FROM dbstat JOIN sqlite_schema USING (name)
         WHERE tbl_name IN ('path_sets', 'observations')`,
      )
      .get();
    const bytes = counted?.['bytes'];
    if (typeof bytes !== 'number') throw new Error('dbstat gives no number');
    return bytes;
  } finally {
    db.close();
  }
}
