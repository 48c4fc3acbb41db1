import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DiffId, digestOf, type HostPath, type ImagePath, type SnapshotId } from '../core/index.ts';
import type { FileFact, PrunableCache, StepQuery, TreeInput } from './contract.ts';
import { FactList, NO_FACTS } from './fact-list.ts';
import { type Child, startChild } from './fixtures/child.ts';
import { openStepCache } from './store.ts';

let root: HostPath;
let nowMs = 1_700_000_000_000;
const opened: PrunableCache[] = [];
const warnings: string[] = [];
const children: Child[] = [];

beforeEach(async () => {
  root = (await mkdtemp(join(tmpdir(), 'varve-store-'))) as HostPath;
  warnings.length = 0;
});

afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => child.kill()));
  for (const cache of opened.splice(0)) cache.close();
  await rm(root, { recursive: true });
});

function open(session = `session-${opened.length}`): PrunableCache {
  const cache = openStepCache({
    root,
    session,
    clock: () => nowMs++,
    onWarning: (message) => warnings.push(message),
  });
  opened.push(cache);
  return cache;
}

function start(command: string, session: string): Child {
  const child = startChild('store-process.ts', [command, root, session]);
  children.push(child);
  return child;
}

function diff(name: string): DiffId {
  return digestOf(name) as DiffId;
}

function fact(path: string, content = path, more: Partial<FileFact> = {}): FileFact {
  return {
    path: path as ImagePath,
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    digest: digestOf(content),
    ...more,
  };
}

function input(facts: readonly FileFact[], name = 'context'): TreeInput {
  const list = FactList.of(facts);
  return { name, digest: list.digest, facts: list };
}

function query(
  change: Partial<StepQuery> = {},
  definition: StepQuery['action']['definition'] = {},
): StepQuery {
  return {
    action: {
      version: 1,
      kind: 'RUN',
      definition: { command: 'make', environment: { A: '1' }, ...definition },
    },
    parent: digestOf('base') as string as SnapshotId,
    inputs: [input([fact('src/app.js'), fact('src/lib.js')])],
    slot: 'Dockerfile#1',
    ...change,
  };
}

describe('lookup and record', () => {
  it('misses what never ran, then hits what was recorded, also from another opening of the store', async () => {
    const cache = open();
    expect(await cache.lookup(query())).toMatchObject({ kind: 'miss', why: { reason: 'never-ran' } });
    const record = await cache.record(query(), {
      layer: { diffId: diff('a'), size: 1024 },
      durationMs: 12.5,
    });
    expect(await cache.lookup(query())).toEqual({ kind: 'hit', record });
    expect(await open().lookup(query())).toEqual({ kind: 'hit', record });
    expect(cache.usage()).toMatchObject([{ key: record.key, uses: 2, title: 'RUN make', diffId: diff('a') }]);
  });

  it('ignores the slot, and misses on another parent, action or input', async () => {
    const cache = open();
    await cache.record(query(), { durationMs: 1 });
    expect((await cache.lookup(query({ slot: 'other' }))).kind).toBe('hit');
    const parent = digestOf('other') as string as SnapshotId;
    for (const other of [query({ parent }), query({}, { user: '1' }), query({ inputs: [] })]) {
      expect((await cache.lookup(other)).kind).toBe('miss');
    }
  });

  it('says of an input without a listing, from another opening, that it changed', async () => {
    const whole = (text: string): TreeInput => ({ name: 'a stage', digest: digestOf(text), facts: NO_FACTS });
    await open().record(query({ inputs: [whole('one')] }), { durationMs: 1 });
    const cache = open();
    const { inputs } = query({ inputs: [whole('two')] });
    expect(await cache.lookup(query({ inputs }))).toMatchObject({
      why: { reason: 'field-changed', field: 'a stage' },
    });
    expect(warnings).toEqual([]);
    expect((await cache.lookup(query({ inputs: [whole('one')] }))).kind).toBe('hit');
  });

  it('replaces a record, and keeps a step that changed nothing without a diff', async () => {
    const cache = open();
    await cache.record(query(), { layer: { diffId: diff('a'), size: 1024 }, durationMs: 1 });
    const record = await cache.record(query(), { durationMs: 2 });
    expect('diffId' in record).toBe(false);
    expect(await cache.lookup(query())).toEqual({ kind: 'hit', record });
    expect(cache.usage().length).toBe(1);
  });

  it('keeps records that a process had written when it was killed', async () => {
    const child = start('record', 'killed');
    await child.said('recorded 20');
    await child.kill();
    const cache = open();
    expect(cache.usage().length).toBeGreaterThan(20);
    expect(cache.isAlive('killed')).toBe(false);
    expect(warnings).toEqual([]);
  });

  it('takes records from 4 processes at once', async () => {
    const all = Array.from({ length: 4 }, (_, at) => start('record', `p${at}`));
    await Promise.all(all.map((child) => child.said('recorded 50')));
    await Promise.all(all.map((child) => child.kill()));
    const titles = new Set(
      open()
        .usage()
        .map(({ title }) => title),
    );
    for (const session of ['p0', 'p1', 'p2', 'p3']) expect(titles).toContain(`RUN ${session} 50`);
  });
});

