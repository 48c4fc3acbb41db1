import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Change,
  decodePath,
  digestOf,
  type Entry,
  fsPath,
  type HashTar,
  type HostPath,
  type ImagePath,
  joinHost,
  placeIn,
  type TreeOp,
} from '../core/index.ts';
import type { DiffSource } from './contract.ts';
import { layerTar } from './layer-tar.ts';
import { packLayer } from './pack-layer.ts';
import { unpackLayer } from './unpack-layer.ts';

let folder: HostPath;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-layer-')) as HostPath;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const BASE = { mode: 0o644, uid: 0, gid: 0, size: 0, mtime: { sec: 1_700_000_000, nsec: 0 } };

function set(path: string, more: Partial<Entry> & { readonly type: Entry['type'] }): Change {
  return { kind: 'set', entry: { ...BASE, ...more, path: path as ImagePath } };
}

/** A change for a real file with `content`. */
function file(path: string, content: string | Uint8Array, more: Partial<Entry> = {}): Change {
  writeFileSync(fsPath(joinHost(folder, path)), content);
  return set(path, { type: 'file', size: Buffer.byteLength(content), ...more });
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

const pack = (changes: readonly Change[], options = {}): Promise<Buffer> =>
  collect(layerTar({ changes, folder }, options));

async function* chunked(bytes: Uint8Array, size = 700): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

/** Operations with contents read, so that they compare by value. */
async function unpack(tar: Uint8Array): Promise<(TreeOp | { readonly text: string })[]> {
  const ops: (TreeOp | { readonly text: string })[] = [];
  for await (const op of unpackLayer(chunked(tar))) {
    if (op.op !== 'file') {
      ops.push(op);
      continue;
    }
    const { content, ...rest } = op;
    if (content.kind === 'host') throw new Error('unexpected');
    const bytes = content.kind === 'bytes' ? content.bytes : await collect(content.chunks);
    ops.push({ ...rest, text: Buffer.from(bytes).toString('latin1') } as never);
  }
  return ops;
}

describe('layerTar, then unpackLayer', () => {
  const attributes = (more: object = {}) => ({ mode: 0o644, uid: 0, gid: 0, mtime: BASE.mtime, ...more });

  async function expectRoundTrip(change: Change, op: object): Promise<void> {
    expect(await unpack(await pack([change]))).toEqual([op]);
  }

  it('keeps content, mode with set-id bits and large owners', async () => {
    await expectRoundTrip(file('su', 'hello', { mode: 0o6755, uid: 4_294_967_294, gid: 3_000_000 }), {
      op: 'file',
      path: 'su',
      attributes: attributes({ mode: 0o6755, uid: 4_294_967_294, gid: 3_000_000 }),
      text: 'hello',
    });
  });

  it.each([
    { sec: 1_700_000_000, nsec: 123_456_789 },
    { sec: 0, nsec: 1 },
    { sec: -2, nsec: 500_000_000 },
    { sec: -1, nsec: 0 },
    { sec: -1, nsec: 999_999_999 },
    { sec: 4_102_444_800, nsec: 100_000_000 },
    { sec: 0o77777777777 + 1, nsec: 0 },
  ])('keeps the time $sec s $nsec ns', async (mtime) => {
    await expectRoundTrip(set('d', { type: 'dir', mode: 0o755, mtime }), {
      op: 'dir',
      path: 'd',
      attributes: attributes({ mode: 0o755, mtime }),
    });
  });

  it.each([
    ['a newline', 'new\nline'],
    ['255 bytes', 'n'.repeat(255)],
    ['non-ASCII letters', 'größe-日本'],
    ['invalid UTF-8', decodePath(Buffer.from([0x66, 0xff, 0xc3, 0x28]))],
    ['a long path', `${'folder-with-a-long-name/'.repeat(30)}leaf`],
    ['101 bytes with a split', `${'p'.repeat(60)}/${'q'.repeat(60)}`],
    ['256 bytes that just fit ustar', `${'p'.repeat(155)}/${'q'.repeat(100)}`],
    ['257 bytes', `${'p'.repeat(156)}/${'q'.repeat(100)}`],
    ['backslash and quotes', `a\\b"c'`],
  ])('keeps a name with %s', async (_what, name) => {
    await expectRoundTrip(set(name, { type: 'symlink', linkTarget: name, mode: 0o777 }), {
      op: 'symlink',
      path: name,
      target: name,
      attributes: attributes({ mode: 0o777 }),
    });
  });

  it('keeps binary extended attributes, names with "=" left out with a warning', async () => {
    const capability = Uint8Array.from([
      1, 0, 0, 2, 0, 4, 0, 0, 0xff, 0x0a, 0x3d, 0x80, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    const warnings: string[] = [];
    const tar = await pack(
      [
        file('ping', '', {
          xattrs: {
            'security.capability': capability,
            'user.empty': new Uint8Array(),
            'user.a=b': capability,
          },
        }),
      ],
      { onWarning: (message: string) => warnings.push(message) },
    );
    const [op] = await unpack(tar);
    expect(op).toHaveProperty('attributes.xattrs', {
      'security.capability': capability,
      'user.empty': new Uint8Array(),
    });
    expect(warnings).toEqual([expect.stringContaining('user.a=b')]);
  });

  it('keeps device nodes, fifos, hard links, whiteouts and opaque folders, in path order', async () => {
    const device = { major: 259, minor: 1_048_575 };
    const changes: Change[] = [
      { kind: 'opaque', path: 'd' as ImagePath },
      set('d', { type: 'dir', mode: 0o1777 }),
      set('d/null', { type: 'char', device: { major: 1, minor: 3 } }),
      set('d/disk', { type: 'block', device }),
      set('d/pipe', { type: 'fifo' }),
      file('a', 'content'),
      set('b', { type: 'file', size: 7, hardlinkTo: 'a' as ImagePath }),
      { kind: 'whiteout', path: 'd2/gone' as ImagePath },
      { kind: 'whiteout', path: 'gone' as ImagePath },
    ];
    const zero = { major: 0, minor: 0 };
    expect(await unpack(await pack(changes))).toEqual([
      { op: 'file', path: 'a', attributes: attributes(), text: 'content' },
      { op: 'hardlink', path: 'b', target: 'a' },
      { op: 'dir', path: 'd', attributes: attributes({ mode: 0o1777 }) },
      { op: 'clear', path: 'd' },
      { op: 'node', path: 'd/disk', type: 'block', device, attributes: attributes() },
      { op: 'node', path: 'd/null', type: 'char', device: { major: 1, minor: 3 }, attributes: attributes() },
      { op: 'node', path: 'd/pipe', type: 'fifo', device: zero, attributes: attributes() },
      { op: 'remove', path: 'd2/gone' },
      { op: 'remove', path: 'gone' },
    ]);
  });

  it('keeps the attributes of the root folder and content larger than one chunk', async () => {
    const content = Buffer.alloc(1_000_001, 'abcdefg');
    const root = set('', { type: 'dir', mode: 0o711 });
    const ops = await unpack(await pack([root, file('big', content)]));
    expect(ops[0]).toEqual({ op: 'dir', path: '', attributes: attributes({ mode: 0o711 }) });
    expect(ops[1]).toMatchObject({ path: 'big', text: content.toString('latin1') });
  });
});

describe('layerTar', () => {
  it('gives the bytes that were pinned, whatever order the changes come in', async () => {
    const changes = [
      set('etc', { type: 'dir', mode: 0o755 }),
      file('hello', 'hello\n', {
        mtime: { sec: 1_700_000_000, nsec: 5 },
        xattrs: { 'user.x': Uint8Array.of(0xff) },
      }),
      set('link', { type: 'symlink', linkTarget: '/hello', mode: 0o777 }),
      { kind: 'whiteout', path: 'old' as ImagePath },
    ] as const;
    const tar = await pack(changes);
    expect(await pack([...changes].reverse())).toEqual(tar);
    expect(createHash('sha256').update(tar).digest('hex')).toMatchInlineSnapshot(
      `"c802ffcaf7658239ed213c6fefbcf0c540854aead9f6ecd46fcded56a3a50501"`,
    );
  });

  it('sets times after sourceDateEpoch back to it', async () => {
    const changes = [
      set('new', { type: 'dir', mtime: { sec: 2000, nsec: 5 } }),
      set('old', { type: 'dir', mtime: { sec: 999, nsec: 5 } }),
      set('same', { type: 'dir', mtime: { sec: 1000, nsec: 5 } }),
    ];
    const ops = await unpack(await pack(changes, { sourceDateEpoch: 1000 }));
    expect(ops.map((op) => 'attributes' in op && op.attributes.mtime)).toEqual([
      { sec: 1000, nsec: 0 },
      { sec: 999, nsec: 5 },
      { sec: 1000, nsec: 0 },
    ]);
  });

  it('leaves sockets out with a warning', async () => {
    const warnings: string[] = [];
    const tar = await pack([set('run.sock', { type: 'socket' })], {
      onWarning: (message: string) => warnings.push(message),
    });
    expect(tar).toEqual(Buffer.alloc(1024));
    expect(warnings).toEqual([expect.stringContaining('/run.sock')]);
  });

  it('refuses a file whose own name is that of a whiteout', async () => {
    await expect(pack([file('.wh.x', '')])).rejects.toMatchObject({ code: 'layer-name' });
  });

  it.each([
    ['grew', (path: string) => appendFileSync(path, 'more')],
    ['shrank', (path: string) => truncateSync(path, 1)],
    ['vanished', (path: string) => rmSync(path)],
  ])('fails where a file %s after it was listed', async (_what, harm) => {
    const change = file('data', 'content');
    harm(join(folder, 'data'));
    await expect(pack([change])).rejects.toMatchObject({ code: 'layer-source-changed' });
  });

  it('writes what GNU tar reads back with names, targets and nanoseconds', async () => {
    const long = `${'dir/'.repeat(70)}file`;
    const tar = await pack([
      file('plain', 'x', { mtime: { sec: 1_600_000_000, nsec: 120_000_000 } }),
      set(long, { type: 'symlink', linkTarget: 'größe' }),
    ]);
    writeFileSync(join(folder, 'out.tar'), tar);
    const listing = execFileSync('tar', ['--full-time', '--utc', '-tvf', join(folder, 'out.tar')], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });
    expect(listing).toContain('2020-09-13 12:26:40.12 plain');
    expect(listing).toContain(`${long} -> größe`);
  });
});

describe('packLayer', () => {
  async function digestOfTar(source: DiffSource): Promise<{ diffId: string; size: number }> {
    const tar = await collect(layerTar(source));
    return { diffId: `sha256:${createHash('sha256').update(tar).digest('hex')}`, size: tar.length };
  }

  it('gives the digest and size of the tar for a small diff, packed in place', async () => {
    const source = { changes: [file('a', 'content')], folder };
    expect(await packLayer(source)).toEqual(await digestOfTar(source));
  });

  it('gives the same for a large diff, packed on its own thread, warnings included', async () => {
    const changes = [file('big', Buffer.alloc(3_000_000, 'z')), set('sock', { type: 'socket' })];
    for (let at = 0; at < 2500; at += 1) changes.push(set(`dir-${at}`, { type: 'dir' }));
    const warnings: string[] = [];
    const source = { changes, folder };
    const packed = await packLayer(source, { onWarning: (message) => warnings.push(message) });
    expect(packed).toEqual(await digestOfTar(source));
    expect(warnings).toHaveLength(1);
  });

  it('leaves a large diff to who is given to hash it, with the same pieces', async () => {
    const changes = [file('big', Buffer.alloc(3_000_000, 'z')), file('small', 'x')];
    const hashTar: HashTar = async (from, pieces) => {
      const parts: Uint8Array[] = [];
      for (const piece of pieces) {
        if (piece.kind === 'bytes') parts.push(Buffer.from(piece.bytes));
        else
          parts.push(readFileSync(placeIn(from, piece.path)), Buffer.alloc((512 - (piece.size % 512)) % 512));
      }
      const tar = Buffer.concat(parts);
      return { digest: digestOf(tar), size: tar.length };
    };
    const hashed = await digestOfTar({ changes, folder });
    expect(await packLayer({ changes, folder }, { hashTar })).toEqual(hashed);
  });

  it('fails with the same error from its own thread', async () => {
    const change = file('big', Buffer.alloc(3_000_000));
    truncateSync(join(folder, 'big'), 5);
    const failure = packLayer({ changes: [change], folder });
    await expect(failure).rejects.toMatchObject({ name: 'MachineError', code: 'layer-source-changed' });
  });

  it('stops when its signal is aborted', async () => {
    const change = file('big', Buffer.alloc(30_000_000));
    const abort = new AbortController();
    const failure = packLayer({ changes: [change], folder }, { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(failure).rejects.toThrow('enough');
  });
});
