import { expect, test } from 'vitest';
import { imagePath } from '../../core/index.ts';
import type { VerifiedStep } from '../engine-contract.ts';
import { NO_STYLE } from '../style.ts';
import { isAnyWrong, renderVerified } from './verify.ts';

const difference = { path: imagePath('/app/out'), what: 'content' } as const;
const STEPS: readonly VerifiedStep[] = [
  { name: 'RUN a', verdict: { kind: 'same' } },
  { name: 'RUN b', verdict: { kind: 'unsteady', difference } },
  { name: 'RUN c', verdict: { kind: 'failed', message: 'no network' } },
  { name: 'RUN e', verdict: { kind: 'drifted', difference } },
  { name: 'RUN d', verdict: { kind: 'wrong', difference, report: '/store/reports/x.json' } },
];

test('renderVerified names what did not leave the same, and counts', () => {
  const text = renderVerified(STEPS, NO_STYLE);
  expect(text).not.toContain('RUN a');
  expect(text).toMatch(/unsteady: RUN b\n.*\/app\/out \(content\)/);
  expect(text).toMatch(/not verified: RUN c\n {2}no network/);
  expect(text).toMatch(/drifted: RUN e\n.*\/app\/out now \(content\)/);
  expect(text).toMatch(/WRONG HIT: RUN d\n.*\/app\/out differs \(content\).*\/store\/reports\/x\.json/);
  expect(text).toMatch(/5 reused steps were run again: 1 left the same\n$/);
});

test('isAnyWrong is true for a wrong hit and for damage alone', () => {
  expect(isAnyWrong([{ name: 'RUN f', verdict: { kind: 'damaged', difference } }])).toBe(true);
  expect(isAnyWrong(STEPS)).toBe(true);
  expect(isAnyWrong(STEPS.slice(0, 4))).toBe(false);
});
