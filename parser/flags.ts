import type { Diagnostic, SourceRange } from '../core/index.ts';
import type { Flag } from './ast.ts';
import { parseDuration } from './duration.ts';
import type { InstructionName } from './lexer.ts';
import { nearest } from './suggest.ts';

/** `many`: may be given several times. `boolean`: stands alone, or with `true` or `false`. */
type FlagKind = 'one' | 'many' | 'boolean';

interface FlagRule {
  readonly kind: FlagKind;
  /** What is wrong with a value. */
  readonly check?: (value: string) => string | undefined;
}

const ONE: FlagRule = { kind: 'one' };
const MANY: FlagRule = { kind: 'many' };
const BOOLEAN: FlagRule = { kind: 'boolean' };
const DURATION: FlagRule = { kind: 'one', check: checkDuration };

const NETWORKS = ['default', 'none', 'host'];
const SECURITIES = ['sandbox', 'insecure'];

/** The flags that BuildKit's instructions take. Instructions that are not named take none. */
const RULES: Partial<Record<InstructionName, Readonly<Record<string, FlagRule>>>> = {
  FROM: { platform: ONE },
  RUN: {
    mount: MANY,
    network: { kind: 'one', check: (value) => checkWord(value, NETWORKS) },
    security: { kind: 'one', check: (value) => checkWord(value, SECURITIES) },
    device: MANY,
  },
  COPY: { chown: ONE, from: ONE, chmod: ONE, link: BOOLEAN, parents: BOOLEAN, exclude: MANY },
  ADD: {
    chown: ONE,
    chmod: ONE,
    link: BOOLEAN,
    'keep-git-dir': BOOLEAN,
    checksum: ONE,
    unpack: BOOLEAN,
    exclude: MANY,
  },
  HEALTHCHECK: {
    interval: DURATION,
    timeout: DURATION,
    'start-period': DURATION,
    'start-interval': DURATION,
    retries: { kind: 'one', check: checkRetries },
  },
};

/** What is wrong with the flags of an instruction: unknown, repeated, without a value, with a bad one. */
export function checkFlags(instruction: InstructionName, flags: readonly Flag[]): readonly Diagnostic[] {
  const rules = RULES[instruction] ?? {};
  const seen = new Set<string>();
  const diagnostics: Diagnostic[] = [];
  for (const flag of flags) {
    const rule = Object.hasOwn(rules, flag.name) ? rules[flag.name] : undefined;
    if (rule === undefined) diagnostics.push(unknownFlag(instruction, flag, Object.keys(rules)));
    else {
      if (seen.has(flag.name) && rule.kind !== 'many') {
        diagnostics.push(error('duplicate-flag', `--${flag.name} is given twice`, flag.range));
      }
      const problem = checkValue(flag, rule);
      if (problem !== undefined) diagnostics.push(error('invalid-flag-value', problem, flag.range));
    }
    seen.add(flag.name);
  }
  return diagnostics;
}

function checkValue(flag: Flag, rule: FlagRule): string | undefined {
  const { name, value } = flag;
  if (rule.kind === 'boolean') {
    if (value === undefined || /^(?:true|false)$/i.test(value)) return undefined;
    return value === ''
      ? `--${name} has no value after =`
      : `--${name} takes true or false, not ${JSON.stringify(value)}`;
  }
  if (value === undefined) return `--${name} needs a value: --${name}=…`;
  const problem = rule.check?.(value);
  return problem === undefined ? undefined : `--${name}: ${problem}`;
}

function unknownFlag(instruction: InstructionName, flag: Flag, known: readonly string[]): Diagnostic {
  const near = nearest(flag.name, known);
  const list = known.map((name) => `--${name}`).join(', ');
  const hint =
    near !== undefined
      ? `did you mean --${near}?`
      : known.length > 0
        ? `${instruction} knows ${list}`
        : `${instruction} takes no flags; to start its text with --, write "${instruction} -- …"`;
  return { ...error('unknown-flag', `unknown flag --${flag.name} for ${instruction}`, flag.range), hint };
}

function error(code: string, message: string, range: SourceRange): Diagnostic {
  return { severity: 'error', code, message, range };
}

function checkWord(value: string, words: readonly string[]): string | undefined {
  return words.includes(value) ? undefined : `${JSON.stringify(value)} is none of ${words.join(', ')}`;
}

function checkDuration(value: string): string | undefined {
  if (value === '') return undefined;
  const nanoseconds = parseDuration(value);
  if (nanoseconds === undefined) return `${JSON.stringify(value)} is no duration; write 30s, 1m30s or 500ms`;
  return nanoseconds !== 0 && nanoseconds < 1_000_000 ? 'cannot be less than 1ms' : undefined;
}

function checkRetries(value: string): string | undefined {
  if (value === '') return undefined;
  if (!/^[+-]?\d+$/.test(value)) return `${JSON.stringify(value)} is no whole number`;
  if (Number(value) < 0) return `cannot be negative (${value})`;
  return Number(value) > 2 ** 31 - 1 ? `${value} is too large` : undefined;
}
