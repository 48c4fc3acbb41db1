import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { DEFAULT_DECOMPRESS_LIMITS, decompress } from './decompress.ts';

const PLAIN = Buffer.from('some text that is long enough to be cut\n'.repeat(5000));

async function* chunked(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

async function run(bytes: Uint8Array, limits = DEFAULT_DECOMPRESS_LIMITS, size = 1000): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of decompress(chunked(bytes, size), limits)) parts.push(part);
  return Buffer.concat(parts);
}

const half = PLAIN.length / 2;
const FORMS = {
  plain: PLAIN,
  gzip: gzipSync(PLAIN),
  'gzip of two members': Buffer.concat([gzipSync(PLAIN.subarray(0, half)), gzipSync(PLAIN.subarray(half))]),
  zstd: zstdCompressSync(PLAIN),
  'zstd of two frames': Buffer.concat([
    zstdCompressSync(PLAIN.subarray(0, half)),
    zstdCompressSync(PLAIN.subarray(half)),
  ]),
};

describe('decompress', () => {
  it.each(Object.entries(FORMS))('gives the plain bytes of %s', async (_form, bytes) => {
    for (const size of [7, 1000, bytes.length]) {
      const plain = await run(bytes, DEFAULT_DECOMPRESS_LIMITS, size);
      expect(plain.equals(PLAIN)).toBe(true);
    }
  });

  it('gives nothing for nothing, and the bytes of what is shorter than a magic number', async () => {
    expect(await run(Buffer.alloc(0))).toEqual(Buffer.alloc(0));
    expect(await run(Buffer.from('ab'), DEFAULT_DECOMPRESS_LIMITS, 1)).toEqual(Buffer.from('ab'));
  });

  it.each(['gzip', 'zstd'] as const)('refuses %s that is cut short or damaged', async (form) => {
    const bytes = Buffer.from(FORMS[form]);
    await expect(run(bytes.subarray(0, bytes.length - 9))).rejects.toMatchObject({ code: 'layer-refused' });
    await expect(run(bytes.subarray(0, 12))).rejects.toMatchObject({ code: 'layer-refused' });
    bytes.fill(0xff, 10, 30);
    await expect(run(bytes)).rejects.toMatchObject({ code: 'layer-refused' });
  });

  it.each(['gzip', 'zstd'] as const)('refuses a bomb in %s form at either limit', async (form) => {
    const zeros = Buffer.alloc(30_000_000);
    const bomb = form === 'gzip' ? gzipSync(zeros) : zstdCompressSync(zeros);
    const bySize = { ...DEFAULT_DECOMPRESS_LIMITS, maxBytes: 1_000_000 };
    await expect(run(bomb, bySize)).rejects.toMatchObject({ code: 'layer-refused' });
    const byRatio = { ...DEFAULT_DECOMPRESS_LIMITS, ratioFromBytes: 1_000_000, maxRatio: 100 };
    await expect(run(bomb, byRatio)).rejects.toMatchObject({ code: 'layer-refused' });
    expect(await run(bomb)).toHaveLength(zeros.length);
  });

  it('fails with the error of its source', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield FORMS.gzip.subarray(0, 100);
      throw new Error('line is dead');
    }
    const reading = (async () => {
      for await (const _part of decompress(broken()));
    })();
    await expect(reading).rejects.toThrow('line is dead');
  });

  it('ends its source when the reader stops early', async () => {
    let ended = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        yield FORMS.gzip;
        for (;;) yield FORMS.gzip;
      } finally {
        ended = true;
      }
    }
    for await (const _part of decompress(endless())) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(ended).toBe(true);
  });
});
