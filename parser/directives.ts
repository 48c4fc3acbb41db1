import type { Diagnostic } from '../core/index.ts';
import type { Directives, DirectiveValue, EscapeCharacter } from './ast.ts';
import type { SourceText } from './source-text.ts';
import { SPACE_CLASS, trimStart } from './whitespace.ts';

export interface DirectivesRead {
  readonly directives: Directives;
  /** The first line that is no directive, from 0. */
  readonly nextLine: number;
  readonly diagnostics: readonly Diagnostic[];
}

const DIRECTIVE = new RegExp(`^#[${SPACE_CLASS}]*([a-zA-Z][a-zA-Z0-9]*)[${SPACE_CLASS}]*=([^\\n]*)$`);
const NAMES = ['syntax', 'escape', 'check'] as const;

/** Docker's frontend and its early releases, from whatever registry. */
const KNOWN_FRONTEND = /^(?:[^/]+\/)?docker\/dockerfile(?:-upstream)?(?:[:@].*)?$/;

type DirectiveName = (typeof NAMES)[number];

/**
 * Reads the directives at the top: https://docs.docker.com/reference/dockerfile/#parser-directives. Anything else, an empty
 * line and a comment too, ends them. After a `#!` line `syntax` and `check` still count, `escape` does not (as in BuildKit).
 */
export function readDirectives(source: SourceText): DirectivesRead {
  const found: Partial<Record<DirectiveName, DirectiveValue>> = {};
  const diagnostics: Diagnostic[] = [];
  const shebang = source.line(0).startsWith('#!');
  let escapeCharacter: EscapeCharacter = '\\';
  let line = shebang ? 1 : 0;
  for (; line < source.lineCount; line += 1) {
    const content = trimStart(source.line(line));
    const match = DIRECTIVE.exec(content);
    const name = NAMES.find((known) => known === match?.[1]?.toLowerCase());
    const written = match?.[2] ?? '';
    const value = written.trim();
    if (name === undefined || value === '' || (shebang && name === 'escape')) break;
    const lineEnd = source.lineEnd(line);
    const start = lineEnd - trimStart(written).length;
    const range = source.range(start, start + value.length);
    if (found[name] !== undefined) {
      diagnostics.push({
        severity: 'error',
        code: 'duplicate-directive',
        message: `only one ${name} parser directive can be used`,
        range: source.range(lineEnd - content.length, start + value.length),
      });
    } else if (name === 'escape' && value !== '\\' && value !== '`') {
      diagnostics.push({
        severity: 'error',
        code: 'invalid-escape',
        message: `the escape directive takes \\ or \`, not ${JSON.stringify(value)}`,
        range,
      });
    } else if (name === 'syntax' && !isKnownFrontend(value)) {
      diagnostics.push({
        severity: 'warning',
        code: 'unknown-frontend',
        message: `the syntax directive names ${value}, which is not pulled: varve reads the language of docker/dockerfile:1`,
        range,
        hint: 'other languages do not work; remove the directive if the file needs none',
      });
    }
    found[name] ??= { value, range };
    if (name === 'escape' && value === '`') escapeCharacter = '`';
  }
  const { syntax, check } = found;
  return {
    directives: {
      escape: escapeCharacter,
      ...(syntax === undefined ? {} : { syntax }),
      ...(check === undefined ? {} : { check }),
    },
    nextLine: line,
    diagnostics,
  };
}

/** Does a syntax directive's value name the language that is read here anyway? What follows a blank is no part of the name. */
export function isKnownFrontend(value: string): boolean {
  return KNOWN_FRONTEND.test(value.split(/[ \t]/, 1)[0] ?? '');
}
