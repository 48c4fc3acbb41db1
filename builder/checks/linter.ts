import type { BuildFailure, Diagnostic, SourceRange } from '../../core/index.ts';
import type { DirectiveValue, Word } from '../../parser/index.ts';
import { stop } from '../stop.ts';
import { CHECK_ARG, type CheckOptions, isOn, parseCheckOptions, withComments } from './options.ts';
import type { Rule } from './rules.ts';

/** What a warning is about: an instruction, or anything else with a place. */
export interface Checked {
  readonly range: SourceRange;
  /** Those directly above: a `# check=` among them holds for this instruction. */
  readonly comments?: readonly Word[];
}

/**
 * Keeps what the checks of one build find. Checks are carried out while the Dockerfile is read and planned, by whoever knows
 * what they need; a warning that was given before is not given again.
 */
export class Linter {
  readonly #options: CheckOptions;
  readonly #found = new Map<string, Diagnostic>();
  #fails = false;

  constructor(options: CheckOptions) {
    this.#options = options;
  }

  /** @param message in BuildKit's words; `hint`: what to write instead. */
  report(rule: Rule, at: Checked, found: { readonly message: string; readonly hint?: string }): void {
    const options = withComments(
      this.#options,
      (at.comments ?? []).map(({ text }) => text),
    );
    if (!isOn(rule, options)) return;
    if (options.error) this.#fails = true;
    const { message, hint } = found;
    const { range } = at;
    this.#found.set(`${range.start.line} ${rule.name} ${message}`, {
      severity: 'warning',
      code: rule.name,
      message,
      range,
      ...(hint === undefined ? {} : { hint }),
      ...(rule.url === undefined ? {} : { url: rule.url }),
    });
  }

  /** What was found so far, in order of place. */
  get warnings(): readonly Diagnostic[] {
    return [...this.#found.values()].sort((one, other) => one.range.start.line - other.range.start.line);
  }

  /** What ends the build where warnings are to (`error=true`). */
  get failure(): BuildFailure | undefined {
    const { warnings } = this;
    const [first] = warnings;
    if (!this.#fails || first === undefined) return undefined;
    const rules = [...new Set(warnings.map(({ code }) => code))].sort();
    return {
      kind: 'build-failure',
      code: 'check-failed',
      message: `lint violation found for rules: ${rules.join(', ')}`,
      range: first.range,
      hint: 'mend what the warnings name, or take error=true out of the check options',
    };
  }
}

/**
 * The linter as the build argument asks, else as the Dockerfile's directive does. Ends the build (BuildStop) where the options
 * cannot be read.
 */
export function createLinter(
  directive: DirectiveValue | undefined,
  buildArgs: Readonly<Record<string, string>>,
): Linter {
  const argument = Object.hasOwn(buildArgs, CHECK_ARG) ? buildArgs[CHECK_ARG] : undefined;
  // Behind a blank of the directive stands a remark.
  const options = parseCheckOptions(argument ?? directive?.value.split(' ', 1)[0] ?? '');
  if (options.ok) return new Linter(options.value);
  return stop('invalid-check-option', `failed to parse check options: ${options.error}`, {
    ...(argument === undefined && directive !== undefined ? { range: directive.range } : {}),
    hint: `write check=skip=RuleA,RuleB;error=true${argument === undefined ? '' : `, or leave ${CHECK_ARG} out`}`,
  });
}
