import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type DiffId, digestOf, MachineError, type SnapshotId } from '../core/index.ts';
import { randomOf } from '../fixtures/faults/random.ts';
import type { PrunableCache, StepQuery } from './contract.ts';
import { freshStores, open, root } from './fixtures/observed-store.ts';

const SEED = Number(process.env['VARVE_SEED'] ?? 20_260_101);
const STEPS = 24;
const FLIPS = 120;

freshStores();

const stepOf = (n: number): StepQuery => ({
  action: { version: 1, kind: 'RUN', definition: { command: `make ${n}` } },
  parent: digestOf(`parent ${n % 3}`) as string as SnapshotId,
  inputs: [],
  slot: `slot ${n}`,
});

/** What a store says of each step; undefined where it does not know. */
async function answers(cache: PrunableCache): Promise<readonly unknown[]> {
  const said: unknown[] = [];
  for (let n = 0; n < STEPS; n += 1) {
    const found = await cache.lookup(stepOf(n));
    said.push(found.kind === 'hit' ? found.record : undefined);
  }
  return said;
}

describe('a database in which the disk has flipped a bit', () => {
  it('gives the records that were written, or none, and is usable', async () => {
    const first = open('first');
    for (let n = 0; n < STEPS; n += 1) {
      const layer = { diffId: digestOf(`diff ${n}`) as DiffId, size: 1000 + n };
      await first.record(stepOf(n), { layer, durationMs: n, standsOn: { diffs: [], base: 0 } });
    }
    const written = await answers(first);
    first.close();
    const file = join(root, 'varve.db');
    const whole = readFileSync(file);
    const random = randomOf(SEED);
    for (let flip = 0; flip < FLIPS; flip += 1) {
      const bytes = Buffer.from(whole);
      // Most of a small database is empty: bytes that hold something.
      let at = random.between(0, bytes.length - 1);
      while (bytes[at] === 0) at = random.between(0, bytes.length - 1);
      bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random.between(0, 7)), at);
      for (const suffix of ['-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
      writeFileSync(file, bytes);
      const where = `seed ${SEED}, flip ${flip}, byte ${at}`;
      try {
        const cache = open(`flipped-${flip}`);
        for (const [n, record] of (await answers(cache)).entries()) {
          if (record !== undefined) expect(record, where).toEqual(written[n]);
        }
        await cache.record(stepOf(0), { durationMs: 1 });
        expect((await cache.lookup(stepOf(0))).kind, where).toBe('hit');
        cache.close();
      } catch (error) {
        // A newer version, as far as one can tell: left alone, and said so.
        if (!(error instanceof MachineError && error.code === 'store-newer'))
          throw new Error(where, { cause: error });
      }
    }
  }, 300_000);
});
