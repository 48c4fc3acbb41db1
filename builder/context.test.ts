import { execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, lutimesSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  digestOf,
  type Entry,
  encodePath,
  type FileLooks,
  fsPath,
  type HostPath,
  type ImagePath,
  imagePath,
  joinPath,
  MachineError,
  rowBytes,
  rowOf,
  STAT_ROW_BYTES,
} from '../core/index.ts';
import { createLookInto, hasNativeProgram, locateNative, NativeServer } from '../runner/index.ts';
import { ContextTree } from './context.ts';
import { NO_IGNORE_RULES, parseIgnoreFile } from './ignore.ts';

const asRoot = process.getuid?.() === 0;
const native = process.env['VARVE_NATIVE'];

let folder = '';

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'varve-context-')));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

function write(path: string, text = ''): void {
  mkdirSync(join(folder, path, '..'), { recursive: true });
  writeFileSync(join(folder, path), text);
}

function contextTree(ignoreFile?: string): ContextTree {
  const parsed = ignoreFile === undefined ? undefined : parseIgnoreFile(ignoreFile);
  if (parsed?.ok === false) throw new Error(parsed.error);
  return new ContextTree({
    folder: folder as HostPath,
    ignore: parsed?.value ?? NO_IGNORE_RULES,
    digestFiles: async (files) => files.map(({ path }) => digestOf(`content of ${path}`)),
  });
}

/** Every path of the tree, folders first. */
async function pathsOf(tree: ContextTree, at: ImagePath = imagePath('')): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await tree.list(at)) {
    found.push(entry.path);
    if (entry.type === 'dir') found.push(...(await pathsOf(tree, entry.path)));
  }
  return found;
}

describe('ContextTree.looked', () => {
  const lookedAt = async (ignoreFile?: string) => {
    const tree = contextTree(ignoreFile);
    await pathsOf(tree);
    const folders = tree.looked() ?? [];
    for (const { path, row, names, rows } of folders) {
      expect(rowBytes(row)).toEqual(rowBytes(rowOf(lstatSync(join(folder, path), { bigint: true }))));
      expect(rows.length).toBe(names.length * STAT_ROW_BYTES);
    }
    const inside = folders.flatMap(({ path, names }) => names.map((name) => joinPath(path, name)));
    const sorted = (paths: readonly string[]) => [...new Set(paths)].sort();
    return { folders: sorted(folders.map(({ path }) => path)), inside: sorted(inside) };
  };

  test('tells of every folder that was listed, and of all that is in it', async () => {
    write('a');
    write('sub/deep/b');
    expect(await lookedAt()).toEqual({
      folders: ['', 'sub', 'sub/deep'],
      inside: ['a', 'sub', 'sub/deep', 'sub/deep/b'],
    });
  });

  test('tells of folders that were searched for something to let in again, also where nothing was found', async () => {
    write('kept/keep');
    write('kept/other');
    write('empty/below/other');
    write('ignored');
    const { folders, inside } = await lookedAt('**\n!**/keep\n');
    // A new file in any of them could be let in.
    expect(folders).toEqual(['', 'empty', 'empty/below', 'kept']);
    expect(inside).toEqual(expect.arrayContaining(['kept', 'kept/keep', 'empty', 'empty/below']));
    const plain = await lookedAt('*\n!kept\n');
    expect(plain.folders).toEqual(['', 'kept']);
  });

  test('knows nothing before anything was looked at', () => {
    expect(contextTree().looked()).toEqual([]);
  });
});

