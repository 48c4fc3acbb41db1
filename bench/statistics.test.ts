import { describe, expect, test } from 'vitest';
import { seededRandom, shuffled, summarise } from './statistics.ts';

describe('summarise', () => {
  test('takes the middle value, whatever the order', () => {
    expect(summarise([9, 1, 5])).toEqual({ median: 5, low: 3, high: 7, count: 3 });
  });

  test('lies between the two in the middle of an even number', () => {
    expect(summarise([4, 1, 2, 3]).median).toBe(2.5);
  });

  test('refuses to sum up nothing', () => {
    expect(() => summarise([])).toThrow('no values');
  });
});

describe('shuffled', () => {
  test('keeps every value, and gives the same order for the same seed only', () => {
    const values = Array.from({ length: 20 }, (_, i) => i);
    const once = shuffled(values, seededRandom(1));
    expect(once.toSorted((a, b) => a - b)).toEqual(values);
    expect(shuffled(values, seededRandom(1))).toEqual(once);
    expect(shuffled(values, seededRandom(2))).not.toEqual(once);
  });

  test('puts either of two first about as often', () => {
    const random = seededRandom(7);
    const firsts = Array.from({ length: 1000 }, () => shuffled(['a', 'b'], random)[0]);
    const share = firsts.filter((first) => first === 'a').length / firsts.length;
    expect(share).toBeGreaterThan(0.45);
    expect(share).toBeLessThan(0.55);
  });
});
