import { describe, expect, test } from 'vitest';
import type { Result, StoredResult } from './result.ts';
import { isWithinLimit } from './result.ts';
import { summarise } from './statistics.ts';
import { renderResults, withResults } from './table.ts';

const machine = {
  processor: 'Processor',
  processors: 2,
  memoryGiB: 4,
  kernel: '6.1',
  system: 'System 1',
  node: '26.0.0',
};
const stored = (result: Result): StoredResult => ({ measuredAt: '2030-01-02T03:04:05Z', machine, result });

function tracing(ratio: number): Result {
  const times = { wallMs: 1000, stepMs: 10, cpuMs: 20 };
  const pairs = [{ traced: { ...times, wallMs: 1000 * ratio }, untraced: times }];
  const [wall, step, cpu] = [summarise([ratio]), summarise([1]), summarise([1.02])];
  return { kind: 'tracing', workload: 'w', title: 'work', seed: 1, pairs, wall, step, cpu, limit: 1.05 };
}

const rebuild: Result = {
  kind: 'rebuild',
  workload: 'rebuild',
  title: 'rebuild',
  seed: 1,
  builders: [
    { kind: 'measured', builder: 'varve', version: '1', coldMs: 9000, rebuildMs: [500] },
    { kind: 'measured', builder: 'other', version: '2', coldMs: 9000, rebuildMs: [10_000] },
    { kind: 'unavailable', builder: 'third', reason: 'does not start here' },
  ],
  ratios: [{ builder: 'other', ratio: summarise([0.05]) }],
  limit: 0.1,
};

const observations: Result = {
  kind: 'observations',
  workload: 'observations',
  title: 'observations',
  sets: [{ name: 'many', paths: 10, bytes: 1000 }],
  limit: 100,
};

describe('isWithinLimit', () => {
  test('takes the median for a limit that may be reached, and bytes for one that may not', () => {
    expect(isWithinLimit(tracing(1.05))).toBe(true);
    expect(isWithinLimit(tracing(1.06))).toBe(false);
    expect(isWithinLimit(rebuild)).toBe(true);
    expect(isWithinLimit({ ...rebuild, limit: 0.04 })).toBe(false);
    expect(isWithinLimit(observations)).toBe(false);
  });
});

describe('renderResults', () => {
  test('says of each figure what it is and whether its limit is met', () => {
    expect(renderResults([tracing(1.06), rebuild, observations].map(stored))).toMatchInlineSnapshot(`
      "| workload | untraced | traced | wall time | step alone | processor time | limit |  |
      | --- | --- | --- | --- | --- | --- | --- | --- |
      | work | 1.00 s | 1.06 s | +6.0 % (+6.0 % to +6.0 %) | +0.0 % (+0.0 % to +0.0 %) | +2.0 % (+2.0 % to +2.0 %) | ≤ 5 % | **missed** |

      | builder | first build | after an edit | varve takes | limit |  |
      | --- | --- | --- | --- | --- | --- |
      | varve 1 | 9.00 s | 0.50 s |  |  |  |
      | other 2 | 9.00 s | 10.00 s | 0.050 of it | ≤ 0.1 | met |
      | third | does not start here |  |  |  | not measured |

      | step | paths | bytes | bytes a path | limit |  |
      | --- | --- | --- | --- | --- | --- |
      | many | 10 | 1000 | 100.0 | < 100 | **missed** |

      Measured on Processor (2 processors, 4 GiB), Linux 6.1, System 1, Node 26.0.0, on 2030-01-02: w, rebuild, observations.
      "
    `);
  });
});

describe('withResults', () => {
  test('replaces what lies between the marks, any number of times', () => {
    const page = 'before\n<!-- results: written by npm run bench -->\nold\n<!-- end of results -->\nafter\n';
    const once = withResults(page, [stored(rebuild)]);
    expect(once).toMatch(/^before\n/);
    expect(once).toMatch(/\nafter\n$/);
    expect(once).not.toContain('old');
    expect(withResults(once, [stored(rebuild)])).toBe(once);
  });

  test('refuses a page without marks', () => {
    expect(() => withResults('nothing', [])).toThrow('the page has no');
  });
});
