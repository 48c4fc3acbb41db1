import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import xxhash from 'xxhash-wasm';
import {
  type Digest,
  digestOf,
  type FileLooks,
  fsPath,
  type HostPath,
  type ImagePath,
  type LookedFile,
  rowOf,
  type StatRow,
} from '../core/index.ts';
import type { FileIndex } from './contract.ts';
import { type DigestFile, fileDigester } from './file-digest.ts';
import { type FileIndexOptions, marker, openFileIndex, SETTLED_MS } from './file-index.ts';
import { decodeIndex, encodeIndex, indexName } from './index-format.ts';
import { type IndexEntry, IndexTable } from './index-table.ts';

const HOUR_MS = 3_600_000;

let root: HostPath;
let context: HostPath;
let reads: string[];
const digester = fileDigester();

const counted: DigestFile = (file, size) => {
  reads.push(file.slice(context.length + 1));
  return digester(file, size);
};

beforeEach(async () => {
  root = (await mkdtemp(join(tmpdir(), 'varve-index-'))) as HostPath;
  context = join(root, 'context') as HostPath;
  await mkdir(context);
  reads = [];
});

afterEach(() => rm(root, { recursive: true }));

/** An index for which every file written so far is old, unless told otherwise. */
function openIndex(options: Partial<FileIndexOptions> = {}): Promise<FileIndex> {
  const temporary = join(options.root ?? root, 'tmp') as HostPath;
  mkdirSync(temporary, { recursive: true });
  const clock = () => Date.now() + HOUR_MS;
  return openFileIndex({ root, temporary, context, clock, digestFile: counted, ...options });
}

function ask(index: FileIndex, name: string): Promise<Digest> {
  return index.digest(name as ImagePath, rowFor(name));
}

function rowFor(name: string): StatRow {
  return rowOf(lstatSync(fsPath(join(context, name)), { bigint: true }));
}

function put(name: string, content: string): void {
  writeFileSync(fsPath(`${context}/${name}`), content);
}

function indexFile(): string {
  return join(root, 'index', indexName(context));
}

/** What an index file remembers; undefined where it is not one of the context's. */
function entriesIn(bytes: Buffer): ReadonlyMap<string, IndexEntry> | undefined {
  const table = decodeIndex(context, bytes);
  return table === undefined ? undefined : new Map(table);
}

function tableOf(entries: Iterable<readonly [string, IndexEntry]>): IndexTable {
  const table = new IndexTable();
  for (const [path, { mark, digest }] of entries) table.set(path, mark, digest);
  return table;
}

