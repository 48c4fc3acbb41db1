import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SourceRange } from '../core/index.ts';
import { type Dockerfile, formatDiagnostic, parse, parseInstruction, print } from './index.ts';
import { INSTRUCTIONS } from './lexer.ts';
import { SourceText } from './source-text.ts';
import { trim } from './whitespace.ts';

function withoutRanges(dockerfile: Dockerfile): unknown {
  return JSON.parse(
    JSON.stringify(dockerfile, (key, value: unknown) => (/range$/i.test(key) ? undefined : value)),
  );
}

interface Placed {
  readonly text: string;
  readonly range: SourceRange;
}

function isPlaced(value: object): value is Placed {
  return 'text' in value && 'range' in value && typeof value.text === 'string';
}

/** Every word of a tree, and whether it stands in a flag. */
function wordsIn(value: unknown, inFlags = false): readonly (Placed & { readonly inFlags: boolean })[] {
  if (typeof value !== 'object' || value === null) return [];
  const inner = Object.entries(value).flatMap(([key, part]) => wordsIn(part, inFlags || key === 'options'));
  return isPlaced(value) ? [{ ...value, inFlags }, ...inner] : inner;
}

/** Words that stand on one line lie where their range says, but for JSON's quotes and the blanks that VOLUME trims. */
function checkRanges(dockerfile: Dockerfile, text: string): void {
  const source = new SourceText(text);
  for (const { text: word, range, inFlags } of wordsIn(dockerfile)) {
    expect(source.position(range.start.offset)).toEqual(range.start);
    expect(source.position(range.end.offset)).toEqual(range.end);
    if (range.start.line !== range.end.line) continue;
    const written = text.slice(range.start.offset, range.end.offset);
    // Words out of flags: their quotes and escapes are gone.
    if (inFlags) {
      expect(written.length).toBeGreaterThanOrEqual(word.length);
      continue;
    }
    // A lone quote is a word of its own, with whatever blanks VOLUME trims behind it.
    const isJson = /^".*"$/s.test(written) && written !== word;
    if (isJson) expect(trim(String(JSON.parse(written)))).toBe(trim(word));
    else expect(trim(written)).toBe(trim(word));
  }
}

/** What holds for every text. */
function check(text: string): void {
  const { dockerfile, diagnostics } = parse(text);
  const hasError = diagnostics.some(({ severity }) => severity === 'error');
  expect(dockerfile === undefined).toBe(hasError);
  let previous = 0;
  for (const diagnostic of diagnostics) {
    const { start, end } = diagnostic.range;
    expect(start.offset).toBeGreaterThanOrEqual(previous);
    expect(end.offset).toBeGreaterThanOrEqual(start.offset);
    expect(end.offset).toBeLessThanOrEqual(text.length);
    previous = start.offset;
    expect(formatDiagnostic(diagnostic, { file: 'f', text })).toContain(`f:${start.line}:${start.column}: `);
  }
  if (dockerfile !== undefined) {
    checkRanges(dockerfile, text);
    const again = parse(print(dockerfile)).dockerfile;
    expect(again && withoutRanges(again)).toEqual(withoutRanges(dockerfile));
  }
}

const word = fc.string({
  unit: fc.constantFrom(...'ab=$"\'\\`[],-<#{}: \t\u00a0é'),
  maxLength: 12,
});
const piece = fc.oneof(
  { weight: 4, arbitrary: word },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      '["a", "b"]',
      '[1]',
      '[',
      '<<EOF',
      "<<-'EOF'",
      '3<<E"O"F',
      '--from=x',
      '--mount=type=cache',
      '--mount=target=\\"a,b\\",ro',
      '--exclude="a b"',
      '--device=a,required',
      '--interval=1s',
      '--platform=$p',
      '--link',
      '--',
      'k=v',
      'k="v w"',
      'AS',
      'NONE',
      'CMD',
      '\\\n',
      '`\n',
      '\\  \n',
      '\\\n# c\n',
      '\\\n\n',
    ),
  },
);
const keyword = fc.oneof(fc.constantFrom(...INSTRUCTIONS), fc.constantFrom('run', 'RUNN', 'ONBUILD RUN', ''));
const line = fc
  .tuple(keyword, fc.array(piece, { maxLength: 5 }))
  .map(([name, pieces]) => [name, ...pieces].join(' '));
