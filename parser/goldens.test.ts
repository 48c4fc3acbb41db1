import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { decodePath, type SourceRange } from '../core/index.ts';
import { formatDiagnostic, type ParseOutput, parse, print } from './index.ts';

const FOLDER = new URL('../fixtures/dockerfiles/', import.meta.url);
const NEGATIVE = new URL('negative/', FOLDER);

function names(folder: URL): readonly string[] {
  const suffix = '.Dockerfile';
  const files = readdirSync(folder).filter((name) => name.endsWith(suffix));
  return files.map((name) => name.slice(0, -suffix.length)).sort();
}

function read(folder: URL, name: string): string {
  return decodePath(readFileSync(new URL(`${name}.Dockerfile`, folder)));
}

function isRange(value: unknown): value is SourceRange {
  return typeof value === 'object' && value !== null && 'start' in value && 'end' in value;
}

/** The tree as JSON, ranges as `line:column-line:column`. */
function compact(output: ParseOutput): string {
  const replace = (_key: string, value: unknown): unknown =>
    isRange(value)
      ? `${value.start.line}:${value.start.column}-${value.end.line}:${value.end.column}`
      : value;
  return `${JSON.stringify(output, replace, 2)}\n`;
}

function withoutRanges(output: ParseOutput): unknown {
  return JSON.parse(
    JSON.stringify(output.dockerfile, (key, value: unknown) => (/range$/i.test(key) ? undefined : value)),
  );
}

describe('parse of fixtures/dockerfiles', () => {
  test.each(names(FOLDER))('%s.Dockerfile gives the tree beside it', async (name) => {
    const output = parse(read(FOLDER, name));
    expect(output.dockerfile).toBeDefined();
    await expect(compact(output)).toMatchFileSnapshot(new URL(`${name}.json`, FOLDER).pathname);
  });

  test.each(names(FOLDER))('%s.Dockerfile is the same after print', (name) => {
    const output = parse(read(FOLDER, name));
    const { dockerfile } = output;
    if (dockerfile === undefined) throw new Error('the fixture has an error');
    expect(withoutRanges(parse(print(dockerfile)))).toEqual(withoutRanges(output));
  });
});

describe('parse of fixtures/dockerfiles/negative', () => {
  test.each(names(NEGATIVE))('%s.Dockerfile gives the diagnostics beside it', async (name) => {
    const text = read(NEGATIVE, name);
    const { diagnostics } = parse(text);
    const rendered = diagnostics.map(
      (diagnostic) =>
        `[${diagnostic.code}]\n${formatDiagnostic(diagnostic, { file: `${name}.Dockerfile`, text })}\n`,
    );
    expect(rendered).not.toEqual([]);
    await expect(rendered.join('\n')).toMatchFileSnapshot(new URL(`${name}.txt`, NEGATIVE).pathname);
  });
});

/** Every code that the parser gives. Renaming one breaks those who look for it. */
const CODES = [
  'blank-name',
  'duplicate-directive',
  'duplicate-flag',
  'empty-command',
  'empty-dockerfile',
  'empty-volume',
  'from-arguments',
  'healthcheck-none',
  'healthcheck-type',
  'heredoc-destination',
  'heredoc-name',
  'invalid-escape',
  'invalid-flag-value',
  'invalid-heredoc',
  'invalid-stage-name',
  'json-not-strings',
  'limit-exceeded',
  'missing-argument',
  'missing-equals',
  'no-build-stage',
  'no-stage',
  'not-utf-8',
  'onbuild-chained',
  'onbuild-trigger',
  'shell-not-json',
  'unknown-flag',
  'unknown-frontend',
  'unknown-instruction',
  'unterminated-heredoc',
];

test('fixtures/dockerfiles/negative has every code of the parser', () => {
  const given = names(NEGATIVE).flatMap((name) => parse(read(NEGATIVE, name)).diagnostics);
  expect([...new Set(given.map(({ code }) => code))].sort()).toEqual(CODES);
});
