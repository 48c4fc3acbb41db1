import { describe, expect, it } from 'vitest';
import { type Descriptor, digestOf, type Platform } from '../core/index.ts';
import { formatPlatform, parsePlatform, platformRank, selectManifest } from './platform.ts';

function platform(text: string): Platform {
  const [os = '', architecture = '', variant] = text.split('/');
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

function offer(...texts: string[]): Descriptor[] {
  return texts.map((text) => ({
    mediaType: 'x',
    digest: digestOf(text),
    size: 1,
    ...(text === '' ? {} : { platform: platform(text) }),
  }));
}

function selected(wanted: string, ...offered: string[]): string | undefined {
  const found = selectManifest(offer(...offered), platform(wanted));
  return found === undefined
    ? undefined
    : found.platform === undefined
      ? 'plain'
      : formatPlatform(found.platform);
}

describe('selectManifest', () => {
  it.each([
    ['linux/amd64', ['linux/arm64', 'linux/amd64'], 'linux/amd64'],
    ['linux/amd64', ['linux/386', 'linux/amd64'], 'linux/amd64'],
    ['linux/amd64', ['linux/386'], 'linux/386'],
    ['linux/amd64', ['linux/amd64/v3', 'linux/amd64'], 'linux/amd64'],
    ['linux/amd64/v3', ['linux/amd64', 'linux/amd64/v2'], 'linux/amd64/v2'],
    ['linux/arm64', ['linux/arm64/v8'], 'linux/arm64/v8'],
    ['linux/arm64/v8', ['linux/arm/v7', 'linux/arm64'], 'linux/arm64'],
    ['linux/arm64', ['linux/arm/v6', 'linux/arm/v7'], 'linux/arm/v7'],
    ['linux/arm/v7', ['linux/arm/v5', 'linux/arm/v6'], 'linux/arm/v6'],
    ['linux/arm/v6', ['linux/arm/v7'], undefined],
    ['linux/arm', ['linux/arm/v7'], 'linux/arm/v7'],
    ['linux/x86_64', ['linux/amd64'], 'linux/amd64'],
    ['linux/riscv64', ['linux/amd64'], undefined],
    ['linux/amd64', ['windows/amd64'], undefined],
    ['linux/amd64', ['unknown/unknown'], undefined],
    ['linux/amd64', [''], 'plain'],
    ['linux/amd64', ['', ''], undefined],
    ['linux/amd64', ['unknown/unknown', ''], 'plain'],
  ])('for %s takes from %j: %s', (wanted, offered, expected) => {
    expect(selected(wanted, ...offered)).toBe(expected);
  });

  it('takes the first of equally good ones', () => {
    const [first, second] = offer('linux/amd64', 'linux/amd64/v1');
    expect(
      selectManifest(
        [second, first].flatMap((one) => one ?? []),
        platform('linux/amd64'),
      ),
    ).toBe(second);
  });
});

describe('platformRank', () => {
  it('is undefined for what does not run', () => {
    expect(platformRank(platform('linux/amd64'), platform('linux/arm64'))).toBeUndefined();
    expect(platformRank(platform('linux/arm64'), platform('linux/arm64/v8'))).toBe(0);
  });
});

describe('parsePlatform', () => {
  const local = { os: 'linux', architecture: 'amd64' };
  it.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['linux/x86_64', 'linux/amd64'],
    ['linux/arm64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['Linux/AArch64', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/arm/7', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/i386', 'linux/386'],
    ['arm64', 'linux/arm64'],
    ['armhf', 'linux/arm/v7'],
    ['linux', 'linux/amd64'],
    ['windows', 'windows/amd64'],
    ['linux/unheard-of', 'linux/unheard-of'],
  ])('reads %s as %s', (text, expected) => {
    const found = parsePlatform(text, local);
    expect(found === undefined ? undefined : formatPlatform(found)).toBe(expected);
  });

  it.each(['', 'linux/', '/amd64', 'linux/amd64/', 'a/b/c/d', 'unheard-of', 'linux/a b', 'linux/\u00e4'])(
    'refuses %j',
    (text) => {
      expect(parsePlatform(text, local)).toBeUndefined();
    },
  );
});
