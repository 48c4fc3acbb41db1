import { describe, expect, test } from 'vitest';
import { isMet, judge, type Limit, type Measured } from './judge.ts';

const measured: Measured = {
  builders: [
    { name: 'varve', ms: [100, 110, 300] },
    { name: 'docker.io', ms: [200, 220, 600] },
    { name: 'buildah', ms: [1000, 100, 3000] },
  ],
  floors: [{ name: 'floor', ms: [50, 55, 60] }],
};

function judged(limit: Limit): { readonly median: number | undefined; readonly isMet: boolean | undefined } {
  const [judgement] = judge(measured, [limit]);
  return { median: judgement?.found.median, isMet: judgement && isMet(judgement) };
}

describe('judge', () => {
  test('compares with the peer that varve is least ahead of, round by round', () => {
    expect(judge(measured, [{ kind: 'ratio', most: 0.5 }])).toMatchObject([
      { beside: 'docker.io', found: { median: 0.5, count: 3 } },
    ]);
    expect(judged({ kind: 'ratio', most: 0.5 }).isMet).toBe(true);
    expect(judged({ kind: 'ratio', most: 0.49 }).isMet).toBe(false);
  });

  test('compares with a floor, by what is added or how many times it is', () => {
    expect(judged({ kind: 'above', floor: 'floor', most: 60 })).toEqual({ median: 55, isMet: true });
    expect(judged({ kind: 'times', floor: 'floor', most: 1.9 })).toEqual({ median: 2, isMet: false });
  });

  test('takes the whole time, or its share of each step', () => {
    expect(judged({ kind: 'wall', most: 110 })).toEqual({ median: 110, isMet: true });
    expect(judged({ kind: 'step', steps: 20, most: 5 })).toEqual({ median: 5.5, isMet: false });
  });

  test('says nothing where there is nobody to compare with', () => {
    const alone = { ...measured, builders: measured.builders.slice(0, 1), floors: [] };
    const limits: readonly Limit[] = [
      { kind: 'ratio', most: 1 },
      { kind: 'above', floor: 'floor', most: 1 },
    ];
    expect(judge(alone, limits)).toEqual([]);
  });
});
