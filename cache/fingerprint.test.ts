import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Digest,
  digestOf,
  type Entry,
  type HostPath,
  type ImagePath,
  type Tree,
} from '../core/index.ts';
import type { FileFact, Selection } from './contract.ts';
import { FactList } from './fact-list.ts';
import { fingerprint } from './fingerprint.ts';

/** A tree of entries in memory whose files hold their own path, or what `contents` says. */
class MemoryTree implements Tree {
  readonly entries = new Map<ImagePath, Entry>();
  readonly contents = new Map<ImagePath, string>();
  reading = 0;
  reads = 0;
  mostReading = 0;

  add(path: string, change: Partial<Entry> = {}): this {
    const at = path as ImagePath;
    const mtime = { sec: 0, nsec: 0 };
    this.entries.set(at, {
      path: at,
      type: 'file',
      mode: 0o644,
      uid: 1000,
      gid: 1000,
      size: 1,
      mtime,
      ...change,
    });
    return this;
  }

  async lstat(path: ImagePath): Promise<Entry | undefined> {
    return this.entries.get(path);
  }

  async list(): Promise<readonly Entry[]> {
    throw new Error('fingerprint lists no folder');
  }

  async digest(path: ImagePath): Promise<Digest> {
    this.reads += 1;
    this.reading += 1;
    this.mostReading = Math.max(this.mostReading, this.reading);
    await new Promise((resolve) => setImmediate(resolve));
    this.reading -= 1;
    return digestOf(this.contents.get(path) ?? path);
  }

  async hostPath(): Promise<HostPath> {
    throw new Error('fingerprint opens no file');
  }

  all(): readonly Selection[] {
    return [...this.entries.keys()].map((path) => ({ tree: this, from: path, to: path }));
  }
}

function sample(): MemoryTree {
  return new MemoryTree()
    .add('', { type: 'dir', mode: 0o755 })
    .add('src', { type: 'dir', mode: 0o755 })
    .add('src/app.js')
    .add('src/run', { mode: 0o755, xattrs: { 'security.capability': Uint8Array.of(1, 2, 255) } })
    .add('link', { type: 'symlink', mode: 0o777, linkTarget: 'src/app.js' })
    .add('null', { type: 'char', device: { major: 1, minor: 3 } });
}

