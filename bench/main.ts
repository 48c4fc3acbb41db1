// `npm run bench [-- [--quick] [--seed N] [--rounds N] [--files N] [--mebibytes N] [WORKLOAD…]]`: measures, and writes results/*.json and the tables of README.md.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SetupError, setUp } from '../scripts/setup.ts';
import { type Bench, openBench } from './bench.ts';
import { describeMachine } from './machine.ts';
import { BUILDER_MISSING, isWithinLimit, missingOf, type Result, type StoredResult } from './result.ts';
import { renderResults, withResults } from './table.ts';
import { measureBeside } from './workloads/beside.ts';
import { GROWTH, measureGrowth } from './workloads/growth.ts';
import { measureObservations } from './workloads/observations.ts';
import { BESIDE } from './workloads/peers.ts';
import { measureRebuild } from './workloads/rebuild.ts';
import { measureTracing, TRACED } from './workloads/tracing.ts';

const RESULTS = join(import.meta.dirname, 'results');
const PAGE = join(import.meta.dirname, 'README.md');

/** By name, in the order in which they run and stand in the tables. */
const WORKLOADS: ReadonlyMap<string, (bench: Bench) => Promise<Result>> = new Map([
  ...TRACED.map(
    (workload) =>
      [workload.name, (bench: Bench): Promise<Result> => measureTracing(bench, workload)] as const,
  ),
  ['rebuild', measureRebuild] as const,
  ...BESIDE.map(
    (workload) => [workload.name, (bench: Bench): Promise<Result> => measureBeside(bench, workload)] as const,
  ),
  ...GROWTH.map(
    (workload) => [workload.name, (bench: Bench): Promise<Result> => measureGrowth(bench, workload)] as const,
  ),
  ['observations', measureObservations] as const,
]);

interface Arguments {
  readonly quick: boolean;
  readonly seed: number;
  /** Fewer or more rounds of whole commands than the workloads ask for. */
  readonly rounds: number | undefined;
  readonly mostFiles: number;
  readonly mostMebibytes: number;
  readonly names: readonly string[];
}

/** The command line asks for something that there is not. */
class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** @throws UsageError for words that are no workload. */
function readArguments(args: readonly string[]): Arguments {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      rounds: { type: 'string' },
      files: { type: 'string', default: '500000' },
      mebibytes: { type: 'string', default: '10240' },
    },
  });
  const unknown = positionals.filter((name) => !WORKLOADS.has(name));
  if (unknown.length > 0) {
    throw new UsageError(`no workload: ${unknown.join(' ')}; there are ${[...WORKLOADS.keys()].join(', ')}`);
  }
  const names = positionals.length === 0 ? [...WORKLOADS.keys()] : positionals;
  return {
    quick: values.quick,
    seed: Number(values.seed),
    rounds: values.rounds === undefined ? undefined : Number(values.rounds),
    mostFiles: Number(values.files),
    mostMebibytes: Number(values.mebibytes),
    names,
  };
}

async function measure(args: Arguments): Promise<readonly StoredResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'varve-bench-'));
  const machine = await describeMachine();
  const stored: StoredResult[] = [];
  await using ending = new AsyncDisposableStack();
  ending.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));
  const bench = await openBench({
    folder,
    ...args,
    say: console.log,
    ending,
    signal: brokenOff(),
  });
  for (const name of args.names) {
    console.log(`${name}`);
    const result = await WORKLOADS.get(name)?.(bench);
    if (result === undefined) continue;
    const one = { measuredAt: new Date().toISOString(), machine, result };
    // The figures of a quick run say nothing and are not kept.
    if (!args.quick) await publish(one);
    stored.push(one);
  }
  return stored;
}

/** Is aborted when somebody breaks the run off: what it started and made must not outlive it. */
function brokenOff(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => controller.abort());
  return controller.signal;
}

/** Puts a result into `results/`, and all that lie there into the page. */
async function publish(fresh: StoredResult): Promise<void> {
  await mkdir(RESULTS, { recursive: true });
  await writeFile(join(RESULTS, `${fresh.result.workload}.json`), `${JSON.stringify(fresh, undefined, 2)}\n`);
  const files = await readdir(RESULTS);
  const all: StoredResult[] = [];
  for (const name of WORKLOADS.keys()) {
    if (files.includes(`${name}.json`))
      all.push(JSON.parse(await readFile(join(RESULTS, `${name}.json`), 'utf8')));
  }
  await writeFile(PAGE, withResults(await readFile(PAGE, 'utf8'), all));
}

function exitOfMeasured(results: readonly StoredResult[]): number {
  const missed = results.filter(({ result }) => !isWithinLimit(result));
  if (missed.length === 0) return 0;
  console.log(`limits missed: ${missed.map(({ result }) => result.workload).join(', ')}`);
  return 1;
}

/** No figure counts, but that everything was carried out with every builder. */
function exitOfQuick(results: readonly StoredResult[]): number {
  const missing = missingOf(results.map(({ result }) => result));
  for (const one of missing) console.log(`left out: ${one}`);
  return missing.length === 0 ? 0 : BUILDER_MISSING;
}

/** What failed, and what then failed while things were ended. */
function complain(error: unknown): void {
  if (error instanceof SuppressedError) {
    complain(error.suppressed);
    complain(error.error);
  } else console.error(error instanceof UsageError ? error.message : error);
}

try {
  const args = readArguments(process.argv.slice(2));
  setUp('bench');
  const results = await measure(args);
  console.log(`\n${renderResults(results)}`);
  process.exitCode = args.quick ? exitOfQuick(results) : exitOfMeasured(results);
} catch (error) {
  if (error instanceof SetupError) console.error(`setup: ${error.message}`);
  else complain(error);
  process.exitCode = 1;
}
