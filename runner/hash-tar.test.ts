import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fsPath, type HostPath, type ImagePath, type TarPiece } from '../core/index.ts';
import { createHashTar } from './hash-tar.ts';
import { hasNativeProgram, locateNative } from './native-program.ts';
import { NativeServer } from './native-server.ts';

const SLOT = 256 * 1024;
const BLOCK = 512;
/** Around the sizes at which something begins anew. */
const SIZES = [1, BLOCK - 1, BLOCK, BLOCK + 1, SLOT - BLOCK, SLOT - 1, SLOT, SLOT + 1, 9 * SLOT + 7];

const native = process.env['VARVE_NATIVE'];

describe.skipIf(!hasNativeProgram(native))('HashTar (needs the native program)', () => {
  const hashTar = createHashTar(new NativeServer(() => locateNative(native)));
  let folder: HostPath;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'varve-hash-tar-')) as HostPath;
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function file(name: string, content: Buffer): TarPiece {
    writeFileSync(fsPath(join(folder, name)), content);
    return { kind: 'file', path: name as ImagePath, size: content.length };
  }

  it('hashes bytes and files with their padding, in order, whatever their sizes', async () => {
    mkdirSync(join(folder, 'deep/er'), { recursive: true });
    const pieces: TarPiece[] = [];
    const whole: Buffer[] = [];
    for (const [at, size] of SIZES.entries()) {
      const bytes = Buffer.alloc(at * 100, `head ${at}`);
      const content = Buffer.alloc(size, `content ${at}`);
      const name = `${at % 2 === 0 ? 'deep/er/' : ''}größe-\udcff-${at}`;
      pieces.push({ kind: 'bytes', bytes }, file(name, content));
      whole.push(bytes, content, Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK));
    }
    const tar = Buffer.concat(whole);
    const digest = `sha256:${createHash('sha256').update(tar).digest('hex')}`;
    expect(await hashTar({ folder }, pieces)).toEqual({ digest, size: tar.length });
    const own = new Set(pieces.flatMap((piece) => (piece.kind === 'file' ? [piece.path] : [])));
    const empty = join(folder, 'deep/er') as HostPath;
    expect(await hashTar({ folder, original: { folder: empty, own } }, pieces)).toMatchObject({ digest });
    const original = { folder, own: new Set<ImagePath>() };
    expect(await hashTar({ folder: empty, original }, pieces)).toMatchObject({ digest });
  });

  it('takes an empty tar', async () => {
    const digest = `sha256:${createHash('sha256').digest('hex')}`;
    expect(await hashTar({ folder }, [])).toEqual({ digest, size: 0 });
  });

  it.each([
    ['shorter', 'got another size'],
    ['longer', 'got another size'],
    ['gone', 'went away|could not be read'],
    ['gone/below', 'went away'],
    ['link', 'could not be read'],
    ['folder', 'became something else'],
  ])('fails where a file is %s', async (name, message) => {
    file('shorter', Buffer.alloc(5));
    file('longer', Buffer.alloc(50));
    rmSync(join(folder, 'link'), { force: true });
    symlinkSync('longer', join(folder, 'link'));
    mkdirSync(join(folder, 'folder'), { recursive: true });
    const hashing = hashTar({ folder }, [{ kind: 'file', path: name as ImagePath, size: 10 }]);
    await expect(hashing).rejects.toMatchObject({
      code: 'layer-source-changed',
      message: expect.stringMatching(message),
      hint: expect.stringContaining('outside of varve'),
    });
  });

  it('stops where its pieces throw, and where it is aborted', async () => {
    function* broken(): Generator<TarPiece> {
      yield { kind: 'bytes', bytes: Buffer.alloc(10) };
      throw new Error('no more');
    }
    await expect(hashTar({ folder }, broken())).rejects.toThrow('no more');
    await expect(hashTar({ folder }, [], AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });
});