describe('knows and forget', () => {
  it('knows an action on whatever parent, until its last record is forgotten', async () => {
    const cache = open();
    expect(cache.knows(query().action)).toBe(false);
    const { key } = await cache.record(query(), { layer: { diffId: diff('a'), size: 1024 }, durationMs: 1 });
    expect(cache.knows(query().action)).toBe(true);
    expect(cache.knows(query({}, { user: '1' }).action)).toBe(false);
    cache.forget(key);
    expect(cache.knows(query().action)).toBe(false);
    expect(await cache.lookup(query())).toMatchObject({ kind: 'miss', key, why: { reason: 'evicted' } });
  });
});

describe('times, earlier and previous', () => {
  const layer = { diffId: diff('a'), size: 1024 };

  it('keeps when a layer came about and when its step ran, as they were given', async () => {
    const cache = open();
    const given = { layer, durationMs: 12.5, createdAtMs: 1000.25, ranAtMs: 2000.75 };
    const record = await cache.record(query(), given);
    expect(record).toMatchObject({ createdAtMs: 1000, ranAtMs: 2001, durationMs: 12.5 });
    expect(await open().lookup(query())).toEqual({ kind: 'hit', record });
    nowMs = 1_800_000_000_000;
    expect(await cache.record(query(), { durationMs: 1000.5 })).toMatchObject({
      createdAtMs: 1_800_000_000_000,
      ranAtMs: 1_800_000_000_000 - 1000,
    });
  });

  it('gives the earlier records of an action, on any parent and with any inputs, by when they ran', async () => {
    const cache = open();
    expect(cache.earlier(query().action, 5)).toEqual([]);
    const made = [];
    for (const [at, ranAtMs] of [30, 10, 20, 30].entries()) {
      const parent = digestOf(`${at}`) as string as SnapshotId;
      made.push(await cache.record(query({ parent, inputs: [] }), { layer, durationMs: 1, ranAtMs }));
    }
    await cache.record(query({}, { user: '1' }), { durationMs: 1 });
    const [first, second, third, last] = made;
    expect(cache.earlier(query().action, 9)).toEqual([last, first, third, second]);
    expect(open().earlier(query().action, 2)).toEqual([last, first]);
    expect(cache.earlier(query().action, 0)).toEqual([]);
  });

  it('gives the record that a slot came to last, until it is gone', async () => {
    const cache = open();
    expect(cache.previous('Dockerfile#1')).toBeUndefined();
    const first = await cache.record(query(), { layer, durationMs: 1 });
    const parent = digestOf('other') as string as SnapshotId;
    const second = await cache.record(query({ parent }), { durationMs: 1 });
    expect(cache.previous('Dockerfile#1')).toEqual(second);
    await cache.lookup(query());
    expect(open().previous('Dockerfile#1')).toEqual(first);
    expect(cache.previous('Dockerfile#2')).toBeUndefined();
    cache.forget(first.key);
    expect(cache.previous('Dockerfile#1')).toBeUndefined();
  });
});

describe('repeatable', () => {
  it('gives a step back with what it stood on and how its result came about', async () => {
    const cache = open();
    const standsOn = { diffs: [diff('base'), diff('top')], base: 1 };
    const asked = query();
    const record = await cache.record(asked, { durationMs: 1, title: 'RUN x', standsOn, origin: 'adopted' });
    expect(record.origin).toBe('adopted');
    expect(cache.repeatable(record.key)).toEqual({ record, title: 'RUN x', action: asked.action, standsOn });
  });

  it('knows nothing of a step that did not say what it stood on, nor of one that is not there', async () => {
    const cache = open();
    const { key } = await cache.record(query(), { durationMs: 1 });
    expect(cache.repeatable(key)).toBeUndefined();
    cache.forget(key);
    expect(cache.repeatable(key)).toBeUndefined();
  });
});

