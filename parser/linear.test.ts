import nearley from 'nearley';
import { describe, expect, test } from 'vitest';
import compiled from './grammar.generated.ts';
import { parse } from './index.ts';
import { InstructionLexer } from './lexer.ts';
import { LIMITS } from './limits.ts';
import { TokenFeed } from './syntax.ts';

interface Column {
  readonly states: readonly unknown[];
}

function isColumns(value: unknown): value is readonly Column[] {
  return Array.isArray(value) && value.every((column) => typeof column === 'object' && 'states' in column);
}

/** Earley states of the busiest column, and all of them, for one instruction. */
function work(text: string): { readonly tokens: number; readonly most: number; readonly all: number } {
  const tokens = new InstructionLexer('\\').tokenize(text);
  const grammar = nearley.Grammar.fromCompiled({
    ParserRules: compiled.ParserRules,
    ParserStart: compiled.ParserStart,
  });
  const parser = new nearley.Parser(grammar, { lexer: new TokenFeed(tokens), keepHistory: true });
  parser.feed('');
  const table: unknown = Reflect.get(parser, 'table');
  if (!isColumns(table)) throw new Error('nearley keeps its columns elsewhere now');
  const sizes = table.map((column) => column.states.length);
  return {
    tokens: tokens.length,
    most: Math.max(...sizes.slice(1)),
    all: sizes.reduce((sum, size) => sum + size, 0),
  };
}

const many = (count: number, item: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => item(index)).join(' ');

describe('the grammar takes a constant number of Earley states per token', () => {
  test.each([
    ['ENV', (count: number) => `ENV ${many(count, (index) => `K${index}="v w"`)}`],
    ['ARG', (count: number) => `ARG ${many(count, (index) => `K${index}`)}`],
    ['COPY', (count: number) => `COPY ${many(count, (index) => `f${index}`)}`],
    ['COPY of JSON', (count: number) => `COPY [${many(count, () => '"x",')} "y"]`],
    ['RUN with flags', (count: number) => `RUN ${many(count, () => '--mount=x')} cmd`],
    ['CMD of JSON', (count: number) => `CMD [${many(count, () => '"x",')} "y"]`],
    ['EXPOSE', (count: number) => `EXPOSE ${many(count, String)}`],
    ['ONBUILD', (count: number) => `ONBUILD VOLUME ${many(count, String)}`],
  ])('in a long %s', (_name, make) => {
    const short = work(make(100));
    const long = work(make(1000));
    expect(long.tokens).toBeGreaterThan(900);
    expect(long.most).toBeLessThanOrEqual(short.most);
    expect(long.all / long.tokens).toBeLessThanOrEqual(short.all / short.tokens);
    expect(long.most).toBeLessThan(40);
  });

  test('of which few are spent before the first token', () => {
    expect(work('RUN x').all).toBeLessThan(120);
  });
});

/** Far above what a linear parser takes, far below what a quadratic one would. */
const GENEROUS_MS = 10_000;

describe('parse takes time in proportion to the text', () => {
  const lines = 10_000;
  test.each([
    ['instructions', many(lines, (index) => `RUN step ${index} && "x"\n`).replaceAll('\n ', '\n')],
    ['continued lines of one RUN', `RUN a${' \\\n  && b'.repeat(lines)}\n`],
    ['continued lines of one ENV', `ENV${many(lines, (index) => `\\\n K${index}=v`)}\n`],
    ['lines of one heredoc', `RUN <<EOF\n${'line\n'.repeat(lines)}EOF\n`],
    ['comments in one instruction', `RUN a \\\n${'# c\n'.repeat(lines)}b\n`],
    ['empty continuations', `RUN a \\\n${'\n'.repeat(lines)}b\n`],
    [
      'heredocs of one COPY',
      `COPY ${many(1000, (index) => `<<f${index}`)} /d/\n${many(1000, (index) => `f${index}\n`).replaceAll('\n ', '\n')}`,
    ],
    ['one JSON array', `CMD [${many(lines, () => '"x",\\\n')} "y"]\n`],
    ['one long quotation', `ENV A="${'x'.repeat(1_000_000)}"\n`],
    ['one long flag', `RUN --mount="${'x'.repeat(1_000_000)}" a\n`],
  ])('for many %s', { timeout: GENEROUS_MS }, (_name, text) => {
    expect(parse(`FROM scratch\n${text}`).dockerfile).toBeDefined();
  });

  test.each([
    [
      'a file of 1 MiB',
      many(35_000, (index) => `RUN step ${index} && echo "hello"\n`).replaceAll('\n ', '\n'),
    ],
    [
      '5,000 stages',
      many(5000, (index) => `FROM s AS s${index}\nCOPY --from=s a b\nRUN x\n`).replaceAll('\n ', '\n'),
    ],
    ['a line of 1 MiB', `RUN ${'x '.repeat(2 ** 19)}\n`],
    ['a line of 1 MiB with many <<', `RUN ${'$a<<b '.repeat(2 ** 17)}x\n`],
    [
      '100 heredocs',
      `RUN ${many(100, (index) => `<<E${index}`)} cat\n${many(100, (index) => `<<E\nE${index}\n`).replaceAll('\n ', '\n')}`,
    ],
  ])('for %s', { timeout: GENEROUS_MS }, (_name, text) => {
    expect(parse(`FROM scratch\n${text}`).dockerfile).toBeDefined();
  });

  test.each([
    ['text', `RUN x\n#${'x'.repeat(LIMITS.text)}\n`, 1],
    ['instructions', 'USER a\n'.repeat(LIMITS.instructions), LIMITS.instructions + 1],
    ['words', `RUN x\nEXPOSE ${'1 '.repeat(LIMITS.words + 1)}\n`, 3],
    ['words of JSON', `CMD [${'"x",'.repeat(LIMITS.words)}"x"]\n`, 2],
    ['heredocs', `RUN ${'<<a '.repeat(LIMITS.heredocs + 1)}\n`, 2],
    ['faults', 'BAD\n'.repeat(LIMITS.faults + 1), LIMITS.faults + 2],
  ])('up to a limit: more %s are refused', { timeout: GENEROUS_MS }, (_name, text, line) => {
    const { dockerfile, diagnostics } = parse(`FROM scratch\n${text}`);
    expect(dockerfile).toBeUndefined();
    expect(diagnostics.at(-1)).toMatchObject({ code: 'limit-exceeded', range: { start: { line } } });
  });

  test('for many faulty instructions, of which the first thousand are told of', {
    timeout: GENEROUS_MS,
  }, () => {
    const { diagnostics } = parse(`FROM scratch\n${'BAD <<x y\nCOPY one\n'.repeat(lines / 2)}`);
    expect(diagnostics.length).toBe(1001);
    expect(diagnostics.at(-1)).toMatchObject({ code: 'limit-exceeded', range: { start: { line: 1002 } } });
  });
});
