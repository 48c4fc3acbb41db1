import { err, ok, type Result } from '../core/index.ts';
import { type ExpandError, expandText } from './expand.ts';
import { LIMITS } from './limits.ts';

/** A heredoc as announced on the instruction's line. `start` and `end` count in the joined text. */
export interface HeredocStart {
  readonly name: string;
  readonly expand: boolean;
  readonly chomp: boolean;
  readonly fileDescriptor: number;
  readonly start: number;
  readonly end: number;
}

const HEREDOC = /^(\d*)<<(-?)([^<]*)$/;
/** Larger ones are no file descriptors. */
const MAX_DESCRIPTOR = 2 ** 31 - 1;
const QUOTES = /['"]/g;

/** The shell's escape, whatever the `escape` directive says (as BuildKit has it). */
const LEX = { escape: '\\', lookup: () => undefined, keepUnset: true } as const;

/**
 * The heredocs that a line of RUN, COPY or ADD announces. A line that a shell could not split (a quotation that does not
 * end) announces none, as in BuildKit. Those beyond the first that is over the limit are left out.
 */
export function heredocsOf(line: string): Result<readonly HeredocStart[], ExpandError> {
  if (!line.includes('<<')) return ok([]);
  const split = expandText(line, { ...LEX, quotes: 'keep', rawEscapes: true });
  if (!split.ok) return ok([]);
  const heredocs: HeredocStart[] = [];
  for (const word of split.value.words) {
    const heredoc = heredocOf(word.text);
    if (!heredoc.ok)
      return err({ message: heredoc.error.message, offset: word.start + heredoc.error.offset });
    if (heredoc.value !== undefined) heredocs.push({ ...heredoc.value, start: word.start, end: word.end });
    if (heredocs.length > LIMITS.heredocs) break;
  }
  return ok(heredocs);
}

/** Reads one word, `<<EOF`; undefined where it is no heredoc. Quotes anywhere in the name keep the body literal. */
export function heredocOf(
  word: string,
): Result<Omit<HeredocStart, 'start' | 'end'> | undefined, ExpandError> {
  const match = HEREDOC.exec(word);
  if (match === null) return ok(undefined);
  const [, descriptor = '', dash = '', rest = ''] = match;
  const plain = expandText(rest, { ...LEX, quotes: 'remove', rawEscapes: false });
  if (!plain.ok) return plain;
  const quoted = expandText(rest, { ...LEX, quotes: 'keep', rawEscapes: false });
  if (!quoted.ok) return quoted;
  const [name, ...others] = plain.value.words;
  if (name === undefined || others.length > 0) return ok(undefined);
  const fileDescriptor = Number(descriptor);
  return ok({
    name: name.text,
    expand: countQuotes(name.text) === countQuotes(quoted.value.words[0]?.text ?? ''),
    chomp: dash === '-',
    fileDescriptor: Math.min(fileDescriptor, MAX_DESCRIPTOR),
  });
}

/** Whether a RUN's text is one heredoc and nothing else (`<<EOF`): then the body is the script itself. */
export function isLoneHeredoc(text: string): boolean {
  const heredoc = heredocOf(text);
  return heredoc.ok && heredoc.value !== undefined;
}

function countQuotes(text: string): number {
  return text.match(QUOTES)?.length ?? 0;
}