describe('the reason of a miss', () => {
  it('is the first file that differs from the last time that the step worked', async () => {
    const cache = open();
    const edited = query({ inputs: [input([fact('src/app.js', 'edited'), fact('src/new.js')])] });
    const why = {
      reason: 'file-changed',
      input: 'context',
      path: 'src/app.js',
      change: 'content',
      others: 2,
    };
    await cache.record(query(), { durationMs: 1 });
    expect(await cache.lookup(edited)).toMatchObject({ why });
    // The step failed: asked again, it is still the edit that made it run.
    expect(await open().lookup(edited)).toMatchObject({ why });
    await cache.record(edited, { durationMs: 1 });
    // A hit moves the slot too: compared with now is what was built last, not what ran last.
    expect((await cache.lookup(query())).kind).toBe('hit');
    expect(await cache.lookup(query({ inputs: [input([fact('src/app.js')])] }))).toMatchObject({
      why: { reason: 'file-changed', path: 'src/lib.js', change: 'removed', others: 0 },
    });
  });

  it('is read from the store by another process, and keeps only listings that a slot names', async () => {
    const cache = open();
    for (let at = 0; at < 5; at += 1) {
      await cache.record(query({ inputs: [input([fact('a', `${at}`)])] }), { durationMs: 1 });
    }
    expect(await open().lookup(query({ inputs: [input([fact('a', 'x')])] }))).toMatchObject({
      why: { reason: 'file-changed', path: 'a', change: 'content' },
    });
    using database = new DatabaseSync(join(root, 'varve.db'));
    expect(database.prepare('SELECT count(*) AS n FROM listings').get()).toEqual({ n: 1 });
  });
});

