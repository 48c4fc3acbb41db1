import { describe, expect, test } from 'vitest';
import {
  type Entry,
  FOLDER_TIME,
  imagePath,
  type SourceRange,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import { type PlacedSource, type Placement, placeSources } from './copy-placement.ts';
import { type SelectionOptions, selectSources } from './copy-selection.ts';
import { parseMode } from './file-mode.ts';
import { type IgnoreRules, ignoreRulesOf } from './ignore.ts';
import { link, type MemoryFile, memoryTree } from './testing/memory-tree.ts';
import { stopped } from './testing/stopped.ts';

const RANGE: SourceRange = {
  start: { line: 1, column: 1, offset: 0 },
  end: { line: 1, column: 5, offset: 4 },
};
const TIME = { sec: 1, nsec: 0 };

const SOURCE: Readonly<Record<string, MemoryFile>> = {
  'file.txt': { content: 'file', mode: 0o640, uid: 7, gid: 8 },
  dir: { type: 'dir', mode: 0o700, uid: 7, gid: 8 },
  'dir/a': 'a',
  'dir/sub': { type: 'dir', mode: 0o750 },
  'dir/sub/b': 'b',
  'dir/link': link('a'),
  'clash/sub': 'a file where dir has a folder',
  'clash2/a/x': 'a folder where dir has a file',
  'other.txt': 'other',
  pipe: { type: 'fifo' },
  null: { type: 'char', device: { major: 1, minor: 3 } },
  socket: { type: 'socket', mode: 0o640 },
};

async function sourcesOf(
  patterns: readonly string[],
  tree: Tree,
  selection: SelectionOptions = {},
): Promise<PlacedSource[]> {
  const placed: PlacedSource[] = [];
  for (const pattern of patterns) {
    for (const root of await selectSources(tree, pattern, { range: RANGE, where: 'x' }, selection)) {
      placed.push({
        kind: 'root',
        root,
        timeOf: (entry) => entry.mtime,
        contentOf: async (path) => ({ kind: 'host', path: await tree.hostPath(path) }),
      });
    }
  }
  return placed;
}

async function* inTurn(ops: readonly TreeOp[]): AsyncGenerator<TreeOp> {
  yield* ops;
}

interface Copy {
  readonly sources: readonly string[];
  readonly destination: string;
  readonly parent?: Readonly<Record<string, MemoryFile>>;
  readonly from?: Tree;
  readonly options?: Partial<Omit<Placement, 'kind'>>;
  readonly selection?: SelectionOptions;
  /** Archives behind the sources. */
  readonly archives?: readonly (readonly TreeOp[])[];
}

async function place(copy: Copy): Promise<readonly TreeOp[]> {
  const sources = await sourcesOf(copy.sources, copy.from ?? memoryTree(SOURCE), copy.selection);
  for (const ops of copy.archives ?? []) sources.push({ kind: 'archive', ops: () => inTurn(ops) });
  const placement: Placement = { kind: 'COPY', destination: copy.destination, range: RANGE, ...copy.options };
  return (await Array.fromAsync(placeSources(memoryTree(copy.parent ?? {}), sources, placement))).flat();
}

/** `op path` of every operation. */
async function paths(copy: Copy): Promise<string[]> {
  return (await place(copy)).map((op) => `${op.op} ${op.path}`);
}

describe('placeSources: where things go', () => {
  test.each<[title: string, copy: Copy, expected: string[]]>([
    ['a file becomes a missing destination', { sources: ['file.txt'], destination: '/x' }, ['file x']],
    [
      'a file goes into a destination with a slash, which is made',
      { sources: ['file.txt'], destination: '/x/y/' },
      ['ensureDir x', 'ensureDir x/y', 'file x/y/file.txt'],
    ],
    [
      'a file goes into an existing folder without a slash',
      { sources: ['file.txt'], destination: '/x', parent: { x: { type: 'dir' } } },
      ['file x/file.txt'],
    ],
    [
      'a file replaces a file',
      { sources: ['file.txt'], destination: '/x', parent: { x: 'old' } },
      ['file x'],
    ],
    [
      'a file replaces a symlink inside a folder instead of following it',
      { sources: ['file.txt'], destination: '/x/', parent: { 'x/file.txt': link('/etc/passwd') } },
      ['file x/file.txt'],
    ],
    ['a file goes into the root', { sources: ['file.txt'], destination: '/' }, ['file file.txt']],
    [
      'missing folders above the destination are made',
      { sources: ['file.txt'], destination: '/a/b/c', parent: { a: { type: 'dir' } } },
      ['ensureDir a/b', 'file a/b/c'],
    ],
    [
      "a folder's content is copied, not the folder",
      { sources: ['dir'], destination: '/x' },
      ['ensureDir x', 'file x/a', 'symlink x/link', 'dir x/sub', 'file x/sub/b'],
    ],
    [
      'a folder merges with an existing one',
      { sources: ['dir'], destination: '/x/', parent: { 'x/sub/old': '' } },
      ['file x/a', 'symlink x/link', 'dir x/sub', 'file x/sub/b'],
    ],
    [
      "a folder's content goes into the root",
      { sources: ['dir'], destination: '/' },
      ['file a', 'symlink link', 'dir sub', 'file sub/b'],
    ],
    [
      'files and folders go into one folder, in the order given',
      { sources: ['other.txt', 'dir/sub', 'file.txt'], destination: '/x/' },
      ['ensureDir x', 'file x/other.txt', 'file x/b', 'file x/file.txt'],
    ],
    [
      'a symlinked destination is resolved inside the root',
      { sources: ['file.txt'], destination: '/x', parent: { x: link('../../y'), 'y/z': '' } },
      ['file y/file.txt'],
    ],
    [
      'a symlink on the way is resolved inside the root',
      { sources: ['file.txt'], destination: '/x/new', parent: { x: link('/y'), 'y/z': '' } },
      ['file y/new'],
    ],
    [
      'a dangling symlink leads to the place that it names',
      { sources: ['file.txt'], destination: '/x', parent: { x: link('/y/z') } },
      ['ensureDir y', 'file y/z'],
    ],
    [
      'several matches go into an existing folder',
      { sources: ['*.txt'], destination: '/x', parent: { x: { type: 'dir' } } },
      ['file x/file.txt', 'file x/other.txt'],
    ],
    [
      '.. in the destination stops at the root',
      { sources: ['file.txt'], destination: '/../../x' },
      ['file x'],
    ],
    ['nothing to copy makes nothing', { sources: ['none*'], destination: '/x/' }, []],
  ])('%s', async (_title, copy, expected) => {
    expect(await paths(copy)).toEqual(expected);
  });
});

/** Rules that a test is sure of. */
function excluding(...patterns: readonly string[]): IgnoreRules {
  const rules = ignoreRulesOf(patterns);
  if (!rules.ok) throw new Error(rules.error);
  return rules.value;
}

describe('placeSources: --parents and --exclude', () => {
  test('folders on the way keep the attributes of the source; those that exist keep their owner', async () => {
    const ops = await place({
      sources: ['dir/sub/b', 'dir/s*/b'],
      destination: '/x/',
      parent: { 'x/dir': { type: 'dir', mode: 0o711, uid: 3, gid: 4 } },
      selection: { parents: true },
      options: { owner: { uid: 5, gid: 6 } },
    });
    expect(ops.map((op) => `${op.op} ${op.path}`)).toEqual([
      'dir x/dir',
      'dir x/dir/sub',
      'file x/dir/sub/b',
      'file x/dir/sub/b',
    ]);
    expect(ops[0]).toMatchObject({ attributes: { mode: 0o700, uid: 3, gid: 4 } });
    expect(ops[1]).toMatchObject({ attributes: { mode: 0o750, uid: 5, gid: 6 } });
  });

  test.each<[title: string, copy: Copy, expected: string[]]>([
    [
      'a folder without what is left out',
      { sources: ['dir'], destination: '/x/', selection: { exclude: excluding('**/b', 'link') } },
      ['ensureDir x', 'file x/a', 'dir x/sub'],
    ],
    [
      'a folder that is left out but for one file',
      { sources: ['dir'], destination: '/x/', selection: { exclude: excluding('*', '!sub/b') } },
      ['ensureDir x', 'dir x/sub', 'file x/sub/b'],
    ],
    [
      'files without those whose name is left out',
      { sources: ['*.txt'], destination: '/x/', selection: { exclude: excluding('f*') } },
      ['ensureDir x', 'file x/other.txt'],
    ],
    [
      'all that is left out leaves the destination of a folder',
      { sources: ['d*'], destination: '/x', selection: { exclude: excluding('*') } },
      ['ensureDir x'],
    ],
    [
      'from the pivot on',
      { sources: ['./dir/./sub/b'], destination: '/x/', selection: { parents: true } },
      ['ensureDir x', 'dir x/sub', 'file x/sub/b'],
    ],
  ])('%s', async (_title, copy, expected) => {
    expect(await paths(copy)).toEqual(expected);
  });
});

describe('placeSources: archives', () => {
  const FILE = {
    attributes: { mode: 0o600, uid: 3, gid: 4 },
    content: { kind: 'bytes', bytes: new Uint8Array() },
  } as const;
  const ARCHIVE: readonly TreeOp[] = [
    { op: 'dir', path: imagePath(''), attributes: FILE.attributes },
    { op: 'dir', path: imagePath('sub'), attributes: FILE.attributes },
    { op: 'file', path: imagePath('sub/f'), ...FILE },
    { op: 'hardlink', path: imagePath('g'), target: imagePath('sub/f') },
  ];

  test('an archive makes the destination a folder, and comes in its turn', async () => {
    const ops = await place({ sources: ['dir'], destination: '/x', archives: [ARCHIVE, ARCHIVE] });
    expect(ops.map((op) => `${op.op} ${op.path}`).slice(-6)).toEqual([
      'dir x/sub',
      'file x/sub/f',
      'hardlink x/g',
      'dir x/sub',
      'file x/sub/f',
      'hardlink x/g',
    ]);
    expect(ops.at(-1)).toMatchObject({ target: 'x/sub/f' });
    expect(ops.at(-2)).toMatchObject({ attributes: FILE.attributes });
  });

  test('a given owner goes to all that the archive holds, a mode to nothing of it', async () => {
    const options = { owner: { uid: 5, gid: 6 }, mode: () => 0o777 };
    const ops = await place({ sources: [], destination: '/x', archives: [ARCHIVE], options });
    expect(ops[0]).toMatchObject({ op: 'ensureDir', attributes: { uid: 5, gid: 6, mode: 0o755 } });
    expect(ops[2]).toMatchObject({ op: 'file', attributes: { uid: 5, gid: 6, mode: 0o600 } });
  });

  test('a folder takes the place of a symlink to a folder, as with tar -x', async () => {
    const parent = { 'x/sub': link('other'), 'x/other': { type: 'dir' } } as const;
    const ops = await place({ sources: [], destination: '/x', parent, archives: [ARCHIVE] });
    expect(ops.map((op) => `${op.op} ${op.path}`)).toEqual(['dir x/sub', 'file x/sub/f', 'hardlink x/g']);
  });

  test('symlinks of the archive, of the parent and of other sources lead nowhere beside the destination', async () => {
    const linkTo = (path: string, target: string): TreeOp => ({
      op: 'symlink',
      path: imagePath(path),
      attributes: FILE.attributes,
      target,
    });
    const file = (path: string): TreeOp => ({ op: 'file', path: imagePath(path), ...FILE });
    const ops = await place({
      sources: ['dir'],
      destination: '/x',
      parent: { 'x/abs': link('/etc'), 'x/here': { type: 'dir' } },
      archives: [
        [
          file('abs/passwd'),
          linkTo('up', '../../..'),
          file('up/escaped'),
          linkTo('sub/more', 'deep/../..'),
          file('sub/more/f'),
          linkTo('up', 'here'),
          file('up/inside'),
          { op: 'hardlink', path: imagePath('name'), target: imagePath('up/inside') },
          file('link/below-a-link-of-dir'),
        ],
      ],
    });
    expect(ops.slice(-9).map((op) => `${op.op} ${op.path}`)).toEqual([
      'file x/etc/passwd',
      'symlink x/up',
      'file x/escaped',
      'symlink x/sub/more',
      'file x/f',
      'symlink x/up',
      'file x/here/inside',
      'hardlink x/name',
      'file x/a/below-a-link-of-dir',
    ]);
    expect(ops.at(-2)).toMatchObject({ target: 'x/here/inside' });
    const round = [linkTo('one', 'two'), linkTo('two', 'one'), file('one/f')];
    const failure = await stopped(() => place({ sources: [], destination: '/x', archives: [round] }));
    expect(failure.code).toBe('too-many-symlinks');
  });

  test('an archive is refused where the destination is a file', async () => {
    const failure = await stopped(() =>
      place({ sources: [], destination: '/x', parent: { x: '' }, archives: [ARCHIVE] }),
    );
    expect(failure.code).toBe('copy-destination-not-folder');
  });
});

describe('placeSources: what is refused', () => {
  test.each<[title: string, copy: Copy, code: string]>([
    [
      'a folder over a file',
      { sources: ['dir'], destination: '/x', parent: { x: '' } },
      'copy-destination-not-folder',
    ],
    [
      'a file into a file with a slash',
      { sources: ['file.txt'], destination: '/x/', parent: { x: '' } },
      'copy-destination-not-folder',
    ],
    [
      'a file below a file',
      { sources: ['file.txt'], destination: '/x/y', parent: { x: '' } },
      'copy-destination-not-folder',
    ],
    [
      'a file over a folder inside',
      { sources: ['file.txt'], destination: '/x/', parent: { 'x/file.txt/z': '' } },
      'copy-over-folder',
    ],
    [
      'an inner folder over a file',
      { sources: ['dir'], destination: '/x', parent: { 'x/sub': '' } },
      'copy-destination-not-folder',
    ],
    [
      'an inner folder over a symlink to a folder',
      { sources: ['dir'], destination: '/x', parent: { 'x/sub': link('/y'), 'y/z': '' } },
      'copy-destination-not-folder',
    ],
    [
      'an inner file over a folder',
      { sources: ['dir'], destination: '/x', parent: { 'x/a/z': '' } },
      'copy-over-folder',
    ],
    [
      'a folder over a file of this COPY',
      { sources: ['clash', 'dir'], destination: '/x/' },
      'copy-destination-not-folder',
    ],
    [
      'a file over a folder of this COPY',
      { sources: ['clash2', 'dir'], destination: '/x/' },
      'copy-over-folder',
    ],
    ['several files onto one name', { sources: ['*.txt'], destination: '/x' }, 'copy-destination-not-folder'],
    [
      'symlinks in a circle',
      { sources: ['file.txt'], destination: '/x', parent: { x: link('x') } },
      'too-many-symlinks',
    ],
  ])('%s', async (_title, copy, code) => {
    expect(await stopped(() => place(copy))).toMatchObject({ code, range: RANGE });
  });
});

describe('placeSources: attributes', () => {
  test('files and folders keep mode, owner and time; made folders are 0755 of root', async () => {
    const ops = await place({ sources: ['dir', 'file.txt'], destination: '/new/x/' });
    const attributes = Object.fromEntries(
      ops.map((op) => [op.path, 'attributes' in op ? op.attributes : undefined]),
    );
    expect(attributes['new']).toEqual({ mode: 0o755, uid: 0, gid: 0, mtime: FOLDER_TIME });
    expect(attributes['new/x']).toEqual({ mode: 0o755, uid: 0, gid: 0, mtime: FOLDER_TIME });
    expect(attributes['new/x/sub']).toEqual({ mode: 0o750, uid: 0, gid: 0, mtime: TIME });
    expect(attributes['new/x/file.txt']).toEqual({ mode: 0o640, uid: 7, gid: 8, mtime: TIME });
    expect(attributes['new/x/link']).toEqual({ mode: 0o777, uid: 0, gid: 0, mtime: TIME });
  });

  test('made folders take a mode in octal digits, as in BuildKit, but not those that an archive goes to', async () => {
    const options = { mode: () => 0o640, folderMode: 0o640 };
    const modes = async (copy: Pick<Copy, 'sources' | 'archives'>) => {
      const ops = await place({ destination: '/new/x/', options, ...copy });
      return ops.map((op) => ('attributes' in op ? `${op.path} ${op.attributes.mode.toString(8)}` : op.path));
    };
    expect(await modes({ sources: ['file.txt'] })).toEqual(['new 640', 'new/x 640', 'new/x/file.txt 640']);
    expect((await modes({ sources: [], archives: [[]] })).slice(0, 2)).toEqual(['new 755', 'new/x 755']);
  });

  test('folders made in one with a set-group-id bit take its group and pass it on, as mkdir(2) does', async () => {
    const made = async (copy: Partial<Copy>) => {
      const parent = { x: { type: 'dir', mode: 0o2775, gid: 50 } } as const;
      const ops = await place({ sources: ['file.txt'], destination: '/x/y/z/', parent, ...copy });
      return ops.map((op) => {
        const { mode, uid, gid } = 'attributes' in op ? op.attributes : { mode: 0, uid: 0, gid: 0 };
        return `${op.path} ${mode.toString(8)} ${uid}:${gid}`;
      });
    };
    expect(await made({})).toEqual(['x/y 2755 0:50', 'x/y/z 2755 0:50', 'x/y/z/file.txt 640 7:8']);
    const owner = { uid: 5, gid: 6 };
    expect((await made({ options: { owner } })).slice(0, 2)).toEqual(['x/y 2755 5:6', 'x/y/z 2755 5:6']);
    // Of what the same COPY has made.
    const from = memoryTree({ 'dir/sub': { type: 'dir', mode: 0o2700, gid: 9 }, 'tree/sub/new/f': 'f' });
    const selection = { parents: true };
    const sources = ['dir/./sub', 'tree/./sub/new/f'];
    expect(await made({ sources, from, selection, destination: '/q/' })).toEqual([
      'q 755 0:0',
      'q/sub 2700 0:9',
      'q/sub/new 755 0:0',
      'q/sub/new/f 644 0:0',
    ]);
  });

  test('an owner goes to everything copied and to every folder made', async () => {
    const ops = await place({
      sources: ['dir'],
      destination: '/a/b/',
      options: { owner: { uid: 5, gid: 6 } },
    });
    expect(ops.length).toBeGreaterThan(4);
    for (const op of ops) expect('attributes' in op && op.attributes).toMatchObject({ uid: 5, gid: 6 });
  });

  test('a mode goes to files and folders, not to symlinks or to folders made on the way', async () => {
    const ops = await place({ sources: ['dir'], destination: '/a/', options: { mode: () => 0o4711 } });
    const modes = Object.fromEntries(
      ops.map((op) => [op.path, 'attributes' in op ? op.attributes.mode : undefined]),
    );
    expect(modes).toEqual({ a: 0o755, 'a/a': 0o4711, 'a/link': 0o777, 'a/sub': 0o4711, 'a/sub/b': 0o4711 });
  });

  test('a symbolic mode changes the mode that each source has', async () => {
    const mode = parseMode('u=rwX,go=rX');
    if (!mode.ok) throw new Error(mode.error);
    const ops = await place({ sources: ['dir'], destination: '/a/', options: { mode: mode.value } });
    const modes = ops.map((op) => ('attributes' in op ? op.attributes.mode.toString(8) : ''));
    expect(modes).toEqual(['755', '644', '777', '755', '644']);
  });

  test('a socket becomes an empty file', async () => {
    const [file] = await place({ sources: ['socket'], destination: '/' });
    expect(file).toMatchObject({
      op: 'file',
      attributes: { mode: 0o640 },
      content: { bytes: new Uint8Array() },
    });
  });

  test('hard links are kept within one source', async () => {
    const entry = (hardlinkTo?: string): Partial<Entry> => ({
      type: 'file',
      ...(hardlinkTo === undefined ? {} : { hardlinkTo: imagePath(hardlinkTo) }),
    });
    const from = memoryTree({
      'd/a': entry(),
      'd/b': entry('d/a'),
      'd/c': entry('outside'),
      'd/e': entry('outside'),
    });
    const ops = await place({ sources: ['d'], destination: '/x', from });
    expect(ops.map((op) => [op.op, op.path, op.op === 'hardlink' ? op.target : ''])).toEqual([
      ['ensureDir', 'x', ''],
      ['file', 'x/a', ''],
      ['hardlink', 'x/b', 'x/a'],
      ['file', 'x/c', ''],
      ['hardlink', 'x/e', 'x/c'],
    ]);
  });

  test('device nodes and pipes are made anew', async () => {
    const [pipe, device] = await place({ sources: ['pipe', 'null'], destination: '/' });
    expect(pipe).toMatchObject({ op: 'node', path: 'pipe', type: 'fifo', device: { major: 0, minor: 0 } });
    expect(device).toMatchObject({ op: 'node', path: 'null', type: 'char', device: { major: 1, minor: 3 } });
  });
});
