import { describe, expect, test } from 'vitest';
import type { Diagnostic } from '../core/index.ts';
import { formatDiagnostic } from './format-diagnostic.ts';
import { SourceText } from './source-text.ts';

function diagnostic(text: string, part: string, more: Partial<Diagnostic> = {}): Diagnostic {
  const start = text.indexOf(part);
  const range = new SourceText(text).range(start, start + part.length);
  return { severity: 'error', code: 'c', message: 'wrong', range, ...more };
}

const TEXT = 'one\ntwo\nthree 3\nfour\nfive\nsix\n';

describe('formatDiagnostic', () => {
  test('shows place, two lines around, carets, hint and page', () => {
    const fault = diagnostic(TEXT, '3', { hint: 'count', url: 'https://example.org/' });
    expect(formatDiagnostic(fault, { file: 'a/Dockerfile', text: TEXT })).toBe(
      [
        'a/Dockerfile:3:7: error: wrong',
        '1 | one',
        '2 | two',
        '3 | three 3',
        '  |       ^',
        '4 | four',
        '5 | five',
        'hint: count',
        'see: https://example.org/',
      ].join('\n'),
    );
  });

  test('hands every part to the style', () => {
    const fault = diagnostic('x\n', 'x', { severity: 'warning', hint: 'h' });
    const styled = formatDiagnostic(
      fault,
      { file: 'f', text: 'x\n' },
      { style: (part, text) => `<${part} ${text}>` },
    );
    expect(styled).toBe(
      '<place f:1:1:> <warning warning:> <message wrong>\n<gutter 1 |> <source x>\n<gutter   |> <caret ^>\n<hint hint:> h',
    );
  });

  test('shows the first lines of a long fault', () => {
    const text = `RUN x${' \\\n  y'.repeat(20)}\nCMD z\n`;
    const rendered = formatDiagnostic(diagnostic(text, text.trimEnd()), { file: 'f', text });
    expect(rendered.split('\n').filter((line) => line.includes('^')).length).toBe(6);
    expect(rendered).not.toContain('CMD');
    expect(rendered.endsWith('. |')).toBe(true);
  });

  test('renders a fault at the end of the text, and in an empty one', () => {
    const atEnd = { ...diagnostic('FROM a', 'a'), range: new SourceText('FROM a').range(6, 6) };
    expect(formatDiagnostic(atEnd, { file: 'f', text: 'FROM a' })).toContain('  |       ^');
    const empty = { ...atEnd, range: new SourceText('').range(0, 0) };
    expect(formatDiagnostic(empty, { file: 'f', text: '' })).toBe('f:1:1: error: wrong');
  });

  test('lets no control character of the source or the message reach the terminal', () => {
    const text = 'a\u001b[31m\u009b\u202eb\u0007\n';
    const fault = diagnostic(text, 'b', { message: 'bad \u001b]0;x', hint: '\u001bc' });
    expect(formatDiagnostic(fault, { file: 'f', text })).not.toMatch(
      /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/,
    );
  });
});