describe('ContextTree entries', () => {
  test('a file has its mode, size and time, and belongs to root', async () => {
    write('script', 'echo');
    chmodSync(join(folder, 'script'), 0o4751);
    lutimesSync(join(folder, 'script'), 0, 1.5);
    expect(await contextTree().lstat(imagePath('script'))).toEqual({
      path: 'script',
      type: 'file',
      mode: 0o4751,
      uid: 0,
      gid: 0,
      size: 4,
      mtime: { sec: 1, nsec: 500_000_000 },
    });
  });

  test('a time before 1970 has whole seconds rounded down', async () => {
    write('old');
    execFileSync('touch', ['-d', '@-1.25', join(folder, 'old')]);
    expect((await contextTree().lstat(imagePath('old')))?.mtime).toEqual({ sec: -2, nsec: 750_000_000 });
  });

  test('symlinks are told, not followed', async () => {
    symlinkSync('/etc/passwd', join(folder, 'link'));
    mkdirSync(join(folder, 'dir'));
    symlinkSync('dir', join(folder, 'toDir'));
    const tree = contextTree();
    expect(await tree.lstat(imagePath('link'))).toMatchObject({ type: 'symlink', linkTarget: '/etc/passwd' });
    expect(await tree.list(imagePath('toDir'))).toEqual([]);
    expect(await tree.lstat(imagePath('toDir/x'))).toBeUndefined();
  });

  test('what is not there is undefined, and a file has no content to list', async () => {
    write('file');
    const tree = contextTree();
    expect(await tree.lstat(imagePath('none/deep'))).toBeUndefined();
    expect(await tree.lstat(imagePath('file/below'))).toBeUndefined();
    expect(await tree.list(imagePath('file'))).toEqual([]);
    expect((await tree.lstat(imagePath('')))?.type).toBe('dir');
  });

  test('names with line ends, blanks and bytes that are no UTF-8 survive, in the order of their bytes', async () => {
    const bytes = Buffer.from([0x61, 0xff, 0x0a, 0x62]);
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), bytes]), 'odd');
    write(' blank\nline ', '');
    write('é', '');
    const tree = contextTree();
    const names = (await tree.list(imagePath(''))).map((entry) => entry.path);
    expect(names.map((name) => encodePath(name))).toEqual([
      Buffer.from(' blank\nline '),
      bytes,
      Buffer.from('é'),
    ]);
    const odd = names[1] ?? imagePath('');
    expect(await tree.digest(odd)).toBe(digestOf(`content of ${odd}`));
    expect(fsPath(await tree.hostPath(odd))).toEqual(Buffer.concat([Buffer.from(`${folder}/`), bytes]));
  });

  test('pipes and sockets are told as such', async () => {
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    const server = createServer().listen(join(folder, 'socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    const types = (await contextTree().list(imagePath(''))).map(({ path, type, size }) => [path, type, size]);
    await new Promise((resolve) => server.close(resolve));
    expect(types).toEqual([
      ['pipe', 'fifo', 0],
      ['socket', 'socket', 0],
    ]);
  });

  test.skipIf(!asRoot)('device nodes have their numbers', async () => {
    execFileSync('mknod', [join(folder, 'device'), 'c', '300', '70000']);
    expect(await contextTree().lstat(imagePath('device'))).toMatchObject({
      type: 'char',
      device: { major: 300, minor: 70000 },
    });
  });

  test('digest refuses what is no regular file', async () => {
    mkdirSync(join(folder, 'dir'));
    await expect(contextTree().digest(imagePath('dir'))).rejects.toThrow('no regular file');
  });
});

describe('ContextTree with ignore rules', () => {
  test('leaves out what the rules say', async () => {
    write('keep.txt');
    write('drop.log');
    write('node_modules/x/y.js');
    const tree = contextTree('*.log\nnode_modules');
    expect(await pathsOf(tree)).toEqual(['keep.txt']);
    const asked = ['keep.txt', 'drop.log', 'node_modules/x', 'none'].map((path) =>
      tree.leavesOut(imagePath(path)),
    );
    expect(await Promise.all(asked)).toEqual([false, true, true, false]);
  });

  test('an excluded folder with a re-included file is there with only that file', async () => {
    write('docs/a/deep/keep.md');
    write('docs/a/deep/drop.md');
    write('docs/b/drop.md');
    const tree = contextTree('docs\n!docs/a/deep/keep.md');
    expect(await pathsOf(tree)).toEqual(['docs', 'docs/a', 'docs/a/deep', 'docs/a/deep/keep.md']);
    expect(await tree.lstat(imagePath('docs/b'))).toBeUndefined();
    expect(await tree.lstat(imagePath('docs/a/deep/drop.md'))).toBeUndefined();
  });

  test('an excluded folder in which nothing is left is not there', async () => {
    write('docs/drop.md');
    expect(await pathsOf(contextTree('docs\n!docs/*.txt'))).toEqual([]);
  });

  test('a later rule excludes again', async () => {
    write('a/x.md');
    write('a/secret.md');
    expect(await pathsOf(contextTree('*\n!a\na/secret.md'))).toEqual(['a', 'a/x.md']);
  });
});

const CHANGES: readonly [title: string, change: (path: string) => void][] = [
  ['written to', (path) => writeFileSync(path, 'more text')],
  ['given another mode', (path) => chmodSync(path, 0o777)],
  ['given another time', (path) => lutimesSync(path, 0, 99)],
  ['removed', (path) => rmSync(path)],
  [
    'replaced',
    (path) => {
      rmSync(path);
      writeFileSync(path, 'text');
    },
  ],
];

describe('ContextTree.firstChanged', () => {
  test('passes over a file as it was, and one that nobody looked at', async () => {
    write('file', 'text');
    const tree = contextTree();
    await tree.lstat(imagePath('file'));
    expect(await tree.firstChanged([imagePath('other/file'), imagePath('file')])).toBeUndefined();
  });

  test.each(CHANGES)('tells a file that was %s', async (_title, change) => {
    write('file', 'text');
    write('same', 'text');
    const tree = contextTree();
    await tree.lstat(imagePath('file'));
    change(join(folder, 'file'));
    expect(await tree.firstChanged([imagePath('same'), imagePath('file')])).toBe('file');
  });
});