describe('hold and prune', () => {
  const images: ReadonlySet<DiffId> = new Set();

  function stored(...names: readonly string[]) {
    return names.map((name) => ({ diffId: diff(name), bytes: 10, createdAtMs: 0 }));
  }

  async function withRecords(...names: readonly string[]): Promise<void> {
    const cache = open('builder');
    for (const name of names) {
      await cache.record(query({ inputs: [], slot: name }, { command: name }), {
        layer: { diffId: diff(name), size: 1024 },
        durationMs: 1,
      });
    }
    cache.close();
  }

  it('removes the least recently used diffs and their records until the rest fits', async () => {
    await withRecords('a', 'b', 'c');
    const cache = open('reader');
    await cache.lookup(query({ inputs: [], slot: 'a' }, { command: 'a' }));
    cache.close();
    const removed: DiffId[] = [];
    const pruner = open('pruner');
    const request = { stored: stored('a', 'b', 'c'), images, limitBytes: 15 };
    const result = await pruner.prune(request, async (diffIds) => void removed.push(...diffIds));
    expect(result).toEqual({ records: 2, diffs: 2, bytes: 20 });
    expect(removed).toEqual([diff('b'), diff('c')]);
    expect(pruner.usage().map(({ title }) => title)).toEqual(['RUN a']);
  });

  it('keeps what a living process holds, until it is killed', async () => {
    await withRecords('shared', 'b');
    const child = start('hold', 'child');
    await child.said('holding');
    const pruner = open('pruner');
    expect(pruner.held()).toEqual(new Set([diff('shared')]));
    const request = { stored: stored('shared', 'b'), images, limitBytes: 0 };
    expect(await pruner.prune(request, async () => {})).toEqual({ records: 1, diffs: 1, bytes: 10 });
    await child.kill();
    expect(await pruner.prune({ ...request, stored: stored('shared') }, async () => {})).toEqual({
      records: 1,
      diffs: 1,
      bytes: 10,
    });
    expect(readdirSync(join(root, 'sessions'))).toEqual(['pruner.lock']);
  });

  it('holds the diff of a hit before it tells of it', async () => {
    await withRecords('a');
    const cache = open('reader');
    await cache.lookup(query({ inputs: [], slot: 'a' }, { command: 'a' }));
    const request = { stored: stored('a'), images, limitBytes: 0, usedBeforeMs: Number.POSITIVE_INFINITY };
    expect(await open('pruner').prune(request, async () => {})).toEqual({ records: 0, diffs: 0, bytes: 0 });
  });

  it('leaves a diff that was held after it was chosen', async () => {
    await withRecords('a', 'b');
    const builder = open('late');
    const { signal } = new AbortController();
    // The pruner looks at the signal between its choice and each removal.
    signal.throwIfAborted = () => builder.hold([diff('b')]);
    const request = { stored: stored('a', 'b'), images, limitBytes: 0 };
    const removed: DiffId[] = [];
    const pruner = open('pruner');
    const result = await pruner.prune(request, async (diffIds) => void removed.push(...diffIds), signal);
    expect(removed).toEqual([diff('a')]);
    expect(result).toEqual({ records: 1, diffs: 1, bytes: 10 });
    expect(pruner.usage().map(({ title }) => title)).toEqual(['RUN b']);
  });

  it('keeps the records of a diff whose removal failed', async () => {
    await withRecords('a');
    const cache = open();
    const request = { stored: stored('a'), images, limitBytes: 0 };
    await expect(cache.prune(request, () => Promise.reject(new Error('disk')))).rejects.toThrow('disk');
    expect(cache.usage().length).toBe(1);
    expect(await cache.prune(request, async () => {})).toMatchObject({ records: 1 });
  });

  it('never lets a diff vanish that a builder found while holding it', async () => {
    const builders = [start('build', 'b1'), start('build', 'b2')];
    const lines = Promise.all(builders.map((child) => child.lines));
    let running = true;
    let pruned = 0;
    const end = lines.finally(() => {
      running = false;
    });
    const pruner = open('pruner');
    const request = { stored: stored('shared'), images, limitBytes: 0 };
    while (running) {
      pruned += (await pruner.prune(request, () => rm(join(root, 'diff'), { force: true }))).records;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    expect((await end).flat()).toEqual(['hits true', 'hits true']);
    expect(pruned).toBeGreaterThan(1);
  });

  it('removes nothing while a living process has not told a new database what it holds', async () => {
    const child = start('hold', 'child');
    await child.said('holding');
    await rm(join(root, 'varve.db'));
    await withRecords('shared');
    const request = { stored: stored('shared'), images, limitBytes: 0 };
    expect(await open('pruner').prune(request, async () => {})).toEqual({ records: 0, diffs: 0, bytes: 0 });
    expect(warnings.join()).toContain('child');
  });

  it('refuses other calls while it runs, and after close', async () => {
    await withRecords('a');
    const cache = open();
    await cache.prune({ stored: stored('a'), images, limitBytes: 0 }, async () => {
      expect(() => cache.hold([diff('a')])).toThrow('pruning');
    });
    cache.close();
    expect(() => cache.knows(query().action)).toThrow('closed');
  });
});

describe.skipIf(process.getuid?.() !== 0)('on a full disk (needs root)', () => {
  let disk: HostPath;

  beforeEach(async () => {
    disk = join(root, 'disk') as HostPath;
    await mkdir(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', disk]);
  });

  afterEach(() => execFileSync('umount', [disk]));

  it('record says so, and the store is as it was when there is room again', async () => {
    const cache = openStepCache({ root: disk, session: 's', clock: () => nowMs++ });
    const before = await cache.record(query(), { durationMs: 1 });
    const filler = join(disk, 'filler');
    expect(() => writeFileSync(filler, Buffer.alloc(1024 * 1024))).toThrow('ENOSPC');
    const noise = Array.from({ length: 2000 }, (_, at) => fact(`f${at}`));
    const large = query({ inputs: [input(noise)] });
    const many = Array.from({ length: 20_000 }, (_, at) => diff(`${at}`));
    expect(() => cache.hold(many)).toThrow(expect.objectContaining({ code: 'disk-full' }));
    await expect(cache.record(large, { durationMs: 1 })).rejects.toMatchObject({ code: 'disk-full' });
    await rm(filler);
    expect(cache.held()).toEqual(new Set());
    cache.hold(many.slice(0, 2));
    expect(cache.held().size).toBe(2);
    expect(await cache.lookup(query())).toEqual({ kind: 'hit', record: before });
    expect((await cache.lookup(large)).kind).toBe('miss');
    await cache.record(large, { durationMs: 1 });
    expect((await cache.lookup(large)).kind).toBe('hit');
    cache.close();
  });

  it('openStepCache says so', async () => {
    expect(() => writeFileSync(join(disk, 'filler'), Buffer.alloc(1024 * 1024))).toThrow('ENOSPC');
    expect(() => openStepCache({ root: disk, session: 's', clock: () => 0 })).toThrow(
      expect.objectContaining({ name: 'MachineError', code: 'disk-full' }),
    );
  });
});

describe('openStepCache', () => {
  it('sets a damaged database aside and begins a new one', async () => {
    open('first').close();
    for (const damage of [
      Buffer.from('no database at all, but long enough to be one'.repeat(100)),
      Buffer.alloc(5000, 1),
    ]) {
      await writeFile(join(root, 'varve.db'), damage);
      warnings.length = 0;
      const cache = open('second');
      expect(warnings.length).toBe(1);
      expect(await readFile(join(root, 'varve.db.corrupt'))).toEqual(damage);
      await cache.record(query(), { durationMs: 1 });
      expect((await cache.lookup(query())).kind).toBe('hit');
      cache.close();
    }
  });

  it('has no false hit and no error in a truncated database, also when that shows only while it is used', async () => {
    const writer = open('writer');
    for (let at = 0; at < 200; at += 1) {
      await writer.record(query({ slot: `${at}` }, { n: at }), {
        layer: { diffId: diff(`${at}`), size: 1024 },
        durationMs: 1,
      });
    }
    writer.close();
    const whole = await readFile(join(root, 'varve.db'));
    for (const length of [0, 1, 100, 4096, 8192, whole.length / 2, whole.length - 4096]) {
      await writeFile(join(root, 'varve.db'), whole.subarray(0, length));
      const cache = open('reader');
      for (let at = 0; at < 200; at += 1) {
        const found = await cache.lookup(query({ slot: `${at}` }, { n: at }));
        if (found.kind === 'hit') expect(found.record.diffId).toBe(diff(`${at}`));
      }
      await cache.record(query(), { durationMs: 1 });
      expect((await cache.lookup(query())).kind).toBe('hit');
      cache.close();
      if (length >= 4096 && length <= whole.length / 2) expect(warnings.length).toBe(1);
      warnings.length = 0;
    }
  });

  it('goes on with what it holds when another process replaced the database', async () => {
    const cache = open('old');
    cache.hold([diff('a')]);
    for (const suffix of ['', '-wal', '-shm']) await rm(join(root, `varve.db${suffix}`), { force: true });
    const other = open('new');
    expect(other.held()).toEqual(new Set());
    expect((await cache.lookup(query())).kind).toBe('miss');
    expect(other.held()).toEqual(new Set([diff('a')]));
  });

  it('leaves the store of a newer varve as it is', async () => {
    open('first').close();
    const database = new DatabaseSync(join(root, 'varve.db'));
    database.exec('PRAGMA user_version = 99');
    database.close();
    const before = await readFile(join(root, 'varve.db'));
    expect(() => open('second')).toThrow(
      expect.objectContaining({
        code: 'store-newer',
        message: expect.stringContaining('99'),
        hint: expect.stringContaining('--root'),
      }),
    );
    expect(await readFile(join(root, 'varve.db'))).toEqual(before);
    expect(readdirSync(join(root, 'sessions'))).toEqual([]);
  });

  it('makes the folder private, and names it where that cannot be done', async () => {
    const inner = join(root, 'a', 'b') as HostPath;
    openStepCache({ root: inner, session: 's', clock: () => 0 }).close();
    expect(statSync(inner).mode & 0o777).toBe(0o700);
    expect(statSync(join(inner, 'varve.db')).mode & 0o777).toBe(0o600);
    await mkdir(join(root, 'file'));
    await writeFile(join(root, 'file', 'x'), '');
    expect(() =>
      openStepCache({ root: join(root, 'file', 'x') as HostPath, session: 's', clock: () => 0 }),
    ).toThrow(expect.objectContaining({ code: 'store-io' }));
  });

  it('refuses names of sessions that would leave the folder', () => {
    for (const session of ['', '..', 'a/b', '../x'])
      expect(() => open(session)).toThrow('no name of a session');
    expect(existsSync(join(root, 'x.lock'))).toBe(false);
  });
});
