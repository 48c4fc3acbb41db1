import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { onlyReading, parseTokens } from './grammar.ts';
import { parseInstruction } from './index.ts';
import { InstructionLexer } from './lexer.ts';

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

test('grammar.generated.ts is what nearleyc makes of grammar.ne', () => {
  const folder = mkdtempSync(join(tmpdir(), 'varve-grammar-'));
  try {
    const compiled = join(folder, 'grammar.ts');
    const nearleyc = here('../node_modules/nearley/bin/nearleyc.js');
    execFileSync(process.execPath, [nearleyc, '--quiet', here('grammar.ne'), '--out', compiled]);
    expect(readFileSync(here('grammar.generated.ts'), 'utf8')).toBe(readFileSync(compiled, 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('every token type of the grammar is one that the lexer makes', () => {
  const grammar = readFileSync(here('grammar.ne'), 'utf8').replace(
    /\{%[\s\S]*?%\}|@\{%[\s\S]*?%\}|#.*$/gm,
    '',
  );
  const types = new Set([...grammar.matchAll(/%(\w+)/g)].map(([, type]) => type));
  const lexer = new InstructionLexer('\\');
  const samples = [
    'FROM --platform=x a AS b',
    'MAINTAINER m',
    'ONBUILD RUN x',
    'CMD ["a", "b"]',
    'ENTRYPOINT x',
    'COPY a b',
    'ADD a b',
    'ENV a=b',
    'LABEL a b',
    'ARG a',
    'EXPOSE 1',
    'VOLUME /v',
    'WORKDIR /',
    'USER u',
    'STOPSIGNAL 9',
    'SHELL ["a"]',
    'HEALTHCHECK NONE',
    'HEALTHCHECK CMD x',
  ];
  const made = new Set(samples.flatMap((text) => lexer.tokenize(text).map((token) => token.type)));
  expect([...types].filter((type) => !made.has(type ?? ''))).toEqual([]);
  for (const text of samples) expect(parseTokens(lexer.tokenize(text)), text).toBeDefined();
});

test('parseTokens of tokens that make no instruction gives undefined', () => {
  const lexer = new InstructionLexer('\\');
  expect(parseTokens(lexer.tokenize('FROM a b'))).toBeUndefined();
  expect(parseTokens(lexer.tokenize('COPY a'))).toBeUndefined();
  expect(parseTokens([])).toBeUndefined();
});

test('onlyReading of two readings throws: an ambiguous grammar is a bug', () => {
  const tokens = new InstructionLexer('\\').tokenize('RUN x');
  expect(onlyReading([], tokens)).toBeUndefined();
  expect(onlyReading(['one'], tokens)).toBe('one');
  expect(() => onlyReading(['one', 'two'], tokens)).toThrow('reads "RUN x" in 2 ways');
});

describe('tokens of one type in a row', () => {
  const many = (count: number, item: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => item(index)).join(' ');
  const kept = (text: string): readonly string[] => {
    const { instruction, diagnostics } = parseInstruction(text);
    switch (instruction?.kind) {
      case 'COPY':
        return [
          ...instruction.flags.map(({ value }) => value ?? ''),
          ...instruction.sources.map((source) => (source.kind === 'path' ? source.word.text : '')),
          instruction.destination.text,
        ];
      case 'CMD':
        return instruction.command.form === 'exec' ? instruction.command.args : [];
      case 'ENV':
        return instruction.pairs.map(({ key }) => key.text);
      case 'EXPOSE':
        return instruction.words.map((word) => word.text);
      default:
        throw new Error(JSON.stringify(diagnostics));
    }
  };

  test.each([1, 2, 3, 4, 5, 6, 20])('are all kept, in order: %i of them', (count) => {
    const names = Array.from({ length: count }, (_, index) => `w${index}`);
    expect(kept(`COPY ${names.join(' ')} end`)).toEqual([...names, 'end']);
    expect(kept(`COPY [${names.map((name) => `"${name}"`).join(',')}, "end"]`)).toEqual([...names, 'end']);
    expect(kept(`COPY ${many(count, (index) => `--exclude=w${index}`)} a end`)).toEqual([
      ...names,
      'a',
      'end',
    ]);
    expect(kept(`CMD [${names.map((name) => `"${name}"`).join(' , ')}]`)).toEqual(names);
    expect(kept(`ENV ${many(count, (index) => `w${index}=1`)}`)).toEqual(names);
    expect(kept(`EXPOSE ${names.join('\t')}`)).toEqual(names);
  });
});
