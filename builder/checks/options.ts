import { err, ok, type Result } from '../../core/index.ts';
import type { Rule } from './rules.ts';

/** The build argument that takes the place of the `check` directive. */
export const CHECK_ARG = 'BUILDKIT_DOCKERFILE_CHECK';

/** Which checks are carried out, and whether what they find ends the build. */
export interface CheckOptions {
  /** Names of rules that are left out. */
  readonly skip: ReadonlySet<string> | 'all';
  /** Names of experimental rules that are carried out. */
  readonly experimental: ReadonlySet<string> | 'all';
  /** A build with a warning fails. */
  readonly error: boolean;
}

export const DEFAULT_CHECKS: CheckOptions = { skip: new Set(), experimental: new Set(), error: false };

/**
 * Reads `skip=A,B;error=true;experimental=C`: https://docs.docker.com/reference/dockerfile/#check.
 *
 * @returns the options, or what is wrong with the text, in BuildKit's words.
 */
export function parseCheckOptions(text: string): Result<CheckOptions, string> {
  if (text.trim() === '') return ok(DEFAULT_CHECKS);
  let options = DEFAULT_CHECKS;
  for (const part of text.trim().split(';')) {
    const equals = part.indexOf('=');
    if (equals === -1) return err(`invalid check option ${JSON.stringify(part)}`);
    const key = part.slice(0, equals).trim();
    const value = part.slice(equals + 1).trim();
    if (key === 'skip' || key === 'experimental') options = { ...options, [key]: rulesOf(value) };
    else if (key === 'error') {
      const error = parseBoolean(value);
      if (error === undefined) return err(`failed to parse check option ${JSON.stringify(part)}`);
      options = { ...options, error };
    } else return err(`invalid check option ${JSON.stringify(key)}`);
  }
  return ok(options);
}

/** Is the rule carried out? `skip` is for the stable rules, `experimental` for the others. */
export function isOn(rule: Rule, options: CheckOptions): boolean {
  const { skip, experimental } = options;
  if (rule.experimental) return experimental === 'all' || experimental.has(rule.name);
  return skip !== 'all' && !skip.has(rule.name);
}

const CHECK_COMMENT = /^check\s*=\s*(\S*)/i;

/** Is this comment of an instruction one for the checks, and no description? */
export function isCheckComment(comment: string): boolean {
  return CHECK_COMMENT.test(comment);
}

/**
 * The options as they hold for an instruction with these comments: the first `# check=skip=A,B;experimental=C` adds to them.
 * Behind a blank stands a remark; a comment that cannot be read changes nothing (as in BuildKit).
 */
export function withComments(options: CheckOptions, comments: readonly string[]): CheckOptions {
  const comment = comments.find(isCheckComment);
  if (comment === undefined) return options;
  const own = parseCheckOptions(CHECK_COMMENT.exec(comment)?.[1] ?? '');
  if (!own.ok) return options;
  return {
    skip: both(options.skip, own.value.skip),
    experimental: both(options.experimental, own.value.experimental),
    error: options.error,
  };
}

function both(
  one: ReadonlySet<string> | 'all',
  other: ReadonlySet<string> | 'all',
): ReadonlySet<string> | 'all' {
  return one === 'all' || other === 'all' ? 'all' : one.union(other);
}

function rulesOf(value: string): ReadonlySet<string> | 'all' {
  if (value === 'all') return 'all';
  return new Set(value.split(',').map((name) => name.trim().split(/\s/)[0] ?? ''));
}

/** As Go's strconv.ParseBool. */
function parseBoolean(value: string): boolean | undefined {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  return ['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value) ? false : undefined;
}