describe('fingerprint', () => {
  it('is pinned for a sample tree', async () => {
    const { facts: list, digest } = await fingerprint('context', sample().all());
    const facts = [...list];
    expect(facts.map(({ path }) => path)).toEqual(['', 'link', 'null', 'src', 'src/app.js', 'src/run']);
    expect(facts[2]).toMatchObject({ type: 'char', device: '1:3' });
    expect(facts[5]).toMatchObject({
      mode: 0o755,
      digest: digestOf('src/run'),
      xattrs: { 'security.capability': '0102ff' },
    });
    expect(digest).toBe('sha256:97f5cb812d44d87f7ba04e6ad7e7b0b7245c06f87e95eabbb9739c4f3262ac29');
  });

  it('does not depend on time stamps, sizes, the order of the selection or the name of the input', async () => {
    const tree = sample();
    const { digest } = await fingerprint('context', tree.all());
    for (const [path, entry] of tree.entries)
      tree.entries.set(path, { ...entry, mtime: { sec: 99, nsec: 1 } });
    expect((await fingerprint('other', tree.all().toReversed())).digest).toBe(digest);
  });

  it('changes with every edit that a container could see', async () => {
    const edits: readonly ((tree: MemoryTree) => unknown)[] = [
      () => {},
      (tree) => tree.add('new'),
      (tree) => tree.entries.delete('src/app.js' as ImagePath),
      (tree) => tree.contents.set('src/app.js' as ImagePath, 'edited'),
      (tree) => tree.add('src/app.js', { mode: 0o600 }),
      (tree) => tree.add('src/app.js', { mode: 0o4644 }),
      (tree) => tree.add('src/app.js', { uid: 0 }),
      (tree) => tree.add('src/app.js', { gid: 0 }),
      (tree) => tree.add('src/app.js', { xattrs: { 'user.a': Uint8Array.of() } }),
      (tree) => tree.add('src/run', { mode: 0o755 }),
      (tree) => tree.add('link', { type: 'symlink', linkTarget: 'src/run' }),
      (tree) => tree.add('link'),
      (tree) => tree.add('null', { type: 'char', device: { major: 1, minor: 5 } }),
      (tree) => tree.add('null', { type: 'block', device: { major: 1, minor: 3 } }),
      (tree) => tree.add('src', { type: 'dir', mode: 0o700 }),
      (tree) => tree.add('src/app.js', { hardlinkTo: 'src/run' as ImagePath }),
    ];
    const digests = await Promise.all(
      edits.map(async (edit) => {
        const tree = sample();
        edit(tree);
        return (await fingerprint('context', tree.all())).digest;
      }),
    );
    expect(new Set(digests).size).toBe(edits.length);
  });

  it('names files by where they land', async () => {
    const tree = sample();
    const to = 'app/main.js' as ImagePath;
    const { facts } = await fingerprint('context', [{ tree, from: 'src/app.js' as ImagePath, to }]);
    expect([...facts]).toMatchObject([{ path: to, digest: digestOf('src/app.js') }]);
  });

  it('gives every file the owner that it is told', async () => {
    const { facts } = await fingerprint('context', sample().all(), { owner: { uid: 0, gid: 7 } });
    for (const fact of facts) expect([fact.uid, fact.gid]).toEqual([0, 7]);
  });

  it('reads no more files at once than it is told', async () => {
    const tree = new MemoryTree();
    for (let at = 0; at < 200; at += 1) tree.add(`f${at}`);
    await fingerprint('context', tree.all(), { concurrency: 4 });
    expect(tree.mostReading).toBe(4);
  });

  it('rejects where a selected file is gone, and when aborted', async () => {
    const tree = sample();
    const selections = tree.all();
    tree.entries.delete('link' as ImagePath);
    await expect(fingerprint('context', selections)).rejects.toMatchObject({ code: 'file-vanished' });
    const large = new MemoryTree().add('a');
    for (let at = 0; at < 500; at += 1) large.add(`f${at}`);
    const [, ...rest] = large.all();
    const gone = { tree: large, from: 'gone' as ImagePath, to: 'gone' as ImagePath };
    await expect(fingerprint('context', [gone, ...rest], { concurrency: 2 })).rejects.toThrow('gone');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(large.reads).toBeLessThan(10);
    await expect(fingerprint('context', tree.all(), { signal: AbortSignal.abort() })).rejects.toThrow(
      'aborted',
    );
  });
});

describe('FactList', () => {
  it('gives back what it was made of, and has another digest for another list, whatever the texts hold', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 3 }),
      fc.constantFrom('', '=', '~', '\0', '=\0', '\udc80', '\ufffd', '~"\\u0000"', '"', 'f644 0 0'),
    );
    const fact = fc.record(
      {
        path: text.map((path) => path as ImagePath),
        type: fc.constantFrom('file' as const, 'dir' as const),
        mode: fc.constantFrom(0, 0o644),
        uid: fc.constantFrom(0, 1),
        gid: fc.constantFrom(0, 1),
        linkTarget: text,
        device: text,
        xattrs: fc.dictionary(text, text, { maxKeys: 2 }).filter((xattrs) => Object.keys(xattrs).length > 0),
      },
      { requiredKeys: ['path', 'type', 'mode', 'uid', 'gid'] },
    );
    const list: fc.Arbitrary<readonly FileFact[]> = fc.array(fact, { maxLength: 3 });
    fc.assert(
      fc.property(list, list, (a, b) => {
        const list = FactList.of(a);
        expect([...list]).toEqual(a);
        if (list.digest === FactList.of(b).digest) expect(a).toEqual(b);
        const read = FactList.read(list.bytes());
        expect([...(read ?? [])]).toEqual(a);
        expect([read?.digest, read?.size]).toEqual([list.digest, list.size]);
      }),
      { numRuns: 1000 },
    );
  });

  it('takes 50,000 facts within two seconds', () => {
    const digest = digestOf('x');
    const facts = Array.from({ length: 50_000 }, (_, at): FileFact => {
      const path = `node_modules/package/lib/file-${at}.js` as ImagePath;
      return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, digest };
    });
    const start = performance.now();
    FactList.of(facts);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it('reads nothing else', () => {
    expect(FactList.read(Buffer.from('[]'))).toBeUndefined();
    expect(FactList.read(Buffer.alloc(0))).toBeUndefined();
  });
});
