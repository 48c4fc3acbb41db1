import { expect, test } from 'vitest';
import { parseAge } from './age.ts';

test.each([
  ['90s', 90_000],
  ['1h30m', 5_400_000],
  ['1.5h', 5_400_000],
  ['7d', 604_800_000],
  ['1w2d', 777_600_000],
  ['0s', 0],
])('parseAge reads %s', (text, ms) => {
  expect(parseAge(text)).toBe(ms);
});

test.each(['', '1', 'd', '-1d', '1 d', '1y', '1d,', '1.d', 'Infinitys'])('parseAge refuses %j', (text) => {
  expect(parseAge(text)).toBeUndefined();
});
