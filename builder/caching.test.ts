import { describe, expect, test } from 'vitest';
import { DEFAULT_CACHING } from '../core/index.ts';
import { parse } from '../parser/index.ts';
import { readCachingComments, uselessRules } from './caching.ts';
import { stopped } from './testing/stopped.ts';

function read(...comments: readonly string[]) {
  const text = `FROM scratch\n${comments.map((comment) => `# ${comment}\n`).join('')}RUN x\n`;
  const instruction = parse(text).dockerfile?.stages[0]?.instructions[0];
  if (instruction === undefined) throw new Error('no instruction');
  return readCachingComments(instruction, DEFAULT_CACHING);
}

describe('readCachingComments', () => {
  test('without a word for varve the usual holds', () => {
    expect(read('just a remark', 'varves are layers')).toEqual(DEFAULT_CACHING);
  });

  test.each(['exact', 'observed'] as const)('cache=%s sets the mode', (mode) => {
    expect(read(`varve: cache=${mode}`)).toEqual({ ...DEFAULT_CACHING, mode });
  });

  test('cache=never switches the cache off', () => {
    expect(read('varve: cache=never')).toBe('never');
  });

  test('the last of several modes counts', () => {
    expect(read('varve: cache=never', 'varve: cache=exact')).toEqual({ ...DEFAULT_CACHING, mode: 'exact' });
  });

  test('ttl and noise come from one comment or several', () => {
    expect(read('varve: ttl=1d noise=/var/log/*.log', 'varve: noise=/x')).toEqual({
      mode: 'observed',
      ttlMs: 86_400_000,
      noise: ['/var/log/*.log', '/x'],
    });
  });

  test.each([
    'varve: cache=sometimes',
    'varve: ttl=soon',
    'varve: noise=relative',
    'varve: noise=/[',
    'varve: quick',
  ])('ends the build at "%s"', async (comment) => {
    const failure = await stopped(() => read(comment));
    expect(failure.code).toBe('bad-varve-comment');
    expect(failure.range?.start.line).toBe(2);
    expect(failure.hint).toBeDefined();
  });
});

test('uselessRules warns of rules above what is no step, and of nothing else', () => {
  const text =
    '# varve: cache=never\nFROM scratch\n# varve: ttl=1d\nENV a=b\n# a remark\nENV c=d\n# varve: cache=never\nONBUILD RUN x\n# varve: cache=exact\nRUN y\n';
  const { dockerfile } = parse(text);
  if (dockerfile === undefined) throw new Error('no Dockerfile');
  const warnings = uselessRules(dockerfile);
  expect(warnings.map(({ range, severity }) => [range.start.line, severity])).toEqual([
    [2, 'warning'],
    [4, 'warning'],
    [8, 'warning'],
  ]);
});
