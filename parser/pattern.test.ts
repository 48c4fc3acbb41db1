import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parsePattern, removePrefix, removeSuffix, replaceMatches } from './pattern.ts';

function elements(pattern: string) {
  const parsed = parsePattern(pattern);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

/** The pattern as a regular expression: the oracle. */
function regularExpression(pattern: string, star: '.*' | '.*?'): string {
  return [...pattern].map((character) => ({ '*': star, '?': '.' })[character] ?? character).join('');
}

const patterns = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?'), maxLength: 6 });
const values = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 10 });

test('removePrefix takes what the anchored regular expression would take', () => {
  fc.assert(
    fc.property(patterns, values, fc.boolean(), (pattern, value, longest) => {
      const anchored = new RegExp(`^${regularExpression(pattern, longest ? '.*' : '.*?')}`);
      const expected = value.slice(anchored.exec(value)?.[0].length ?? 0);
      expect(removePrefix(value, elements(pattern), longest)).toBe(expected);
    }),
    { numRuns: 1500 },
  );
});

test('removeSuffix leaves what the longest or shortest suffix leaves', () => {
  fc.assert(
    fc.property(patterns, values, fc.boolean(), (pattern, value, longest) => {
      const whole = new RegExp(`^${regularExpression(pattern, '.*')}$`);
      const starts = Array.from({ length: value.length + 1 }, (_, start) => start).filter((start) =>
        whole.test(value.slice(start)),
      );
      const start = longest ? starts.at(0) : starts.at(-1);
      expect(removeSuffix(value, elements(pattern), longest)).toBe(value.slice(0, start ?? value.length));
    }),
    { numRuns: 1500 },
  );
});

test('replaceMatches replaces what the regular expression would replace', () => {
  fc.assert(
    fc.property(patterns, values, (pattern, value) => {
      const source = regularExpression(pattern, '.*');
      const options = { replacement: '-', all: false };
      expect(replaceMatches(value, elements(pattern), options)).toBe(value.replace(new RegExp(source), '-'));
    }),
    { numRuns: 1500 },
  );
});

test('replaceMatches with all does not count nothing right after a match, as Go', () => {
  const replace = (value: string, pattern: string): string =>
    replaceMatches(value, elements(pattern), { replacement: '-', all: true });
  expect(replace('abcab', 'ab')).toBe('-c-');
  expect(replace('abc', '')).toBe('-a-b-c-');
  expect(replace('abc', '*')).toBe('-');
  expect(replace('', '*')).toBe('-');
  expect(replace('🐳🐳', '?')).toBe('--');
});

test.each(['\\', '\\x', 'a\\'])('parsePattern refuses the escape in %j', (pattern) => {
  expect(parsePattern(pattern).ok).toBe(false);
});

test('parsePattern takes escaped characters for themselves, and brackets too', () => {
  expect(removePrefix('*?\\}/[x]', elements('\\*\\?\\\\\\}\\/[x'), false)).toBe(']');
});
