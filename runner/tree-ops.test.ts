import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Attributes,
  type HostPath,
  type ImagePath,
  imagePath,
  MachineError,
  type RootMount,
  type TreeOp,
} from '../core/index.ts';
import { createPortableTreeOps } from './portable-tree-ops.ts';
import { createTreeOps } from './tree-ops.ts';

const native = process.env['VARVE_NATIVE'];

/** The native program can do all of it; without it some things are lost (see `createPortableTreeOps`). */
const IMPLEMENTATIONS = [
  {
    name: 'native',
    isNative: true,
    tree: createTreeOps(native === undefined ? {} : { nativeProgram: native }),
  },
  { name: 'portable', isNative: false, tree: createPortableTreeOps() },
] as const;
const isRoot = process.getuid?.() === 0;
const uid = process.getuid?.() ?? 0;
const gid = process.getgid?.() ?? 0;

const plain = (mode: number): Attributes => ({ mode, uid, gid });
const text = (path: string, content = 'x', mode = 0o644): TreeOp => ({
  op: 'file',
  path: imagePath(path),
  attributes: plain(mode),
  content: { kind: 'bytes', bytes: Buffer.from(content) },
});
const link = (path: string, target: string): TreeOp => ({
  op: 'symlink',
  path: imagePath(path),
  attributes: plain(0o777),
  target,
});
const folder = (path: string, mode = 0o755): TreeOp => ({
  op: 'dir',
  path: imagePath(path),
  attributes: plain(mode),
});
const hardlink = (path: string, target: string): TreeOp => ({
  op: 'hardlink',
  path: imagePath(path),
  target: imagePath(target),
});
const remove = (path: string): TreeOp => ({ op: 'remove', path: imagePath(path) });

let temp: string;
let root: HostPath;
let directory: RootMount;

beforeEach(() => {
  temp = mkdtempSync(join(tmpdir(), 'varve-tree-'));
  root = join(temp, 'root') as HostPath;
  mkdirSync(root);
  mkdirSync(join(temp, 'outside'));
  writeFileSync(join(temp, 'outside', 'secret'), 'secret');
  directory = { type: 'directory', path: root, readonly: false };
});

afterEach(() => {
  execFileSync('rm', ['-rf', temp]);
});

/** What lies outside the root is as it was made. */
function expectOutsideUntouched() {
  expect(readdirSync(temp).sort()).toEqual(['outside', 'root']);
  expect(readdirSync(join(temp, 'outside'))).toEqual(['secret']);
  expect(readFileSync(join(temp, 'outside', 'secret'), 'utf8')).toBe('secret');
  expect(lstatSync(join(temp, 'outside', 'secret')).nlink).toBe(1);
}

async function failure(work: Promise<unknown>): Promise<MachineError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof MachineError)) throw new Error(`no MachineError but ${String(error)}`);
  return error;
}

