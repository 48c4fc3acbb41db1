import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MachineError, type TreeOp } from '../core/index.ts';
import { checksum, encodeTarHeader, paddingOf, type TarHeader } from './tar-header.ts';
import { DEFAULT_UNPACK_LIMITS, unpackLayer } from './unpack-layer.ts';

const END = Buffer.alloc(1024);

function header(more: Partial<TarHeader>): Buffer {
  const mtime = { sec: 1, nsec: 0 };
  return encodeTarHeader({ name: 'f', typeflag: '0', mode: 0o644, uid: 0, gid: 0, size: 0, mtime, ...more });
}

function entry(more: Partial<TarHeader>, content = ''): Buffer {
  const body = Buffer.from(content);
  return Buffer.concat([header({ ...more, size: body.length }), body, Buffer.alloc(paddingOf(body.length))]);
}

/** A header block of any type flag, with fields overwritten by place, and a right checksum. */
function raw(
  typeflag: string,
  fields: readonly (readonly [at: number, bytes: string | Uint8Array])[],
  body: Uint8Array = new Uint8Array(),
): Buffer {
  const block = Buffer.from(header({ size: body.byteLength }));
  block.write(typeflag, 156, 'latin1');
  for (const [at, bytes] of fields)
    block.set(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, at);
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([block, body, Buffer.alloc(paddingOf(body.byteLength))]);
}

function pax(records: string | Uint8Array): Buffer {
  return raw('x', [], typeof records === 'string' ? Buffer.from(records, 'latin1') : records);
}

function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  for (let length = rest.length; ; length += 1) {
    if (String(length).length + rest.length === length) return `${length}${rest}`;
  }
}

async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

async function unpack(tar: Uint8Array, limits = DEFAULT_UNPACK_LIMITS, size = 1000): Promise<TreeOp[]> {
  const ops: TreeOp[] = [];
  for await (const op of unpackLayer(chunked(tar, size), { limits })) ops.push(op);
  return ops;
}

const paths = (ops: readonly TreeOp[]): string[] => ops.map((op) => `${op.op} ${op.path}`);
const REFUSED = { name: 'MachineError', code: 'layer-refused' };

async function expectRefused(tar: Uint8Array): Promise<void> {
  await expect(unpack(tar)).rejects.toMatchObject(REFUSED);
}

