import { execFileSync } from 'node:child_process';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { gzipInBlocks } from './gzip-blocks.ts';
import { collect } from './testing.ts';

const MIB = 1024 * 1024;

/** Bytes that compress a little: words that come again at all distances. */
function words(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = 1;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = 97 + ((state >>> 16) % 7);
  }
  return bytes;
}

async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe('gzipInBlocks', () => {
  it.each([0, 1, 1000, MIB - 1, MIB, MIB + 1, 5 * MIB + 12_345])('%i bytes come back', async (length) => {
    const plain = words(length);
    const packed = await collect(gzipInBlocks(chunked(plain, 256 * 1024), 5));
    expect(gunzipSync(packed).equals(plain)).toBe(true);
    // Reads the trailer too.
    expect(execFileSync('gzip', ['-dc'], { input: packed, maxBuffer: 2 ** 26 }).equals(plain)).toBe(true);
  });

  it('gives the same bytes however the stream is cut', async () => {
    const plain = words(3 * MIB + 7);
    const whole = await collect(gzipInBlocks(chunked(plain, plain.length), 5));
    for (const size of [65_536, 100_003, MIB]) {
      expect((await collect(gzipInBlocks(chunked(plain, size), 5))).equals(whole)).toBe(true);
    }
  });

  it('finds again what stands before a block', async () => {
    const noise = Buffer.from(Array.from({ length: 20_000 }, (_, at) => (at * at * 7919) >>> 7));
    const plain = Buffer.concat([Buffer.alloc(MIB - noise.length), noise, noise]);
    const packed = await collect(gzipInBlocks(chunked(plain, MIB), 9));
    const once = await collect(gzipInBlocks(chunked(noise, MIB), 9));
    expect(packed.length).toBeLessThan(once.length * 1.5);
  });

  it('fails as its source does', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield words(3 * MIB);
      throw new Error('no more');
    }
    await expect(collect(gzipInBlocks(broken(), 5))).rejects.toThrow('no more');
  });
});
