import { expect, test } from 'vitest';
import { withMemory } from './memory.ts';

const MIB = 2 ** 20;

test('withMemory counts what the processes of a process hold', async () => {
  const hold = `const held = Buffer.alloc(${200 * MIB}, 1); setTimeout(() => held.at(0), 1000);`;
  const script = '"$0" -e "$1" & wait';
  const { signal } = new AbortController();
  const argv = ['sh', '-c', script, process.execPath, hold];
  const { peakMiB, sumOfPeaksMiB } = await withMemory({ argv }, { signal, quick: true });
  expect(peakMiB).toBeGreaterThan(200);
  expect(sumOfPeaksMiB).toBeGreaterThan(peakMiB - 20);
  expect(peakMiB).toBeLessThan(400);
});
