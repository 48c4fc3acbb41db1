import { expect, test } from 'vitest';
import { BUILDER_MISSING } from '../bench/result.ts';
import { benchCounts, closingLine, countsOf, sumOf } from './test.ts';

const report = { numPassedTests: 3, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, testResults: [] };

test('closingLine leaves skipped tests out where there are none', () => {
  expect(closingLine(countsOf(report))).toBe('3 passed, 0 failed');
  expect(closingLine(countsOf({ ...report, numPendingTests: 2, numTodoTests: 1 }))).toBe(
    '3 passed, 0 failed, 3 skipped',
  );
});

test('countsOf counts a file that cannot be loaded as a failure', () => {
  const unloaded = { status: 'failed', assertionResults: [] };
  const failing = { status: 'failed', assertionResults: [{}] };
  expect(countsOf({ ...report, numFailedTests: 1, testResults: [unloaded, failing] }).failed).toBe(2);
});

test.each([
  [0, '4 passed, 0 failed'],
  [1, '3 passed, 1 failed'],
  ['ended by a signal', '3 passed, 1 failed'],
  [BUILDER_MISSING, '3 passed, 0 failed, 1 skipped'],
  ['not root', '3 passed, 0 failed, 1 skipped'],
] as const)('benchCounts adds one to the tests: %s', (outcome, line) => {
  expect(closingLine(sumOf(countsOf(report), benchCounts(outcome)))).toBe(line);
});
