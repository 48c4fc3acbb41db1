import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chainId, type DiffId, digestOf, type SnapshotId, type StepKey } from '../core/index.ts';
import type { RecordUsage } from './contract.ts';
import { type EvictionInput, selectVictims } from './evict.ts';

function diff(name: string): DiffId {
  return digestOf(name) as DiffId;
}

function record(name: string, lastUsedAtMs: number, more: Partial<RecordUsage> = {}): RecordUsage {
  const key = name as StepKey;
  const times = { createdAtMs: 0, lastUsedAtMs, uses: 0, durationMs: 1 };
  return { key, diffId: diff(name), kind: 'RUN', title: name, ...times, ...more };
}

function stored(bytes: Readonly<Record<string, number>>): EvictionInput['stored'] {
  return Object.entries(bytes).map(([name, size]) => ({ diffId: diff(name), bytes: size, createdAtMs: 5 }));
}

function select(change: Partial<EvictionInput>): readonly string[] {
  const none: ReadonlySet<DiffId> = new Set();
  const input = { stored: [], records: [], held: none, images: none, limitBytes: 0, ...change };
  return selectVictims(input).map(({ keys, diffId }) => keys.join('+') || `orphan ${diffId}`);
}

describe('selectVictims', () => {
  it('takes the least recently used until the rest fits the limit, and no more', () => {
    const input = {
      stored: stored({ a: 10, b: 10, c: 10 }),
      records: [record('b', 2), record('c', 3), record('a', 1)],
    };
    expect(select({ ...input, limitBytes: 30 })).toEqual([]);
    expect(select({ ...input, limitBytes: 29 })).toEqual(['a']);
    expect(select({ ...input, limitBytes: 10 })).toEqual(['a', 'b']);
    expect(select({ ...input, limitBytes: 0 })).toEqual(['a', 'b', 'c']);
  });

  it('never takes what is held or belongs to an image, and does not weigh images', () => {
    const input = {
      stored: stored({ a: 10, b: 10, c: 10 }),
      records: [record('a', 1), record('b', 2), record('c', 3)],
    };
    expect(select({ ...input, held: new Set([diff('a')]) })).toEqual(['b', 'c']);
    expect(select({ ...input, images: new Set([diff('a')]), limitBytes: 20 })).toEqual([]);
    const all = {
      held: new Set([diff('a')]),
      images: new Set([diff('b')]),
      usedBeforeMs: Number.POSITIVE_INFINITY,
    };
    expect(select({ ...input, ...all })).toEqual(['c']);
  });

  it('takes a diff with all records that name it, as used as the last used of them', () => {
    const other = record('other', 9, { diffId: diff('a') });
    const input = { stored: stored({ a: 10, b: 10 }), records: [record('a', 1), record('b', 2), other] };
    expect(select({ ...input, limitBytes: 10 })).toEqual(['b']);
    expect(select({ ...input, limitBytes: 0 })).toEqual(['b', 'a+other']);
  });

  it('takes a step on top before the steps that it stands on', () => {
    const base = digestOf('base') as string as SnapshotId;
    const one = chainId(base, diff('one'));
    const two = chainId(one, diff('two'));
    const records = [
      record('one', 1, { parent: base }),
      record('two', 2, { parent: one }),
      record('three', 3, { parent: two }),
      record('apart', 2.5, { parent: base }),
    ];
    const input = { stored: stored({ one: 1, two: 1, three: 1, apart: 1 }), records };
    expect(select(input)).toEqual(['apart', 'three', 'two', 'one']);
    // A step that changed nothing lies between.
    const empty = {
      key: 'empty' as StepKey,
      kind: 'RUN',
      title: '',
      parent: one,
      createdAtMs: 0,
      uses: 0,
      durationMs: 0,
    } as const;
    expect(select({ ...input, records: [...records, { ...empty, lastUsedAtMs: 1 }] })).toEqual([
      'apart',
      'three',
      'two',
      'one',
    ]);
  });

  it('takes diffs that no record names by the time when they were made', () => {
    const input = {
      stored: stored({ lost: 10, a: 10, b: 10 }),
      records: [record('a', 1), record('b', 9)],
      limitBytes: 10,
    };
    expect(select(input)).toEqual(['a', `orphan ${diff('lost')}`]);
  });

  it('takes all that was last used before a moment, whatever the limit', () => {
    const empty = {
      key: 'empty' as StepKey,
      kind: 'RUN',
      title: '',
      createdAtMs: 0,
      uses: 0,
      durationMs: 0,
    } as const;
    const records = [record('a', 1), record('b', 5), { ...empty, lastUsedAtMs: 2 }];
    const input = { stored: stored({ a: 10, b: 10 }), records, limitBytes: 1000 };
    expect(select({ ...input, usedBeforeMs: 5 })).toEqual(['a', 'empty']);
    expect(select({ ...input, usedBeforeMs: Number.POSITIVE_INFINITY })).toEqual(['a', 'empty', 'b']);
  });

  it('chooses in a moment from a stack of 5000 steps', () => {
    let parent: SnapshotId | undefined;
    const records: RecordUsage[] = [];
    for (let at = 0; at < 5000; at += 1) {
      records.push(record(`${at}`, at, parent === undefined ? {} : { parent }));
      parent = chainId(parent, diff(`${at}`));
    }
    const sizes = Object.fromEntries(records.map(({ key }) => [key, 1]));
    expect(select({ stored: stored(sizes), records, limitBytes: 4999 })).toEqual(['4999']);
  });

  it('fits the limit with what may go, and every victim was needed', () => {
    const names = fc.uniqueArray(fc.constantFrom(...'abcdefgh'), { minLength: 1 });
    const item = fc.record({ bytes: fc.nat(50), used: fc.nat(9), held: fc.boolean(), image: fc.boolean() });
    fc.assert(
      fc.property(
        names,
        fc.array(item, { minLength: 8, maxLength: 8 }),
        fc.nat(200),
        (list, items, limitBytes) => {
          const of = (name: string) =>
            items[list.indexOf(name)] ?? { bytes: 0, used: 0, held: false, image: false };
          const held = new Set(list.filter((name) => of(name).held).map(diff));
          const images = new Set(list.filter((name) => of(name).image).map(diff));
          const input = {
            stored: stored(Object.fromEntries(list.map((name) => [name, of(name).bytes]))),
            records: list.map((name) => record(name, of(name).used)),
            ...{ held, images, limitBytes },
          };
          const gone = new Set(select(input));
          const weight = (kept: (name: string) => boolean) =>
            list
              .filter((name) => !of(name).image && kept(name))
              .reduce((sum, name) => sum + of(name).bytes, 0);
          for (const name of gone) expect(of(name).held || of(name).image).toBe(false);
          const left = weight((name) => !gone.has(name));
          const free = list.some(
            (name) => !gone.has(name) && !of(name).held && !of(name).image && of(name).bytes > 0,
          );
          if (free) expect(left).toBeLessThanOrEqual(limitBytes);
          const last = [...gone].at(-1);
          if (last !== undefined) expect(left + of(last).bytes).toBeGreaterThan(limitBytes);
        },
      ),
    );
  });
});
