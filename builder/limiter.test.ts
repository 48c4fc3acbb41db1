import { expect, test } from 'vitest';
import { createLimiter } from './limiter.ts';

test('a limiter lets no more than its limit go on at once, and starts the rest in order', async () => {
  const limiter = createLimiter(2);
  const started: number[] = [];
  const ends = [0, 1, 2, 3].map(() => Promise.withResolvers<void>());
  const runs = ends.map((end, index) =>
    limiter.run(async () => {
      started.push(index);
      await end.promise;
      return index;
    }),
  );
  await Promise.resolve();
  expect(started).toEqual([0, 1]);
  ends[1]?.resolve();
  await runs[1];
  await Promise.resolve();
  expect(started).toEqual([0, 1, 2]);
  for (const end of ends) end.resolve();
  expect(await Promise.all(runs)).toEqual([0, 1, 2, 3]);
});

test('a limiter passes failures on and gives the place to the next', async () => {
  const limiter = createLimiter(1);
  const failing = limiter.run(() => Promise.reject(new Error('no')));
  const next = limiter.run(async () => 'done');
  await expect(failing).rejects.toThrow('no');
  expect(await next).toBe('done');
});

test('a limit below one counts as one', async () => {
  expect(await createLimiter(0).run(async () => 1)).toBe(1);
});
