import type { Diagnostic, SourceRange } from '../core/index.ts';

/**
 * What a Dockerfile may have of each thing. No person comes near; a text that goes beyond would cost seconds, and is refused
 * in the time that it takes to see so.
 */
export const LIMITS = {
  /** UTF-16 units of the text. */
  text: 8 * 1024 * 1024,
  instructions: 40_000,
  /** Words, flags, pairs or JSON strings of one instruction. Shell text counts as one. */
  words: 100_000,
  /** Heredocs of one instruction. */
  heredocs: 1000,
  /** Fields of one `--mount` or `--device`. */
  fields: 1000,
  /** Faults that are told of; reading ends at the last one. */
  faults: 1000,
} as const;

/** The error for what goes beyond a limit. `what` is the plural of a noun. */
export function beyond(limit: keyof typeof LIMITS, what: string, range: SourceRange): Diagnostic {
  return {
    severity: 'error',
    code: 'limit-exceeded',
    message: `there are more than ${LIMITS[limit]} ${what}`,
    range,
    hint: 'this is a limit of varve, against texts that would take too long to read',
  };
}