describe.each(IMPLEMENTATIONS)('$name:', ({ tree, isNative }) => {
  describe('apply makes', () => {
    test.skipIf(!isNative)(
      'folders, files and symlinks with mode, owner and time to the nanosecond',
      async () => {
        const mtime = { sec: 1_000_000_000, nsec: 123_456_789 };
        await tree.apply(directory, [
          { op: 'dir', path: imagePath('d'), attributes: { ...plain(0o711), mtime } },
          {
            op: 'file',
            path: imagePath('d/f'),
            attributes: { ...plain(0o640), mtime },
            content: { kind: 'bytes', bytes: Buffer.from('hello') },
          },
          {
            op: 'symlink',
            path: imagePath('d/l'),
            attributes: { ...plain(0o777), mtime },
            target: '/nowhere',
          },
        ]);
        const entries = await tree.scanTree(root);
        expect(entries.map(({ path, type, size }) => [path, type, size])).toEqual([
          ['', 'dir', 0],
          ['d', 'dir', 0],
          ['d/f', 'file', 5],
          ['d/l', 'symlink', 0],
        ]);
        expect(entries.slice(1).map((entry) => entry.mtime)).toEqual([mtime, mtime, mtime]);
        expect(entries.slice(1, 3).map((entry) => entry.mode)).toEqual([0o711, 0o640]);
        expect(entries.at(3)?.linkTarget).toBe('/nowhere');
      },
    );

    test('missing folders on the way, also behind a symlink to nothing, inside the root', async () => {
      await tree.apply(directory, [text('a/b/c/f'), link('dangling', '/x/y'), text('dangling/f', 'through')]);
      expect(lstatSync(join(root, 'a/b/c')).mode & 0o7777).toBe(0o755);
      expect(readFileSync(join(root, 'x/y/f'), 'utf8')).toBe('through');
    });

    test('streams in chunks of any size, and host files', async () => {
      const chunks = async function* () {
        yield Buffer.alloc(10, 'a');
        yield Buffer.alloc(1_000_000, 'b');
        yield new Uint8Array(0);
      };
      writeFileSync(join(temp, 'outside', 'secret'), 'secret');
      await tree.apply(directory, [
        {
          op: 'file',
          path: imagePath('s'),
          attributes: plain(0o644),
          content: { kind: 'stream', size: 1_000_010, chunks: chunks() },
        },
        {
          op: 'file',
          path: imagePath('h'),
          attributes: plain(0o644),
          content: { kind: 'host', path: join(temp, 'outside/secret') as HostPath },
        },
      ]);
      expect(readFileSync(join(root, 's'), 'utf8')).toBe('a'.repeat(10) + 'b'.repeat(1_000_000));
      expect(readFileSync(join(root, 'h'), 'utf8')).toBe('secret');
    });

    test('holes of long runs of zeros, and keeps those of host files', async () => {
      const size = 8 * 1024 * 1024;
      const bytes = Buffer.alloc(size);
      bytes.write('middle', size / 2 + 5);
      await tree.apply(directory, [
        { op: 'file', path: imagePath('s'), attributes: plain(0o644), content: { kind: 'bytes', bytes } },
        {
          op: 'file',
          path: imagePath('h'),
          attributes: plain(0o644),
          content: { kind: 'host', path: join(root, 's') as HostPath },
        },
      ]);
      for (const name of ['s', 'h']) {
        expect(readFileSync(join(root, name)).equals(bytes)).toBe(true);
        expect(statSync(join(root, name)).blocks * 512).toBeLessThan(256 * 1024);
      }
    });

    test.skipIf(!isNative)(
      'names that are no text, 255 bytes long, with newlines, and paths beyond PATH_MAX',
      async () => {
        const odd = ['new\nline', 'bad\udcff\udc80', 'n'.repeat(255), ' ', '\\', 'ü'];
        const deep = Array.from({ length: 30 }, () => 'd'.repeat(250)).join('/');
        await tree.apply(directory, [
          ...odd.map((name) => text(name)),
          text(`${deep}/f`, 'deep'),
          text(`${deep}/g`, 'deep'),
        ]);
        const paths = (await tree.scanTree(root)).map((entry) => entry.path);
        for (const name of odd) expect(paths).toContain(name);
        expect(paths).toContain(`${deep}/g`);
      },
    );

    test('a second name by hard link, also for a symlink', async () => {
      await tree.apply(directory, [text('a'), hardlink('b', 'a'), link('l', 'a'), hardlink('m', 'l')]);
      const entries = await tree.scanTree(root);
      const links = entries.map((entry) => [entry.path, entry.hardlinkTo]);
      expect(links).toEqual([
        ['', undefined],
        ['a', undefined],
        ['b', 'a'],
        ['l', undefined],
        ['m', 'l'],
      ]);
    });

    test.skipIf(!isRoot)(
      'set-id bits, file capabilities and attributes that outlive the change of owner',
      async () => {
        const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
        const xattrs = { 'security.capability': capability, 'user.note': Buffer.from('\0binary') };
        await tree.apply(directory, [
          {
            op: 'file',
            path: imagePath('f'),
            attributes: { mode: 0o6755, uid: 1000, gid: 1000, xattrs },
            content: { kind: 'bytes', bytes: Buffer.from('x') },
          },
          {
            op: 'symlink',
            path: imagePath('l'),
            attributes: { mode: 0o777, uid: 5, gid: 6, xattrs: { 'trusted.note': Buffer.from('on a link') } },
            target: 'f',
          },
        ]);
        const [, file, symlink] = await tree.scanTree(root);
        expect(file).toMatchObject({ mode: 0o6755, uid: 1000, gid: 1000 });
        expect(Object.keys(file?.xattrs ?? {})).toEqual(['security.capability', 'user.note']);
        expect(Buffer.from(file?.xattrs?.['security.capability'] ?? []).equals(capability)).toBe(true);
        expect(symlink).toMatchObject({ uid: 5, gid: 6 });
        expect(Buffer.from(symlink?.xattrs?.['trusted.note'] ?? []).toString()).toBe('on a link');
        expect(execFileSync('getcap', [join(root, 'f')]).toString()).toContain('cap_net_raw');
      },
    );

    test.skipIf(!isRoot || !isNative)('device nodes, fifos and sockets', async () => {
      const node = (
        path: string,
        type: 'char' | 'block' | 'fifo' | 'socket',
        major = 0,
        minor = 0,
      ): TreeOp => ({
        op: 'node',
        path: imagePath(path),
        attributes: plain(0o620),
        type,
        device: { major, minor },
      });
      await tree.apply(directory, [
        node('b', 'block', 259, 70_000),
        node('c', 'char', 1, 3),
        node('p', 'fifo'),
        node('s', 'socket'),
      ]);
      const entries = await tree.scanTree(root);
      expect(entries.slice(1).map(({ type, device, mode }) => [type, device, mode])).toEqual([
        ['block', { major: 259, minor: 70_000 }, 0o620],
        ['char', { major: 1, minor: 3 }, 0o620],
        ['fifo', undefined, 0o620],
        ['socket', undefined, 0o620],
      ]);
    });
  });

  describe('apply replaces', () => {
    test('anything by anything, and a hard-linked file without changing its other name', async () => {
      await tree.apply(directory, [
        text('a', 'old'),
        hardlink('b', 'a'),
        text('a', 'new'),
        folder('d'),
        text('d/f'),
        text('d', 'file now'),
      ]);
      expect(readFileSync(join(root, 'b'), 'utf8')).toBe('old');
      expect(readFileSync(join(root, 'a'), 'utf8')).toBe('new');
      expect(readFileSync(join(root, 'd'), 'utf8')).toBe('file now');
      await tree.apply(directory, [folder('d'), link('a', 'b'), text('d/x')]);
      expect(readdirSync(join(root, 'd'))).toEqual(['x']);
      expect(readlinkSync(join(root, 'a'))).toBe('b');
    });

    test('attributes of an existing folder, dropping extended ones that are not named', async () => {
      const noted: TreeOp = {
        op: 'dir',
        path: imagePath('d'),
        attributes: { ...plain(0o700), xattrs: { 'user.a': Buffer.from('1') } },
      };
      await tree.apply(directory, [noted, text('d/keep')]);
      await tree.apply(directory, [
        { ...noted, attributes: { ...plain(0o755), xattrs: { 'user.b': Buffer.from('2') } } },
      ]);
      const [, entry] = await tree.scanTree(root);
      expect(Object.keys(entry?.xattrs ?? {})).toEqual(['user.b']);
      expect(readdirSync(join(root, 'd'))).toEqual(['keep']);
    });

    test('ensureDir leaves a folder, and a link to one, as they are', async () => {
      const ensure = (path: string): TreeOp => ({
        op: 'ensureDir',
        path: imagePath(path),
        attributes: plain(0o755),
      });
      await tree.apply(directory, [
        folder('d', 0o700),
        link('l', 'd'),
        ensure('d'),
        ensure('l'),
        ensure('new'),
      ]);
      expect(statSync(join(root, 'd')).mode & 0o7777).toBe(0o700);
      expect(readlinkSync(join(root, 'l'))).toBe('d');
      expect(statSync(join(root, 'new')).isDirectory()).toBe(true);
    });

    test('clear keeps what the same call made, at any depth', async () => {
      await tree.apply(directory, [text('d/old'), text('d/sub/old'), text('d/gone/old')]);
      await tree.apply(directory, [text('d/sub/new'), { op: 'clear', path: imagePath('d') }]);
      expect((await tree.scanTree(root)).map((entry) => entry.path)).toEqual(['', 'd', 'd/sub', 'd/sub/new']);
    });
  });

  describe('apply reaches nothing outside the root, attacked by', () => {
    test('absolute and relative symlinks, and chains of them', async () => {
      await tree.apply(directory, [
        link('abs', join(temp, 'outside')),
        link('rel', '../outside'),
        link('up', '../../../../../../../..'),
        link('chain', `up${temp}/outside`),
        text('abs/secret', 'evil'),
        text('rel/secret', 'evil'),
        text(`up${temp}/outside/secret`, 'evil'),
        text('chain/secret', 'evil'),
      ]);
      expectOutsideUntouched();
      expect(readFileSync(join(root, temp, 'outside/secret'), 'utf8')).toBe('evil');
    });

    test('paths with `..` that no ImagePath has', async () => {
      const path = '../outside/secret' as ImagePath;
      await tree.apply(directory, [{ ...text('x', 'evil'), path } as TreeOp]);
      expectOutsideUntouched();
      for (const bad of ['..', 'a/..', '.', 'a/.', 'a/']) {
        const error = await failure(tree.apply(directory, [{ op: 'remove', path: bad as ImagePath }]));
        expect(error.code).toBe('tree-io');
      }
      expectOutsideUntouched();
    });

    test('a symlink in the last part', async () => {
      const secret = join(temp, 'outside/secret');
      await tree.apply(directory, [
        link('f', secret),
        text('f', 'evil'),
        link('d', join(temp, 'outside')),
        folder('d', 0o777),
        remove('d/secret'),
      ]);
      expectOutsideUntouched();
      expect(lstatSync(join(root, 'd')).isDirectory()).toBe(true);
    });

    test('hard links to files outside', async () => {
      await tree.apply(directory, [link('out', join(temp, 'outside'))]);
      const byLink = await failure(tree.apply(directory, [hardlink('h', 'out/secret')]));
      expect(byLink.code).toBe('tree-io');
      const byDots = await failure(
        tree.apply(directory, [
          hardlink('h', 'x'),
          { op: 'hardlink', path: imagePath('h'), target: '../outside/secret' as ImagePath },
        ]),
      );
      expect(byDots.code).toBe('tree-io');
      expectOutsideUntouched();
    });

    test('a hard link to a symlink that leads outside', async () => {
      await tree.apply(directory, [
        link('s', join(temp, 'outside/secret')),
        hardlink('h', 's'),
        text('h', 'evil'),
      ]);
      expectOutsideUntouched();
      expect(readFileSync(join(root, 'h'), 'utf8')).toBe('evil');
    });

    test('a folder that becomes a symlink between operations', async () => {
      await tree.apply(directory, [
        folder('d/e'),
        text('d/e/one'),
        remove('d'),
        link('d', temp),
        link('e', join(temp, 'outside')),
        text('d/e/secret', 'evil'),
        text('e/secret', 'evil'),
        folder('p'),
        text('p/f'),
        link('p', '../outside'),
        text('p/secret', 'evil'),
        remove('p/secret'),
        { op: 'clear', path: imagePath('p') },
      ]);
      expectOutsideUntouched();
    });

    test('whiteouts and clears through symlinks', async () => {
      symlinkSync(join(temp, 'outside'), join(root, 'l'));
      symlinkSync('../outside', join(root, 'r'));
      await tree.apply(directory, [
        remove('l/secret'),
        remove('r/secret'),
        { op: 'clear', path: imagePath('l') },
        { op: 'clear', path: imagePath('r') },
        remove('l'),
        remove('r'),
      ]);
      expectOutsideUntouched();
      expect(readdirSync(root)).toEqual([]);
    });

    test('magic links of /proc', async () => {
      symlinkSync('/proc/self/root', join(root, 'magic'));
      symlinkSync(`/proc/${process.pid}/cwd`, join(root, 'cwd'));
      await tree.apply(directory, [text('magic/f', 'inside')]);
      expect(readFileSync(join(root, 'proc/self/root/f'), 'utf8')).toBe('inside');
      expectOutsideUntouched();
    });

    test('folder times that would go to what has taken the folder’s place', async () => {
      const before = statSync(join(temp, 'outside')).mtimeMs;
      await tree.apply(directory, [
        { op: 'dir', path: imagePath('d'), attributes: { ...plain(0o755), mtime: { sec: 1, nsec: 0 } } },
        link('d', join(temp, 'outside')),
      ]);
      expect(statSync(join(temp, 'outside')).mtimeMs).toBe(before);
    });
  });

  describe('apply fails with', () => {
    test('tree-io, path and errno where a parent is no folder', async () => {
      const error = await failure(tree.apply(directory, [text('f'), text('f/below')]));
      expect(error.code).toBe('tree-io');
      expect(error.message).toMatch(/f\/below.*ENOTDIR/);
    });

    test('tree-io where a stream ends early or late', async () => {
      for (const size of [5, 1]) {
        const chunks = (async function* () {
          yield Buffer.from('abc');
        })();
        const error = await failure(
          tree.apply(directory, [
            {
              op: 'file',
              path: imagePath('f'),
              attributes: plain(0o644),
              content: { kind: 'stream', size, chunks },
            },
          ]),
        );
        expect(error.code).toBe('tree-io');
      }
    });

    test('the error of the iterable, and the reason of an abort', async () => {
      const failing = async function* (): AsyncGenerator<TreeOp> {
        yield text('a');
        throw new RangeError('broken source');
      };
      await expect(tree.apply(directory, failing())).rejects.toThrow(RangeError);
      const abort = new AbortController();
      const endless = async function* (): AsyncGenerator<TreeOp> {
        for (let i = 0; ; i++) {
          yield text(`f${i % 100}`, 'y'.repeat(1000));
          if (i === 2000) abort.abort(new Error('enough'));
        }
      };
      await expect(tree.apply(directory, endless(), abort.signal)).rejects.toThrow('enough');
    });

    test.skipIf(!isNative)('native-missing where the program is not installed', async () => {
      const absent = createTreeOps({ nativeProgram: join(temp, 'absent') });
      const error = await failure(absent.scanTree(root));
      expect(error.code).toBe('native-missing');
      expect(error.hint).toContain('gcc');
    });

    test.skipIf(!isRoot)('disk-full on a full file system', async () => {
      const small = join(temp, 'root');
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', small]);
      try {
        const error = await failure(tree.apply(directory, [text('big', 'z'.repeat(3_000_000))]));
        expect(error.code).toBe('disk-full');
        expect(error.message).toContain('big');
      } finally {
        execFileSync('umount', [small]);
      }
    });
  });

  test.skipIf(!isNative)('apply says why it stopped, however much it is given after that', async () => {
    const large = Array.from({ length: 40 }, (_, at) => text(`file-${at}`, 'z'.repeat(1_000_000)));
    const error = await failure(tree.apply(directory, [text('', 'the root is no file'), ...large]));
    expect(error.message).toBe('the root of the tree can only be a folder: EISDIR');
  });

  describe.skipIf(!isRoot || !isNative)('apply on an overlay', () => {
    const layer = (name: string) => {
      const path = join(temp, 'root', name);
      mkdirSync(path);
      return path as HostPath;
    };

    test('leaves whiteouts and new files in the upper folder, mounted nowhere', async () => {
      const [lower, upper, work] = [layer('l'), layer('u'), layer('w')];
      writeFileSync(join(lower, 'gone'), '');
      mkdirSync(join(lower, 'dir'));
      writeFileSync(join(lower, 'dir/old'), '');
      const overlay: RootMount = {
        type: 'overlay',
        lowers: [lower],
        writable: { upper, work },
        userXattrs: false,
      };
      await tree.apply(overlay, [remove('gone'), remove('dir'), folder('dir'), text('dir/new')]);
      await tree.apply(overlay, [text('again')]);
      expect(
        (await tree.scanDiff(upper, { userXattrs: false })).map((change) =>
          change.kind === 'set' ? change.entry.path : `${change.kind} ${change.path}`,
        ),
      ).toEqual(['', 'again', 'dir', 'opaque dir', 'dir/new', 'whiteout gone']);
      expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(upper);
    });

    test('mounts more than 200 lower folders with long names', async () => {
      const lowers: HostPath[] = [];
      for (let i = 0; i < 260; i++) {
        const lower = layer(`${'n'.repeat(200)}${i}`);
        writeFileSync(join(lower, `f${i}`), '');
        lowers.push(lower);
      }
      const [upper, work] = [layer('u'), layer('w')];
      const overlay: RootMount = { type: 'overlay', lowers, writable: { upper, work }, userXattrs: false };
      await tree.apply(overlay, [remove('f0'), remove('f259'), remove('absent')]);
      expect((await tree.scanDiff(upper, { userXattrs: false })).map((change) => change.kind)).toEqual([
        'set',
        'whiteout',
        'whiteout',
      ]);
    });
  });

  describe('removeAll', () => {
    test.skipIf(!isNative)(
      'removes folders without permissions, of great depth, and what does not exist',
      async () => {
        const deep = Array.from({ length: 3000 }, () => 'd').join('/');
        await tree.apply(directory, [text(`${deep}/f`), text('locked/f'), text('locked/g/h')]);
        chmodSync(join(root, 'locked'), 0);
        await tree.removeAll([root, join(temp, 'absent') as HostPath, join(temp, 'absent/too') as HostPath]);
        expect(readdirSync(temp)).toEqual(['outside']);
      },
    );

    test('removes a symlink, not what it leads to', async () => {
      symlinkSync(join(temp, 'outside'), join(root, 'l'));
      await tree.removeAll([join(root, 'l') as HostPath]);
      expectOutsideUntouched();
      expect(readdirSync(root)).toEqual([]);
      rmSync(root, { recursive: true });
    });
  });
});
