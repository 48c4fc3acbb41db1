import type { SourcePosition, SourceRange } from '../core/index.ts';

/**
 * A text that tells line and column of an offset. Lines end with LF; a CR before it belongs to the line's end. A byte order
 * mark at the start belongs to no line.
 */
export class SourceText {
  /** With lone surrogates, which stand for bytes that are not UTF-8 (as in paths). */
  readonly raw: string;
  /** With U+FFFD in their places, as BuildKit reads them wherever it does not keep them. */
  readonly text: string;
  readonly #lineStarts: readonly number[];
  /** The line that was asked for last: the next one asked for is mostly the same or near. */
  #lastLine = 0;

  constructor(text: string) {
    this.raw = text;
    this.text = text.toWellFormed();
    const starts = [text.startsWith('\ufeff') ? 1 : 0];
    for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
    this.#lineStarts = starts;
  }

  /** What follows a final newline is no line. */
  get lineCount(): number {
    const starts = this.#lineStarts.length;
    return this.lineStart(starts - 1) >= this.text.length ? starts - 1 : starts;
  }

  /** Where line `index` (from 0) starts. */
  lineStart(index: number): number {
    return this.#lineStarts[index] ?? this.text.length;
  }

  /** Where the content of line `index` (from 0) ends: before its CRs and LF. */
  lineEnd(index: number): number {
    const start = this.lineStart(index);
    let end = this.lineStart(index + 1);
    if (end > start && this.text[end - 1] === '\n') end -= 1;
    while (end > start && this.text[end - 1] === '\r') end -= 1;
    return end;
  }

  /** The content of line `index` (from 0), without its end. */
  line(index: number): string {
    return this.text.slice(this.lineStart(index), this.lineEnd(index));
  }

  /** Are there bytes in `[start, end)` that are not UTF-8? */
  isDamaged(start: number, end: number): boolean {
    return this.raw !== this.text && !this.raw.slice(start, end).isWellFormed();
  }

  position(offset: number): SourcePosition {
    let low = 0;
    let high = this.#lineStarts.length - 1;
    if (this.lineStart(this.#lastLine) <= offset) {
      low = this.#lastLine;
      if (offset < this.lineStart(low + 1)) high = low;
    }
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.lineStart(middle) <= offset) low = middle;
      else high = middle - 1;
    }
    this.#lastLine = low;
    return { line: low + 1, column: offset - this.lineStart(low) + 1, offset };
  }

  range(start: number, end: number): SourceRange {
    return { start: this.position(start), end: this.position(end) };
  }
}

/** Text put together from stretches of a source text, which knows where each character came from. */
export class JoinedText {
  readonly text: string;
  readonly source: SourceText;
  /** Where each piece starts here and in the source, in order. */
  readonly #pieces: readonly { readonly at: number; readonly from: number; readonly length: number }[];

  constructor(source: SourceText, stretches: readonly { readonly start: number; readonly end: number }[]) {
    const parts: string[] = [];
    const pieces: { at: number; from: number; length: number }[] = [];
    let length = 0;
    for (const { start, end } of stretches) {
      if (end <= start) continue;
      pieces.push({ at: length, from: start, length: end - start });
      parts.push(source.text.slice(start, end));
      length += end - start;
    }
    this.text = parts.join('');
    this.source = source;
    this.#pieces = pieces;
  }

  /** The source range of `[start, end)`. Its end lies behind the last character, not before the one that follows. */
  range(start: number, end: number): SourceRange {
    const from = this.#offset(start);
    return this.source.range(from, end > start ? this.#offset(end - 1) + 1 : from);
  }

  /** Where the first byte stands that is not UTF-8; undefined where all are. */
  get damage(): SourceRange | undefined {
    for (const { at, from, length } of this.#pieces) {
      if (!this.source.isDamaged(from, from + length)) continue;
      const raw = this.source.raw.slice(from, from + length);
      const text = this.text.slice(at, at + length);
      let index = 0;
      while (raw[index] === text[index]) index += 1;
      return this.source.range(from + index, from + index + 1);
    }
    return undefined;
  }

  #offset(at: number): number {
    let low = 0;
    let high = this.#pieces.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#pieces[middle]?.at ?? 0) <= at) low = middle;
      else high = middle - 1;
    }
    const piece = this.#pieces[low];
    return piece === undefined ? 0 : piece.from + (at - piece.at);
  }
}
