import { expect, test } from 'vitest';
import { closingLine, countsOf } from './test.ts';

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
