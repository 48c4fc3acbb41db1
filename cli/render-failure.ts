import { type BuildFailure, type Diagnostic, hasNoRoom, MachineError, UsageError } from '../core/index.ts';
import { safeText } from './progress/text.ts';
import type { Style } from './style.ts';

/** Prints one diagnostic with an excerpt of the text that its range points into. */
export type FormatDiagnostic = (
  diagnostic: Diagnostic,
  source: { readonly file: string; readonly text: string },
) => string;

/**
 * A failed build as text, ending in a newline: what, where (with an excerpt, given the Dockerfile's text) and what to do.
 * Every parse error is told, not only the first.
 */
export function renderBuildFailure(
  failure: BuildFailure,
  context: {
    readonly dockerfile?: { readonly file: string; readonly text: string };
    readonly format: FormatDiagnostic;
    readonly style: Style;
  },
): string {
  const { dockerfile, format, style } = context;
  const diagnostics = diagnosticsOf(failure);
  if (dockerfile !== undefined && diagnostics.length > 0) {
    const told = diagnostics.map((diagnostic) => withNewline(format(diagnostic, dockerfile)));
    return told.join('\n');
  }
  const file = dockerfile?.file ?? 'Dockerfile';
  const where = failure.range === undefined ? '' : ` (${file}:${failure.range.start.line})`;
  return `${style.red('ERROR:')} ${safeText(failure.message)}${where}\n${hintLine(failure.hint, style)}`;
}

function diagnosticsOf(failure: BuildFailure): readonly Diagnostic[] {
  if (failure.diagnostics !== undefined && failure.diagnostics.length > 0) return failure.diagnostics;
  if (failure.range === undefined) return [];
  const { code, message, hint, range } = failure;
  return [{ severity: 'error', code, message, range, ...(hint === undefined ? {} : { hint }) }];
}

/**
 * Anything thrown, as text for standard error, ending in a newline. An expected error is told in words; of a bug (anything
 * that is neither `MachineError` nor `UsageError`) the stack is shown, with the wish to report it.
 */
export function renderError(
  error: unknown,
  context: { readonly command: string; readonly debug: boolean; readonly style: Style },
): string {
  const { command, debug, style } = context;
  if (error instanceof UsageError) {
    const help = `See 'varve${command === '' ? '' : ` ${command}`} --help'.\n`;
    return `${style.red('varve:')} ${safeText(error.message)}\n${hintLine(error.hint, style)}${help}`;
  }
  if (error instanceof MachineError) {
    const causes = debug ? `${stackOf(error)}\n${causeChain(error)}` : '';
    return `${style.red('varve:')} ${safeText(error.message)} ${style.dim(`[${error.code}]`)}\n${hintLine(error.hint, style)}${causes}`;
  }
  // Wherever a write fails so, the machine is to blame.
  if (error instanceof Error && hasNoRoom(error)) {
    return `${style.red('varve:')} the disk is full: ${safeText(error.message)} ${style.dim('[disk-full]')}\n`;
  }
  return [
    `${style.red('varve:')} this is a bug in varve, not in your build:`,
    stackOf(error),
    `${causeChain(error)}Please report it with the lines above and the output of 'varve version'.\n`,
  ].join('\n');
}

/** Usage 2, everything else 1; `run` has its own (see `exitCodeOfRun`). */
export function exitCodeOf(error: unknown): number {
  return error instanceof UsageError ? 2 : 1;
}

function hintLine(hint: string | undefined, style: Style): string {
  return hint === undefined ? '' : `${style.cyan('hint:')} ${safeText(hint)}\n`;
}

function stackOf(error: unknown): string {
  if (error instanceof Error) return error.stack ?? `${error.name}: ${error.message}`;
  return `thrown: ${String(error)}`;
}

/** `caused by:` lines, outermost first; a ring of causes ends where it began. */
function causeChain(error: unknown): string {
  const seen = new Set<unknown>([error]);
  let text = '';
  let cause = error instanceof Error ? error.cause : undefined;
  while (cause !== undefined && !seen.has(cause)) {
    seen.add(cause);
    text += `caused by: ${stackOf(cause)}\n`;
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return text;
}

function withNewline(text: string): string {
  return text.endsWith('\n') ? text : `${text}\n`;
}
