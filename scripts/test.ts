// `npm test [-- FILTER]`: sets the machine up, runs every test, and ends with one line of counts.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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

if (import.meta.main) {
  try {
    setUp('test');
    await makeBases();
    const { counts, code } = runTests(process.argv.slice(2));
    console.log(closingLine(counts));
    process.exitCode = counts.failed > 0 ? 1 : code;
  } catch (error) {
    console.error(error instanceof SetupError ? `setup: ${error.message}` : error);
    console.log(closingLine({ passed: 0, failed: 1, skipped: 0 }));
    process.exitCode = 1;
  }
}