const other = fc.constantFrom(
  '',
  '# comment',
  '# escape=`',
  '# syntax=x',
  '#',
  'EOF',
  '\tEOF',
  'text',
  '\ufeff',
);
const newline = fc.constantFrom('\n', '\n', '\n', '\r\n', '\r');
const file = fc
  .tuple(
    fc.constantFrom('', 'FROM scratch\n', '# escape=`\nFROM a\n', '\ufeffFROM a\r\n'),
    fc.array(fc.tuple(fc.oneof({ weight: 3, arbitrary: line }, other), newline), { maxLength: 8 }),
  )
  .map(([head, lines]) => head + lines.map(([text, end]) => text + end).join(''));

describe('flags', () => {
  const value = fc.string({ unit: fc.constantFrom(...'ab=,"\'\\ $`\té🐳'), maxLength: 10 });
  /** Written so that it stands for `text` whatever it holds. */
  const escaped = (text: string): string => text.replace(/["'\\\s]/g, '\\$&');
  const csv = (text: string): string => `"${text.replaceAll('"', '""')}"`;

  test('keep any value, escaped or in quotes of either kind', () => {
    fc.assert(
      fc.property(value, fc.constantFrom('', "'", '"'), (text, quote) => {
        const written = quote === '' ? escaped(text) : quote + text.replace(/["'\\]/g, '\\$&') + quote;
        const { instruction } = parseInstruction(`COPY --exclude=${written} --exclude=end a b`);
        if (instruction?.kind !== 'COPY') throw new Error('no COPY');
        expect(instruction.options.exclude.map((one) => one.text)).toEqual([text, 'end']);
      }),
      { numRuns: 500 },
    );
  });

  test('of mounts keep any fields', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('target', 'SRC', 'x y'), value), { minLength: 1, maxLength: 4 }),
        (fields) => {
          const written = fields.map(([key, text]) => escaped(csv(`${key}=${text}`))).join(',');
          const { instruction } = parseInstruction(`RUN --mount=${written} x`);
          if (instruction?.kind !== 'RUN') throw new Error('no RUN');
          const [mount] = instruction.options.mounts;
          expect(mount?.fields.map((field) => [field.key, field.value?.text])).toEqual(
            fields.map(([key, text]) => [key.toLowerCase(), text]),
          );
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('parse, print and formatDiagnostic', () => {
  test('of texts that look like Dockerfiles never throw, and print keeps the tree', () => {
    fc.assert(fc.property(file, check), { numRuns: 1500 });
  });

  test('of a lone quote before a blank that is not ASCII never throw, and print keeps the tree', () => {
    check('FROM scratch\nVOLUME "\u00a0 a\n');
  });

  test('of one line that looks like an instruction never throw, and print keeps the tree', () => {
    fc.assert(
      fc.property(line, (text) => {
        check(`FROM scratch\n${text}\n`);
        const { instruction, diagnostics } = parseInstruction(text);
        expect(instruction === undefined).toBe(diagnostics.some(({ severity }) => severity === 'error'));
      }),
      { numRuns: 1500 },
    );
  });

  test('of any text never throw', () => {
    const unit = fc.oneof(fc.nat(0x7f), fc.nat(0xffff)).map((code) => String.fromCharCode(code));
    fc.assert(fc.property(fc.string({ unit, maxLength: 60 }), check), { numRuns: 400 });
  });

  test('of sample files with a stretch cut out never throw, and print keeps the tree', () => {
    const folder = new URL('../fixtures/dockerfiles/', import.meta.url);
    const names = readdirSync(folder).filter((name) => name.endsWith('.Dockerfile'));
    const texts = names.map((name) => readFileSync(new URL(name, folder), 'utf8'));
    fc.assert(
      fc.property(fc.constantFrom(...texts), fc.nat(), fc.nat(12), (text, at, length) => {
        const start = at % text.length;
        check(text.slice(0, start) + text.slice(start + length));
      }),
      { numRuns: 800 },
    );
  });
});