describe('unpackLayer refuses', () => {
  it.each(['../escape', 'a/../../escape', 'a/../b', '..', '/../etc/passwd', './../x'])(
    'the name %j',
    (name) => expectRefused(Buffer.concat([entry({ name }), END])),
  );

  it.each(['../../etc/shadow', 'a/../../x', '', '/', './'])('a hard link to %j', (linkName) =>
    expectRefused(Buffer.concat([entry({ name: 'h', typeflag: '1', linkName }), END])),
  );

  it('a hard link to itself', () =>
    expectRefused(Buffer.concat([entry({ name: './a', typeflag: '1', linkName: 'a' }), END])));

  it.each(['.wh.', '.wh..', '.wh...', 'a/.wh...', 'a/.wh.'])('the whiteout %j', (name) =>
    expectRefused(Buffer.concat([entry({ name }), END])),
  );

  it.each(['.wh.d/x', '.wh..wh..opq/x'])('the name %j below a whiteout', (name) =>
    expectRefused(Buffer.concat([entry({ name }), END])),
  );

  it.each([
    ['', '0'],
    ['.', '0'],
    ['/', '2'],
    ['', '5'],
  ] as const)('the name %j of type %s', (name, typeflag) =>
    expectRefused(Buffer.concat([raw(typeflag, [[0, `${name}\0`]]), END])),
  );

  it('a part of more than 255 bytes, and a path of more than 4095', async () => {
    await expectRefused(Buffer.concat([entry({ name: `d/${'x'.repeat(256)}` }), END]));
    await expectRefused(Buffer.concat([entry({ name: 'd/'.repeat(2048) }), END]));
  });

  it('a name with a zero byte in a pax record', () =>
    expectRefused(Buffer.concat([pax(record('path', 'a\0b')), entry({}), END])));

  it.each([
    ['a negative size', [[124, Buffer.concat([Buffer.alloc(11, 0xff), Buffer.of(0xf0)])]]],
    ['a size beyond 2^53', [[124, Buffer.concat([Buffer.of(0x80, 0, 0, 0xff), Buffer.alloc(8, 0xff)])]]],
    ['a size with letters', [[124, 'zz']]],
    ['a negative owner', [[108, Buffer.alloc(8, 0xff)]]],
    ['an owner of 2^32 - 1', [[108, Buffer.of(0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)]]],
  ] as const)('%s', async (_what, fields) => {
    await expectRefused(Buffer.concat([raw('0', fields), END]));
  });

  it.each(['S', 'V', 'M', 'D', 'N', '!', '9'])('an entry of type %s', (typeflag) =>
    expectRefused(Buffer.concat([raw(typeflag, []), END])),
  );

  it.each([
    ['a length that is too long', '99 path=x\n'],
    ['a length that is too short', '5 path=x\n'],
    ['no length', 'path=x\n'],
    ['a negative length', '-9 path=x\n'],
    ['a length of zero', '0 path=x\n'],
    ['a length in hex', '0xa path=x\n'],
    ['no equals sign', '9 pathxx\n'],
    ['no key', '5 =x\n'],
    ['a bad size', record('size', '-1')],
    ['a size with a fraction', record('size', '1.5')],
    ['a bad time', record('mtime', '1e9')],
    ['an attribute without a name', record('SCHILY.xattr.', 'x')],
    ['a sparse map', record('GNU.sparse.major', '1')],
  ])('a pax header with %s', (_what, records) =>
    expectRefused(Buffer.concat([pax(records), entry({ name: 'f' }), END])),
  );

  it('a wrong checksum', async () => {
    const tar = Buffer.concat([entry({ name: 'f' }), END]);
    tar[0] = 0x67;
    await expectRefused(tar);
  });

  it('bytes that are no archive', () => expectRefused(Buffer.alloc(4096, 'nonsense')));

  it('an empty block between entries', () =>
    expectRefused(Buffer.concat([entry({}), Buffer.alloc(512), entry({}), END])));

  it('an archive that is cut at any place inside an entry', async () => {
    const tar = entry({ name: 'größe', xattrs: { 'user.x': Uint8Array.of(1) } }, 'content'.repeat(100));
    for (const length of [1, 511, 513, 700, 1024, 1600, 2040, tar.length - 1]) {
      await expectRefused(tar.subarray(0, length));
    }
  });

  it('an extended header without an entry', () =>
    expectRefused(Buffer.concat([pax(record('path', 'x')), END])));

  it('extended headers over the limit, in one piece or in many', async () => {
    const huge = raw('L', [[124, '77777777777 ']]);
    await expectRefused(huge);
    const many = Array.from({ length: 3000 }, () => pax(record('path', 'x')));
    await expectRefused(Buffer.concat([...many, entry({}), END]));
  });

  it('more entries or bytes than its limits', async () => {
    const tar = Buffer.concat([entry({ name: 'a' }), entry({ name: 'b' }, 'x'), END]);
    await expect(unpack(tar, { ...DEFAULT_UNPACK_LIMITS, maxEntries: 1 })).rejects.toMatchObject(REFUSED);
    await expect(unpack(tar, { ...DEFAULT_UNPACK_LIMITS, maxBytes: 1500 })).rejects.toMatchObject(REFUSED);
    expect(await unpack(tar, { ...DEFAULT_UNPACK_LIMITS, maxEntries: 2, maxBytes: tar.length })).toHaveLength(
      2,
    );
  });

  it.each(['3', '4'] as const)('impossible device numbers in type %s', (typeflag) =>
    expectRefused(Buffer.concat([entry({ typeflag, device: { major: 4096, minor: 0 } }), END])),
  );

  it('a symlink without a target', () =>
    expectRefused(Buffer.concat([entry({ typeflag: '2', linkName: '' }), END])));
});