describe('FileIndex.digest', () => {
  it('reads a settled file once, in this index and in the next one after save', async () => {
    put('a', 'one');
    const index = await openIndex();
    expect(await ask(index, 'a')).toBe(digestOf('one'));
    expect(await ask(index, 'a')).toBe(digestOf('one'));
    await index.save();
    expect(await ask(await openIndex(), 'a')).toBe(digestOf('one'));
    expect(reads).toEqual(['a']);
  });

  it('reads again after each kind of change that its times, size, mode or inode show', async () => {
    put('a', 'one');
    const index = await openIndex();
    await ask(index, 'a');
    put('a', 'two');
    expect(await ask(index, 'a')).toBe(digestOf('two'));
    // Same size and same mtime as before: the change time tells.
    const { atime, mtime } = statSync(join(context, 'a'));
    put('a', 'six');
    utimesSync(join(context, 'a'), atime, mtime);
    expect(await ask(index, 'a')).toBe(digestOf('six'));
    put('b', 'ten');
    renameSync(join(context, 'b'), join(context, 'a'));
    expect(await ask(index, 'a')).toBe(digestOf('ten'));
    chmodSync(join(context, 'a'), 0o600);
    await ask(index, 'a');
    expect(reads.length).toBe(5);
  });

  it('never trusts a file that is young, or from the future as after a clock was set back', async () => {
    put('a', 'one');
    for (const shift of [0, SETTLED_MS - 500, -HOUR_MS]) {
      reads = [];
      const index = await openIndex({ clock: () => Date.now() + shift });
      await ask(index, 'a');
      await ask(index, 'a');
      await index.save();
      expect(reads).toEqual(['a', 'a']);
    }
    utimesSync(join(context, 'a'), 2_000_000_000, 2_000_000_000);
    const index = await openIndex();
    await ask(index, 'a');
    reads = [];
    await ask(index, 'a');
    expect(reads).toEqual(['a']);
  });

  it('does not believe a remembered file whose times are in the future now that the clock was set back', async () => {
    put('a', 'one');
    let shift = HOUR_MS;
    const index = await openIndex({ clock: () => Date.now() + shift });
    await ask(index, 'a');
    shift = -HOUR_MS;
    await ask(index, 'a');
    expect(reads).toEqual(['a', 'a']);
  });

  it('drops a remembered file when it is found young', async () => {
    put('a', 'one');
    let shift = HOUR_MS;
    const index = await openIndex({ clock: () => Date.now() + shift });
    await ask(index, 'a');
    await index.save();
    shift = 0;
    put('a', 'two');
    await ask(index, 'a');
    await index.save();
    expect(entriesIn(await readFile(indexFile()))?.size).toBe(0);
  });

  it('reads again when the file changes while it is read, and gives up after three readings', async () => {
    put('a', 'one');
    let changes = 2;
    const meddling: DigestFile = async (file, size) => {
      const digest = await counted(file, size);
      if (changes > 0) appendFileSync(file, '!');
      changes -= 1;
      return digest;
    };
    expect(await ask(await openIndex({ digestFile: meddling }), 'a')).toBe(digestOf('one!!'));
    expect(reads.length).toBe(3);
    changes = 3;
    await expect(ask(await openIndex({ digestFile: meddling }), 'a')).rejects.toMatchObject({
      name: 'MachineError',
      code: 'file-changing',
    });
  });

  it('takes the stat tuple from the file, not from a stale one that it is given', async () => {
    put('a', 'one');
    const stale = rowFor('a');
    put('a', 'longer');
    const index = await openIndex();
    expect(await index.digest('a' as ImagePath, stale)).toBe(digestOf('longer'));
    expect(await ask(index, 'a')).toBe(digestOf('longer'));
    expect(reads).toEqual(['a', 'a']);
  });

  it('reads a file once for callers that ask at the same time', async () => {
    put('a', 'one');
    const index = await openIndex();
    const digests = await Promise.all([ask(index, 'a'), ask(index, 'a'), ask(index, 'a')]);
    expect(new Set(digests)).toEqual(new Set([digestOf('one')]));
    expect(reads).toEqual(['a']);
  });

  it('does not follow a symlink that took the place of the file, nor wait for a pipe, nor read a folder', async () => {
    put('secret', 'outside');
    for (const place of [
      () => symlink('secret', join(context, 'a')),
      () => execFileSync('mkfifo', [join(context, 'a')]),
      () => mkdir(join(context, 'a')),
    ]) {
      put('a', 'one');
      const row = rowFor('a');
      await rm(join(context, 'a'));
      await place();
      const index = await openIndex();
      const asked = index.digest('a' as ImagePath, row);
      await expect(asked).rejects.toMatchObject({ code: 'file-changing' });
      await rm(join(context, 'a'), { recursive: true });
    }
  });

  it('names a file that vanished', async () => {
    put('a', 'one');
    const row = rowFor('a');
    await rm(join(context, 'a'));
    const index = await openIndex();
    await expect(index.digest('a' as ImagePath, row)).rejects.toMatchObject({
      code: 'file-vanished',
    });
  });

  it('digests small, large and empty files and odd names right', async () => {
    const names = {
      empty: '',
      edge: 'x'.repeat(256 * 1024),
      large: 'y'.repeat(3 * 1024 * 1024 + 1),
      'bad\udcff': 'b',
    };
    const index = await openIndex();
    for (const [name, content] of Object.entries(names)) put(name, content);
    for (const [name, content] of Object.entries(names))
      expect(await ask(index, name)).toBe(digestOf(content));
    await index.save();
    const again = await openIndex({ digestFile: () => Promise.reject(new Error('read again')) });
    for (const [name, content] of Object.entries(names))
      expect(await ask(again, name)).toBe(digestOf(content));
  });
});

