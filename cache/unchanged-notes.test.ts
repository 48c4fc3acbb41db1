import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DiffId, digestHex, digestOf, type HostPath, type StepKey } from '../core/index.ts';
import type { BuildReport, PrunableCache, StepQuery } from './contract.ts';
import { openStepCache } from './store.ts';
import { UnchangedNotes } from './unchanged-notes.ts';

let root: HostPath;
let nowMs: number;
let cache: PrunableCache;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'varve-notes-')) as HostPath;
  nowMs = 1_700_000_000_000;
  cache = open();
  reopen();
});

afterEach(() => {
  cache.close();
  rmSync(root, { recursive: true });
});

let sessions = 0;
function open(): PrunableCache {
  sessions += 1;
  return openStepCache({ root, session: `s${sessions}`, clock: () => nowMs++ });
}

/** Another process, which finds what is there. */
function reopen(): void {
  cache.close();
  cache = open();
}

function query(command: string): StepQuery {
  return {
    action: { version: 1, kind: 'RUN', definition: { command } },
    parent: undefined,
    inputs: [],
    slot: 'slot',
  };
}

const record = (command: string) => cache.record(query(command), { durationMs: 1 });

function report(id: string): BuildReport {
  const at = { startedAtMs: nowMs, finishedAtMs: nowMs };
  return { id, ...at, dockerfile: 'D', context: '', target: '', ok: true, steps: [] };
}

/** Leaves a note, named by `call`, of a build that used the record `key`. */
function note(call: string, key: StepKey): void {
  cache.noteUnchanged(
    {
      head: { notedAtMs: nowMs, report: report(call), uses: [{ key, slot: 'slot' }] },
      call: Buffer.from(nameOf(call), 'hex'),
      boot: '',
      store: [],
      host: [],
      output: [],
    },
    root,
  );
}

const nameOf = (call: string) => digestHex(digestOf(call));
const fileOf = (call: string) => join(root, 'unchanged', nameOf(call));
const notes = () => readdirSync(join(root, 'unchanged')).length;
const generation = () => readFileSync(join(root, 'generation'), 'latin1');

/** As the native program does. */
function use(call: string): number {
  nowMs += 60_000;
  utimesSync(fileOf(call), nowMs / 1000, nowMs / 1000);
  return nowMs;
}

describe('a note that was used', () => {
  it('stands in the log where its use was, and counts as a use of its records', async () => {
    const { key } = await record('make');
    note('a', key);
    cache.builds.save(report('b'));
    expect(cache.builds.load()?.id).toBe('b');
    const at = use('a');
    expect(cache.builds.load()).toMatchObject({ id: 'a', startedAtMs: at, finishedAtMs: at });
    expect(cache.usage().find((one) => one.key === key)?.lastUsedAtMs).toBe(at);
    nowMs += 1000;
    cache.builds.save(report('c'));
    expect(cache.builds.list(9).map(({ id }) => id)).toEqual(['c', 'a', 'b']);
    use('a');
    nowMs += 1000;
    cache.builds.save(report('d'));
    expect(cache.builds.list(9).map(({ id }) => id)).toEqual(['d', 'a', 'c', 'b']);
  });

  it('has its slots compared with it again', async () => {
    const { key } = await record('make');
    note('a', key);
    await record('make other');
    use('a');
    nowMs += 1000;
    cache.builds.list(1);
    const missed = await cache.lookup(query('make third'));
    expect(missed).toMatchObject({
      kind: 'miss',
      why: { field: 'command', before: 'make', after: 'make third' },
    });
  });
});

describe('noteUnchanged', () => {
  it('does nothing once a record was taken away or replaced since the store was opened', async () => {
    const { key } = await record('make');
    const { key: other } = await record('other');
    note('a', key);
    expect(notes()).toBe(1);
    const before = generation();
    await record('third');
    expect(generation()).toBe(before);
    await record('make');
    expect(generation()).not.toBe(before);
    note('b', key);
    expect(notes()).toBe(1);
    reopen();
    note('b', key);
    expect(notes()).toBe(2);
    cache.forget(other);
    note('c', key);
    expect(notes()).toBe(2);
  });

  it('does nothing after a prune, which takes all notes away, or after a sweep', async () => {
    const { key } = await record('make');
    note('a', key);
    const noDiffs = { stored: [], images: new Set<DiffId>(), limitBytes: 0 };
    await cache.prune({ ...noDiffs, usedBeforeMs: 0 }, async () => {});
    expect(notes()).toBe(0);
    note('a', key);
    expect(notes()).toBe(0);
    reopen();
    cache.sweep();
    note('a', key);
    expect(notes()).toBe(0);
  });

  it('counts a generation that is torn as none', async () => {
    const { key } = await record('make');
    writeFileSync(join(root, 'generation'), '0123');
    note('a', key);
    expect(() => notes()).toThrow('ENOENT');
    reopen();
    expect(generation()).toMatch(/^[0-9a-f]{32}$/);
  });
});

describe('UnchangedNotes', () => {
  it('keeps the 64 that were used last, and passes over what is no note', async () => {
    const { key } = await record('make');
    for (let number = 0; number < 70; number += 1) {
      note(`${number}`, key);
      nowMs += 1000;
    }
    expect(notes()).toBe(64);
    writeFileSync(join(root, 'unchanged', nameOf('x')), 'varvsame');
    expect(new UnchangedNotes(root).uses(0)).toEqual([]);
  });

  it('passes over a note that is cut, or has one wrong bit', async () => {
    const { key } = await record('make');
    note('a', key);
    use('a');
    const whole = readFileSync(fileOf('a'));
    const found = (bytes: Uint8Array): number => {
      writeFileSync(fileOf('a'), bytes);
      return new UnchangedNotes(root).uses(0).length;
    };
    expect(found(whole)).toBe(1);
    for (let at = 0; at < whole.length; at += 1) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8(damaged.readUInt8(at) ^ (1 << (at % 8)), at);
      expect(found(damaged)).toBe(0);
      expect(found(whole.subarray(0, at))).toBe(0);
    }
  });
});
