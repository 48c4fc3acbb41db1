import { expect, test } from 'vitest';
import { asDigest, chainId, chainIdOf, type DiffId, digestHex, digestOf, isDigest } from './digest.ts';

test('digestOf gives the known answers of SHA-256 (FIPS 180-2, appendix B)', () => {
  expect(digestOf('')).toBe('sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  expect(digestOf('abc')).toBe('sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  expect(digestOf(Buffer.from('abc'))).toBe(digestOf('abc'));
});

test.each([
  [`sha256:${'0'.repeat(64)}`, true],
  [`sha256:${'A'.repeat(64)}`, false],
  [`sha256:${'0'.repeat(63)}`, false],
  [`sha256:${'0'.repeat(65)}`, false],
  [`sha512:${'0'.repeat(128)}`, false],
  [`sha256:${'0'.repeat(64)}\n`, false],
  ['', false],
])('isDigest(%j) is %j', (text, expected) => {
  expect(isDigest(text)).toBe(expected);
});

test('asDigest throws on what is no digest', () => {
  expect(asDigest(digestOf('x'))).toBe(digestOf('x'));
  expect(() => asDigest('sha256:x')).toThrow('not a sha256 digest');
});

test('digestHex is the part behind the name', () => {
  expect(digestHex(digestOf(''))).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
});

test('the ChainID of one layer is its DiffID; of more, the digest over both names (image-spec, config.md)', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((text) => digestOf(text) as DiffId) as [DiffId, DiffId, DiffId];
  expect(chainIdOf([])).toBeUndefined();
  expect(chainIdOf([a])).toBe(a);
  expect(chainIdOf([a, b])).toBe(digestOf(`${a} ${b}`));
  expect(chainIdOf([a, b, c])).toBe(digestOf(`${digestOf(`${a} ${b}`)} ${c}`));
  expect(chainId(chainIdOf([a, b]), c)).toBe(chainIdOf([a, b, c]));
  expect(chainIdOf([b, a])).not.toBe(chainIdOf([a, b]));
});
