import type { Diagnostic, SourceRange } from '../core/index.ts';
import { SourceText } from './source-text.ts';

/** The parts of a rendered diagnostic that a terminal may show in colours. */
export type DiagnosticPart =
  | 'place'
  | 'error'
  | 'warning'
  | 'message'
  | 'gutter'
  | 'source'
  | 'caret'
  | 'hint';

export interface FormatOptions {
  /** Dresses one part of one line, for instance in colours; absent: plain text. */
  readonly style?: (part: DiagnosticPart, text: string) => string;
}

/** Lines shown above and below the fault. */
const CONTEXT_LINES = 2;
/** Of a fault that spans more lines than this, only its first ones are shown. */
const MAX_FAULT_LINES = 6;
const MAX_LINE_WIDTH = 160;

/**
 * Renders a diagnostic for people: `file:line:column: error: message`, an excerpt with two lines of context and carets
 * under the range, then the hint. Lines are joined with LF; there is none at the end.
 */
export function formatDiagnostic(
  diagnostic: Diagnostic,
  source: { readonly file: string; readonly text: string },
  options: FormatOptions = {},
): string {
  const style = options.style ?? ((_part, text) => text);
  const { range, severity, message, hint } = diagnostic;
  const place = `${source.file}:${range.start.line}:${range.start.column}:`;
  const head = `${style('place', place)} ${style(severity, `${severity}:`)} ${style('message', visible(message))}`;
  const lines = [head, ...excerpt(range, new SourceText(source.text), { style, context: CONTEXT_LINES })];
  if (hint !== undefined) lines.push(`${style('hint', 'hint:')} ${visible(hint)}`);
  if (diagnostic.url !== undefined) lines.push(`${style('hint', 'see:')} ${diagnostic.url}`);
  return lines.join('\n');
}

/** The lines of a range alone, with their numbers and carets under it. */
export function formatExcerpt(range: SourceRange, text: string, options: FormatOptions = {}): string[] {
  const style = options.style ?? ((_part, part) => part);
  return excerpt(range, new SourceText(text), { style, context: 0 });
}

function excerpt(
  range: SourceRange,
  text: SourceText,
  { style, context }: { readonly style: NonNullable<FormatOptions['style']>; readonly context: number },
): string[] {
  if (text.lineCount === 0) return [];
  const first = range.start.line;
  const endsAtLineStart = range.end.column === 1 && range.end.line > first;
  const lastOfFault = Math.min(endsAtLineStart ? range.end.line - 1 : range.end.line, text.lineCount);
  const last = Math.min(lastOfFault, first + MAX_FAULT_LINES - 1);
  const from = Math.max(1, first - context);
  const to = last < lastOfFault ? last : Math.min(text.lineCount, last + context);
  const width = String(to).length;
  const lines: string[] = [];
  for (let number = from; number <= to; number += 1) {
    const content = text.line(number - 1);
    const gutter = style('gutter', `${String(number).padStart(width)} |`);
    const shown = clip(visible(content));
    lines.push(shown === '' ? gutter : `${gutter} ${style('source', shown)}`);
    if (number < first || number > last) continue;
    if (number !== first && /^\s*(?:#|$)/.test(content)) continue;
    const start = number === first ? range.start.column - 1 : content.length - content.trimStart().length;
    const end = number === range.end.line ? range.end.column - 1 : content.length;
    const carets = underline(content, start, end);
    if (carets !== undefined)
      lines.push(`${style('gutter', `${' '.repeat(width)} |`)} ${style('caret', carets)}`);
  }
  if (last < lastOfFault) lines.push(style('gutter', `${'.'.repeat(width)} |`));
  return lines;
}

/** Carets below `[start, end)` of a line, at least one; undefined where they lie beyond what is shown. */
function underline(content: string, start: number, end: number): string | undefined {
  const before = visible(content.slice(0, start));
  const marked = visible(content.slice(start, end));
  const indent = columns(before);
  if (indent > MAX_LINE_WIDTH || (start >= end && content !== '' && start > content.length)) return undefined;
  const width = Math.max(1, Math.min(columns(marked.trimEnd()), MAX_LINE_WIDTH - indent));
  return ' '.repeat(indent) + '^'.repeat(width);
}

/** Tabs as four blanks, so that carets stand below; other control characters as Unicode's pictures of them. */
function visible(text: string): string {
  return text
    .replaceAll('\t', '    ')
    .replace(/[\u0000-\u001f]/g, (character) => String.fromCharCode(0x2400 + character.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, '\ufffd');
}

function clip(text: string): string {
  const characters = [...text];
  return characters.length > MAX_LINE_WIDTH ? `${characters.slice(0, MAX_LINE_WIDTH - 1).join('')}…` : text;
}

/** Columns in a terminal: wide East Asian characters and emoji take two, combining marks none. */
function columns(text: string): number {
  let count = 0;
  for (const character of text) {
    if (/\p{Mark}|\u200d|\ufe0f/u.test(character)) continue;
    count +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/u.test(
        character,
      )
        ? 2
        : 1;
  }
  return count;
}