describe('FileIndex.digests', () => {
  const names = Array.from({ length: 200 }, (_, n) => `f${n}`);

  /** Reads as a {@link FileLooks} does; what `meddle` gives for a file is told in the place of what was read. */
  function looksWith(meddle: (name: string, found: LookedFile) => LookedFile | undefined): FileLooks {
    return {
      list: async () => [],
      end: () => undefined,
      read: async (files) =>
        files.map(({ path }) => {
          reads.push(`bulk ${path}`);
          return meddle(path, { digest: digestOf(readFileSync(join(context, path))), after: rowFor(path) });
        }),
    };
  }

  function askAll(index: FileIndex): Promise<readonly Digest[]> {
    return index.digests(names.map((name) => ({ path: name as ImagePath, row: rowFor(name) })));
  }

  beforeEach(() => {
    for (const name of names) put(name, `content of ${name}`);
  });

  const right = names.map((name) => digestOf(`content of ${name}`));

  it('reads many files in bulk, once, and remembers them', async () => {
    const looks = looksWith((_, found) => found);
    const index = await openIndex({ looks });
    expect(await Promise.all([askAll(index), askAll(index)])).toEqual([right, right]);
    expect(reads).toEqual(names.map((name) => `bulk ${name}`));
    await index.save();
    reads = [];
    expect(await askAll(await openIndex({ looks }))).toEqual(right);
    expect(reads).toEqual([]);
  });

  it('reads a file itself that did not hold still in bulk, or that could not be read there', async () => {
    const lie = digestOf('what was never there');
    const looks = looksWith((name, found) => {
      if (name === 'f7') return { digest: lie, after: rowFor('f8') };
      return name === 'f9' ? undefined : found;
    });
    const index = await openIndex({ looks });
    expect(await askAll(index)).toEqual(right);
    expect(reads.filter((read) => !read.startsWith('bulk'))).toEqual(['f7', 'f9']);
  });

  it('trusts no young file that was read in bulk', async () => {
    const index = await openIndex({ looks: looksWith((_, found) => found), clock: () => Date.now() });
    await askAll(index);
    await index.save();
    reads = [];
    expect(await askAll(index)).toEqual(right);
    expect(reads.length).toBe(names.length);
  });

  it('reads few files itself', async () => {
    const index = await openIndex({ looks: looksWith((_, found) => found) });
    const some = names.slice(0, 3).map((name) => ({ path: name as ImagePath, row: rowFor(name) }));
    expect(await index.digests(some)).toEqual(right.slice(0, 3));
    expect(reads).toEqual(names.slice(0, 3));
  });
});

describe('FileIndex.save', () => {
  it('writes nothing where nothing changed', async () => {
    put('a', 'one');
    const index = await openIndex();
    await ask(index, 'a');
    await index.save();
    const before = statSync(indexFile()).ino;
    const again = await openIndex();
    await ask(again, 'a');
    await again.save();
    expect(statSync(indexFile()).ino).toBe(before);
  });

  it('forgets files that no build asks for any more, after some savings', async () => {
    put('gone', 'one');
    let index = await openIndex();
    await ask(index, 'gone');
    await index.save();
    for (let saving = 1; saving <= 32; saving += 1) {
      expect(entriesIn(await readFile(indexFile()))?.has('gone')).toBe(true);
      index = await openIndex();
      put('a', String(saving));
      await ask(index, 'a');
      await index.save();
    }
    expect(entriesIn(await readFile(indexFile()))?.has('gone')).toBe(false);
  });

  it('leaves a whole index and no temporary file when several save at once', async () => {
    const indexes = await Promise.all(Array.from({ length: 8 }, () => openIndex()));
    for (const [at, index] of indexes.entries()) {
      put(`f${at}`, `content ${at}`);
      await ask(index, `f${at}`);
    }
    await Promise.all(indexes.map((index) => index.save()));
    expect(await readdir(join(root, 'index'))).toEqual([indexName(context)]);
    expect(await readdir(join(root, 'tmp'))).toEqual([]);
    expect(entriesIn(await readFile(indexFile()))?.size).toBe(1);
  });
});

