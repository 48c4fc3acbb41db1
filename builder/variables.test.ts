import { expect, test } from 'vitest';
import { formatEnvironment, platformArgs, readEnvironment } from './variables.ts';

test('platformArgs names both platforms whole and in parts', () => {
  const args = platformArgs(
    { os: 'linux', architecture: 'amd64' },
    { os: 'linux', architecture: 'arm', variant: 'v7' },
  );
  expect(Object.fromEntries(args)).toEqual({
    BUILDPLATFORM: 'linux/amd64',
    BUILDOS: 'linux',
    BUILDARCH: 'amd64',
    BUILDVARIANT: '',
    TARGETPLATFORM: 'linux/arm/v7',
    TARGETOS: 'linux',
    TARGETARCH: 'arm',
    TARGETVARIANT: 'v7',
  });
});

test('readEnvironment splits at the first equals sign, keeps the order, and lets the last one win', () => {
  const environment = readEnvironment(['A=1', 'B=x=y', 'C=', 'A=2', 'none', '=nameless']);
  expect([...environment]).toEqual([
    ['A', '2'],
    ['B', 'x=y'],
    ['C', ''],
  ]);
  expect(formatEnvironment(environment)).toEqual(['A=2', 'B=x=y', 'C=']);
});