describe('unpackLayer', () => {
  it('brings names to one form', async () => {
    const names = ['./a', '/abs', 'b//c', './d/./e'];
    const tar = Buffer.concat([
      ...names.map((name) => entry({ name })),
      entry({ name: 'g/', typeflag: '5' }),
      END,
    ]);
    expect(paths(await unpack(tar))).toEqual(['file a', 'file abs', 'file b/c', 'file d/e', 'dir g']);
  });

  it('takes whiteouts and opaque marks at any depth, whatever type they have', async () => {
    const tar = Buffer.concat([
      entry({ name: '.wh.x', typeflag: '1', linkName: 'nowhere' }),
      entry({ name: 'd/.wh.y' }),
      entry({ name: '.wh..wh..opq' }),
      entry({ name: 'd/.wh..wh..opq' }),
      END,
    ]);
    expect(paths(await unpack(tar))).toEqual(['remove x', 'remove d/y', 'clear ', 'clear d']);
  });

  it("ignores AUFS's own files and global pax headers", async () => {
    const tar = Buffer.concat([
      raw('g', [], Buffer.from(record('comment', 'x'))),
      entry({ name: '.wh..wh.plnk/', typeflag: '5' }),
      entry({ name: '.wh..wh.plnk/12.3' }, 'x'),
      entry({ name: '.wh..wh.aufs' }),
      entry({ name: 'kept' }),
      END,
    ]);
    expect(paths(await unpack(tar))).toEqual(['file kept']);
  });

  it("drops OverlayFS's own attributes and turns its whiteout devices into removals", async () => {
    const one = Uint8Array.of(0x79);
    const xattrs = { 'trusted.overlay.opaque': one, 'user.overlay.redirect': one, 'user.mine': one };
    const tar = Buffer.concat([
      entry({ name: 'd/', typeflag: '5', xattrs }),
      entry({ name: 'w', typeflag: '3', device: { major: 0, minor: 0 } }),
      END,
    ]);
    const [folder, whiteout] = await unpack(tar);
    expect(folder).toHaveProperty('attributes.xattrs', { 'user.mine': one });
    expect(whiteout).toEqual({ op: 'remove', path: 'w' });
  });

  it('takes an empty pax value as "not said"', async () => {
    const tar = Buffer.concat([
      pax(record('path', 'wrong') + record('path', '')),
      entry({ name: 'right' }),
      END,
    ]);
    expect(paths(await unpack(tar))).toEqual(['file right']);
  });

  it('reads and ignores what follows the end, up to the limit', async () => {
    const tar = Buffer.concat([
      entry({ name: 'a' }),
      END,
      entry({ name: 'smuggled' }),
      Buffer.from('garbage'),
    ]);
    let read = 0;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const chunk of chunked(tar, 512)) {
        read += chunk.byteLength;
        yield chunk;
      }
    }
    const ops: TreeOp[] = [];
    for await (const op of unpackLayer(counted())) ops.push(op);
    expect(paths(ops)).toEqual(['file a']);
    expect(read).toBe(tar.length);
  });

  it('gives the next entry when the content of the last was not read', async () => {
    const tar = Buffer.concat([entry({ name: 'big' }, 'x'.repeat(300_000)), entry({ name: 'next' }), END]);
    expect(paths(await unpack(tar))).toEqual(['file big', 'file next']);
  });

  it('gives the same operations however the stream is cut', async () => {
    const tar = Buffer.concat([
      entry({ name: 'größe', xattrs: { 'user.x': Uint8Array.of(0, 255) } }, 'content'),
      entry({ name: 'n'.repeat(200) }, 'y'.repeat(2000)),
      END,
    ]);
    const whole = await unpack(tar, DEFAULT_UNPACK_LIMITS, tar.length);
    for (const size of [1, 7, 511, 513])
      expect(await unpack(tar, DEFAULT_UNPACK_LIMITS, size)).toEqual(whole);
  });

  it.each(['gnu', 'pax', 'ustar', 'v7', 'oldgnu'])('reads what GNU tar writes in %s form', async (format) => {
    const folder = mkdtempSync(join(tmpdir(), 'varve-tar-'));
    try {
      const long = format === 'gnu' || format === 'pax' || format === 'oldgnu' ? 'n'.repeat(180) : 'short';
      mkdirSync(join(folder, 'd'));
      writeFileSync(join(folder, 'd', long), 'content');
      utimesSync(join(folder, 'd', long), 1_600_000_000, 1_600_000_000);
      execFileSync('ln', [join(folder, 'd', long), join(folder, 'd', `${long}-link`)]);
      const tar = execFileSync('tar', ['-C', folder, '--sort=name', `--format=${format}`, '-cf', '-', 'd']);
      const ops = await unpack(tar);
      expect(paths(ops)).toEqual(['dir d', `file d/${long}`, `hardlink d/${long}-link`]);
      expect(ops[1]).toMatchObject({ attributes: { mtime: { sec: 1_600_000_000, nsec: 0 } } });
      expect(ops[2]).toMatchObject({ target: `d/${long}` });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('gives operations inside the tree or refuses, whatever bytes it gets', async () => {
    const seed = Buffer.concat([
      entry({ name: 'größe/x', xattrs: { 'user.x': Uint8Array.of(1) } }, 'content'),
      entry({ name: 'l', typeflag: '1', linkName: 'a' }),
      END,
    ]);
    const change = fc.tuple(fc.nat(seed.length - 1), fc.nat(255));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
        const tar = Buffer.from(seed);
        for (const [at, byte] of changes) tar[at] = byte;
        try {
          for (const op of await unpack(tar)) {
            expect(op.path.split('/')).not.toContain('..');
            expect(op.path.startsWith('/')).toBe(false);
          }
        } catch (error) {
          if (!(error instanceof MachineError)) throw error;
          expect(error.code).toBe('layer-refused');
        }
      }),
      { numRuns: 500 },
    );
  });
});