describe.skipIf(!hasNativeProgram(native))('ContextTree of many files (needs the native program)', () => {
  const IGNORED = 'skipped\n**/left-out\nhidden\n!hidden/part-3/shown\n';
  let looks: FileLooks;

  beforeEach(() => {
    for (let i = 0; i < 1200; i += 1) write(`many/part-${i % 20}/file-${i}`, `text ${i}`);
    for (let i = 0; i < 20; i += 1) {
      for (const name of ['left-out', 'é', 'Z', 'z', '\ufffd', 'a b']) write(`many/part-${i}/deep/${name}`);
      for (const name of ['shown', 'not shown']) write(`many/hidden/part-${i}/${name}`);
      write(`many/skipped/part-${i}/file`);
      symlinkSync(`../part-${i}`, join(folder, `many/part-${i}/link`));
      writeFileSync(fsPath(join(folder, `many/part-${i}/odd\udcff`)), '');
    }
    looks = createLookInto(new NativeServer(() => locateNative(native)))(join(folder, 'many') as HostPath);
  });

  afterEach(() => looks.end());

  function manyTree(others: { readonly looks?: FileLooks }): ContextTree {
    const parsed = parseIgnoreFile(IGNORED);
    if (!parsed.ok) throw new Error(parsed.error);
    return new ContextTree({
      folder: join(folder, 'many') as HostPath,
      ignore: parsed.value,
      digestFiles: async (files) => files.map(({ path }) => digestOf(path)),
      ...others,
    });
  }

  async function entriesOf(tree: ContextTree, at: ImagePath = imagePath('')): Promise<Entry[]> {
    const found: Entry[] = [];
    for (const entry of await tree.list(at)) {
      found.push(entry);
      if (entry.type === 'dir') found.push(...(await entriesOf(tree, entry.path)));
    }
    return found;
  }

  test('reading ahead finds what is found without it', async () => {
    const ahead = manyTree({ looks });
    await ahead.readAhead(imagePath(''));
    const entries = await entriesOf(ahead);
    expect(entries).toEqual(await entriesOf(manyTree({})));
    expect(entries.map(({ path }) => path)).toContain('hidden/part-3/shown');
    expect(entries.length).toBe(20 + 1200 + 20 * (1 + 5 + 1 + 1) + 3);
  });

  test.each(CHANGES)('one among them that was %s is told', async (_title, change) => {
    const tree = manyTree({ looks });
    await tree.readAhead(imagePath(''));
    const files = (await entriesOf(tree)).flatMap(({ type, path }) => (type === 'file' ? [path] : []));
    expect(await tree.firstChanged(files)).toBeUndefined();
    change(join(folder, 'many/part-7/file-127'));
    expect(await tree.firstChanged(files)).toBe('part-7/file-127');
  });

  test('many files are read in bulk, no further than a byte behind their size, and no symlink', async () => {
    const asked = ['part-1/file-21', 'part-2/absent', 'part-3/link', 'part-4/odd\udcff', 'part-5'];
    writeFileSync(join(folder, 'many/part-1/file-21'), 'text, and more');
    const read = await looks.read(asked.map((path) => ({ path: imagePath(path), size: 4 })));
    expect(read.map((one) => one?.digest)).toEqual([
      digestOf('text,'),
      undefined,
      undefined,
      digestOf(''),
      undefined,
    ]);
    const stat = lstatSync(join(folder, 'many/part-1/file-21'), { bigint: true });
    expect(read[0]?.after).toEqual(rowOf(stat));
  });
});

describe('ContextTree on what it may not read', () => {
  /** Runs `work` as user 65534. Files above the folder must let it through. */
  async function asNobody(work: () => Promise<unknown>): Promise<unknown> {
    process.setegid?.(65534);
    process.seteuid?.(65534);
    try {
      return await work().catch((error: unknown) => error);
    } finally {
      process.seteuid?.(0);
      process.setegid?.(0);
    }
  }

  test.skipIf(!asRoot)('names the folder, the reason and what to do', async () => {
    chmodSync(folder, 0o755);
    write('secret/file');
    chmodSync(join(folder, 'secret'), 0o700);
    const error = await asNobody(() => pathsOf(contextTree()));
    expect(error).toBeInstanceOf(MachineError);
    expect(error).toMatchObject({
      code: 'context-unreadable',
      message: 'cannot read "secret" of the build context: EACCES',
      hint: expect.stringContaining('.dockerignore'),
    });
  });

  test.skipIf(!asRoot)('does not look into a folder that is left out', async () => {
    chmodSync(folder, 0o755);
    write('secret/file');
    write('file');
    chmodSync(join(folder, 'secret'), 0o700);
    expect(await asNobody(() => pathsOf(contextTree('secret\n!file')))).toEqual(['file']);
  });

  test('names the context folder where it is gone', async () => {
    rmSync(folder, { recursive: true });
    const gone = new ContextTree({
      folder: folder as HostPath,
      ignore: NO_IGNORE_RULES,
      digestFiles: async (files) => files.map(() => digestOf('')),
    });
    await expect(gone.list(imagePath(''))).rejects.toMatchObject({
      code: 'context-unreadable',
      message: 'cannot read the context folder: ENOENT',
    });
  });
});