describe.skipIf(process.getuid?.() !== 0)('on a full disk (needs root)', () => {
  let disk: HostPath;

  beforeEach(async () => {
    disk = join(root, 'disk') as HostPath;
    await mkdir(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
  });

  afterEach(() => execFileSync('umount', [disk]));

  it('FileIndex.save says so, keeps the index that was there and leaves no temporary file', async () => {
    put('a', 'one');
    const index = await openIndex({ root: disk });
    await ask(index, 'a');
    await index.save();
    const file = join(disk, 'index', indexName(context));
    const before = await readFile(file);
    expect(() => writeFileSync(join(disk, 'filler'), Buffer.alloc(128 * 1024))).toThrow('ENOSPC');
    put('b', 'two');
    await ask(index, 'b');
    await expect(index.save()).rejects.toMatchObject({ code: 'disk-full' });
    expect(await readFile(file)).toEqual(before);
    expect(await readdir(join(disk, 'index'))).toEqual([indexName(context)]);
    expect(await readdir(join(disk, 'tmp'))).toEqual([]);
    await rm(join(disk, 'filler'));
    await index.save();
    expect(entriesIn(await readFile(file))?.size).toBe(2);
  });
});

describe('openFileIndex', () => {
  it('takes a truncated, flipped, foreign or newer index for an empty one', async () => {
    put('a', 'one');
    const index = await openIndex();
    await ask(index, 'a');
    await index.save();
    const good = await readFile(indexFile());
    const flipped = Buffer.from(good);
    flipped[70] = (flipped[70] ?? 0) ^ 1;
    const newer = Buffer.from(good);
    newer.writeUInt32LE(2, 8);
    const foreign = encodeIndex('/elsewhere' as HostPath, tableOf([['a', entry('stale')]]));
    for (const bytes of [
      Buffer.alloc(0),
      good.subarray(0, -1),
      good.subarray(0, 40),
      flipped,
      newer,
      foreign,
    ]) {
      await writeFile(indexFile(), bytes);
      reads = [];
      expect(await ask(await openIndex(), 'a')).toBe(digestOf('one'));
      expect(reads).toEqual(['a']);
    }
    await truncate(indexFile(), 1_000_000);
    expect(await ask(await openIndex(), 'a')).toBe(digestOf('one'));
  });

  it('loads 50,000 files within two seconds', async () => {
    const entries = tableOf(
      Array.from({ length: 50_000 }, (_, n) => [`node_modules/package/lib/f${n}.js`, entry(`${n}`)] as const),
    );
    await mkdir(join(root, 'index'));
    await writeFile(indexFile(), encodeIndex(context, entries));
    const start = performance.now();
    await openIndex();
    expect(performance.now() - start).toBeLessThan(2000);
  });
});

describe('decodeIndex', () => {
  it('gives back what encodeIndex was given, whatever the paths', () => {
    const path = fc.oneof(
      fc.string({ unit: 'binary', minLength: 1 }),
      fc.constantFrom('\x01', '\x01"x"', '\udc80', 'é'),
    );
    fc.assert(
      fc.property(fc.uniqueArray(path.filter((text) => !text.includes('\0'))), (paths) => {
        const entries = new Map(paths.map((name) => [name, entry(name)]));
        expect(entriesIn(encodeIndex(context, tableOf(entries)))).toEqual(entries);
      }),
    );
  });

  it('refuses every index with one byte changed', () => {
    const good = encodeIndex(
      context,
      tableOf([
        ['a', entry('a')],
        ['b', entry('b')],
      ]),
    );
    for (let at = 0; at < good.length; at += 1) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 0x40;
      expect(decodeIndex(context, bad)).toBeUndefined();
    }
  });
});

describe('marker', () => {
  it('is pinned for a sample and changes with every part of the tuple', async () => {
    const mark = marker(await xxhash());
    const stat = { dev: 1n, ino: 2n, size: 3n, mtimeNs: -4n, ctimeNs: 5n, mode: 0o100644n };
    const rest = lstatSync('/', { bigint: true });
    const of = (parts: Partial<typeof stat>) => mark(rowOf(Object.assign(Object.create(rest), stat, parts)));
    expect(of({}).toString(16)).toBe('154751c04ae5b2e6');
    const others = Object.keys(stat).map((part) => of({ [part]: 9n }));
    expect(new Set([of({}), ...others]).size).toBe(7);
  });
});

function entry(content: string): IndexEntry {
  return {
    mark: BigInt(`0x${digestOf(content).slice(7, 23)}`) as IndexEntry['mark'],
    digest: digestOf(content),
    age: 0,
  };
}
