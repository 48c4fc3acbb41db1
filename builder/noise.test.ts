import { expect, test } from 'vitest';
import { imagePath } from '../core/index.ts';
import { checkNoise, noiseFilter } from './noise.ts';

test('noiseFilter knows what differs by nature, and what lies below it', () => {
  const isNoise = noiseFilter([]);
  expect(isNoise(imagePath('/var/cache/ldconfig/aux-cache'))).toBe(true);
  expect(isNoise(imagePath('/root/.npm/_logs'))).toBe(true);
  expect(isNoise(imagePath('/root/.npm/_logs/today.log'))).toBe(true);
});

test('noiseFilter takes nothing else for noise', () => {
  const isNoise = noiseFilter(['/build/*.log']);
  expect(isNoise(imagePath('/var/cache/ldconfig'))).toBe(false);
  expect(isNoise(imagePath('/app/var/log/dpkg.log'))).toBe(false);
  expect(isNoise(imagePath('/build/sub/x.log'))).toBe(false);
  expect(isNoise(imagePath(''))).toBe(false);
});

test('noiseFilter takes patterns of the user too', () => {
  const isNoise = noiseFilter(['/build/*.log', '/cache-?']);
  expect(isNoise(imagePath('/build/x.log'))).toBe(true);
  expect(isNoise(imagePath('/cache-1/deep/file'))).toBe(true);
});

test('noiseFilter takes a folder whose name has a backslash before it for what it means', () => {
  expect(noiseFilter(['/\\*odd/*.log'])(imagePath('/*odd/x.log'))).toBe(true);
  expect(noiseFilter(['/b\\uild/x.log'])(imagePath('/build/x.log'))).toBe(true);
});

test('checkNoise refuses what would fit nothing', () => {
  expect(() => checkNoise(['/var/log/*.log', '/x'])).not.toThrow();
  for (const wrong of ['log', '/', '', '/['])
    expect(() => checkNoise(['/x', wrong])).toThrow(/--cache-noise/);
});
