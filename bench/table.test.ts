import { describe, expect, test } from 'vitest';
import { judge, ratiosOf } from './judge.ts';
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

const measured = {
  builders: [
    { name: 'varve', version: '1', ms: [100] },
    { name: 'docker.io', version: '2', ms: [400] },
  ],
  floors: [{ name: 'find', ms: [30.25] }],
} as const;

const beside: Result = {
  kind: 'beside',
  workload: 'beside',
  title: 'nothing changed',
  seed: 1,
  ...measured,
  missing: [{ name: 'buildah', reason: 'is not here' }],
  ratios: ratiosOf(measured),
  judgements: judge(measured, [
    { kind: 'ratio', most: 0.3 },
    { kind: 'above', floor: 'find', most: 60 },
    { kind: 'step', steps: 10, most: 15 },
  ]),
};

function growth(lastMs: number, peakMiB = 100): Result {
  const build = (ms: number) => ({ name: 'cold', ms, peakMiB, sumOfPeaksMiB: 120 }) as const;
  const points = [
    { size: 1000, builds: [build(200)] },
    { size: 10_000, builds: [build(lastMs)] },
  ];
  const limits = { limit: 1.1, mostMiB: 300 };
  return {
    kind: 'growth',
    workload: 'growth',
    title: 'files',
    unit: 'files',
    points,
    skipped: [100_000],
    ...limits,
  };
}

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
    expect(isWithinLimit(beside)).toBe(false);
  });

  test('lets time grow in proportion to the size, and memory not at all', () => {
    expect(isWithinLimit(growth(2000))).toBe(true);
    expect(isWithinLimit(growth(3000))).toBe(false);
    expect(isWithinLimit(growth(2000, 301))).toBe(false);
  });
});

describe('renderResults', () => {
  test('says of each figure what it is and whether its limit is met', () => {
    expect(
      renderResults([tracing(1.06), rebuild, beside, growth(3000), observations].map(stored)),
    ).toMatchInlineSnapshot(`
      "| workload | untraced | traced | wall time | step alone | processor time | limit |  |
      | --- | --- | --- | --- | --- | --- | --- | --- |
      | work | 1.00 s | 1.06 s | +6.0 % (+6.0 % to +6.0 %) | +0.0 % (+0.0 % to +0.0 %) | +2.0 % (+2.0 % to +2.0 %) | ≤ 5 % | **missed** |

      | builder | first build | after an edit | varve takes | limit |  |
      | --- | --- | --- | --- | --- | --- |
      | varve 1 | 9.00 s | 0.50 s |  |  |  |
      | other 2 | 9.00 s | 10.00 s | 0.050 of it | ≤ 0.1 | met |
      | third | does not start here |  |  |  | not measured |

      | workload | varve | docker.io | buildah | floors | found | limit |  |
      | --- | --- | --- | --- | --- | --- | --- | --- |
      | nothing changed | 100 ms | 400 ms | not here | \`find\` 30 ms | 0.25 of docker.io | ≤ 0.3 | met |
      |  |  |  |  |  | 70 ms above \`find\` | ≤ 60 ms | **missed** |
      |  |  |  |  |  | 10 ms | ≤ 15 ms a step | met |

      | layer | size | build | time | a unit | memory | limit |  |
      | --- | --- | --- | --- | --- | --- | --- | --- |
      | files | 1,000 files | cold | 200 ms | 200 µs | 100 MiB | ≤ 300 MiB | met |
      | files | 10,000 files | cold | 3.00 s, grows by size^1.18 | 300 µs | 100 MiB | ≤ 300 MiB, ≤ size^1.1 | **missed** |
      | files | 100000 files |  |  |  |  |  | no room |

      | step | paths | bytes | bytes a path | limit |  |
      | --- | --- | --- | --- | --- | --- |
      | many | 10 | 1000 | 100.0 | < 100 | **missed** |

      Measured on Processor (2 processors, 4 GiB), Linux 6.1, System 1, Node 26.0.0, on 2030-01-02: w, rebuild, beside, growth, observations.
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
