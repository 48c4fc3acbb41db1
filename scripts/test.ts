// `npm test [-- FILTER]`: sets the machine up, runs every test, then every benchmark at its smallest, and ends with one line of counts.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BUILDER_MISSING } from '../bench/result.ts';
import { BASE_NAMES, baseImage } from '../fixtures/index.ts';
import { SetupError, setUp } from './setup.ts';

/** What vitest's JSON reporter writes, as far as it is read here. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly { readonly status: string; readonly assertionResults: readonly unknown[] }[];
}

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Counts of a report. A test file that could not even be loaded has no tests and counts as one failure. */
export function countsOf(report: Report): Counts {
  const unloaded = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + unloaded.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

export function closingLine(counts: Counts): string {
  const line = `${counts.passed} passed, ${counts.failed} failed`;
  return counts.skipped === 0 ? line : `${line}, ${counts.skipped} skipped`;
}

/** Makes the base images ahead: no test's time limit then depends on how fast the package mirrors are. */
async function makeBases(): Promise<void> {
  if (process.getuid?.() !== 0) return;
  for (const name of BASE_NAMES) {
    console.log(`setup: base image ${name}`);
    await baseImage(name);
  }
}

function runTests(filters: readonly string[]): { readonly counts: Counts; readonly code: number } {
  const folder = mkdtempSync(join(tmpdir(), 'varve-report-'));
  const output = join(folder, 'report.json');
  const vitest = join(import.meta.dirname, '../node_modules/vitest/vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${output}`];
  try {
    const run = spawnSync(process.execPath, [vitest, 'run', ...reporters, ...filters], {
      cwd: join(import.meta.dirname, '..'),
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const report: Report = JSON.parse(readFileSync(output, 'utf8'));
    return { counts: countsOf(report), code: run.status ?? 1 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** As long as this, and it hangs. */
const MOST_BENCH_MS = 30 * 60 * 1000;

/** Carries out every workload of the benchmark; its figures are not kept. It needs root, as the builders do that it has beside varve. */
function runBench(): Counts {
  if (process.getuid?.() !== 0) return benchCounts('not root');
  console.log('bench: every workload at its smallest size');
  const run = spawnSync(process.execPath, [join(import.meta.dirname, '../bench/main.ts'), '--quick'], {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: MOST_BENCH_MS,
  });
  return benchCounts(run.status ?? 'ended by a signal');
}

/** The benchmark counts as one test: skipped where it cannot be had whole on this machine. */
export function benchCounts(outcome: number | 'not root' | 'ended by a signal'): Counts {
  switch (outcome) {
    case 0:
      return { passed: 1, failed: 0, skipped: 0 };
    case 'not root':
    case BUILDER_MISSING:
      return { passed: 0, failed: 0, skipped: 1 };
    default:
      return { passed: 0, failed: 1, skipped: 0 };
  }
}

export function sumOf(one: Counts, other: Counts): Counts {
  return {
    passed: one.passed + other.passed,
    failed: one.failed + other.failed,
    skipped: one.skipped + other.skipped,
  };
}

if (import.meta.main) {
  try {
    setUp('test');
    await makeBases();
    const filters = process.argv.slice(2);
    const tests = runTests(filters);
    const counts = filters.length === 0 ? sumOf(tests.counts, runBench()) : tests.counts;
    console.log(closingLine(counts));
    process.exitCode = counts.failed > 0 ? 1 : tests.code;
  } catch (error) {
    console.error(error instanceof SetupError ? `setup: ${error.message}` : error);
    console.log(closingLine({ passed: 0, failed: 1, skipped: 0 }));
    process.exitCode = 1;
  }
}
