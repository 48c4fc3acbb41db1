import type { Diagnostic, SourceRange } from '../core/index.ts';
import type {
  CopyOptions,
  DeviceFlag,
  Flag,
  FlagField,
  FromOptions,
  HealthcheckOptions,
  MountFlag,
  RunOptions,
  Word,
} from './ast.ts';
import { parseDuration } from './duration.ts';
import type { InstructionName } from './lexer.ts';
import { parseBoolean } from './mount.ts';
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

const NETWORKS = ['default', 'none', 'host'] as const;
const SECURITIES = ['sandbox', 'insecure'] as const;

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

/** Instructions whose flags BuildKit never looks at. */
const UNREAD: ReadonlySet<InstructionName> = new Set(['ARG', 'STOPSIGNAL']);

/** What is wrong with the flags of an instruction: unknown, repeated, without a value, with a bad one. */
export function checkFlags(instruction: InstructionName, flags: readonly Flag[]): readonly Diagnostic[] {
  if (UNREAD.has(instruction)) return flags.map((flag) => unreadFlag(instruction, flag));
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
      if (problem !== undefined) diagnostics.push(invalidFlag(problem, flag.range));
    }
    seen.add(flag.name);
  }
  return diagnostics;
}

export function fromOptions(flags: readonly Flag[]): FromOptions {
  return { ...word(flags, 'platform', 'platform') };
}

/** `fields` parts the value of a flag at its commas, or says what is wrong with it; `report` hears of that. */
export function runOptions(
  flags: readonly Flag[],
  fields: (flag: Flag) => readonly FlagField[] | string,
  report: (diagnostic: Diagnostic) => void,
): RunOptions {
  const mounts: MountFlag[] = [];
  const devices: DeviceFlag[] = [];
  for (const flag of flags) {
    if ((flag.name !== 'mount' && flag.name !== 'device') || flag.value === undefined) continue;
    const parts = fields(flag);
    if (typeof parts === 'string') report(invalidFlag(`--${flag.name} ${parts}`, flag.range));
    else if (flag.name === 'device') devices.push(readDevice(parts, flag, report));
    else {
      for (const part of parts) checkMountField(part, report);
      mounts.push({ fields: parts, range: flag.range });
    }
  }
  const network = NETWORKS.find((known) => known === lastValue(flags, 'network'));
  const security = SECURITIES.find((known) => known === lastValue(flags, 'security'));
  return {
    mounts,
    ...(network === undefined ? {} : { network }),
    ...(security === undefined ? {} : { security }),
    devices,
  };
}

export function copyOptions(flags: readonly Flag[]): CopyOptions {
  const exclude = flags.flatMap((flag) => (flag.name === 'exclude' ? [wordOf(flag)] : []));
  return {
    ...word(flags, 'from', 'from'),
    ...word(flags, 'chown', 'chown'),
    ...word(flags, 'chmod', 'chmod'),
    ...truth(flags, 'link', 'link'),
    ...truth(flags, 'parents', 'parents'),
    exclude,
    ...word(flags, 'checksum', 'checksum'),
    ...truth(flags, 'keep-git-dir', 'keepGitDir'),
    ...truth(flags, 'unpack', 'unpack'),
  };
}

export function healthcheckOptions(flags: readonly Flag[]): HealthcheckOptions {
  const retries = lastValue(flags, 'retries');
  return {
    ...duration(flags, 'interval', 'interval'),
    ...duration(flags, 'timeout', 'timeout'),
    ...duration(flags, 'start-period', 'startPeriod'),
    ...duration(flags, 'start-interval', 'startInterval'),
    ...(retries === undefined || retries === '' ? {} : { retries: Number(retries) }),
  };
}

/** Keys and values of mounts are judged with their variables expanded; `from` takes none. */
function checkMountField(field: FlagField, report: (diagnostic: Diagnostic) => void): void {
  if (field.key !== 'from' || field.value === undefined || !/\$./.test(field.value.text)) return;
  report({
    ...invalidFlag("--mount: 'from' doesn't support variable expansion", field.range),
    hint: 'define a stage before: FROM with the variable, and a name behind AS',
  });
}

function readDevice(
  fields: readonly FlagField[],
  flag: Flag,
  report: (diagnostic: Diagnostic) => void,
): DeviceFlag {
  let name = '';
  let required = false;
  for (const field of fields) {
    const problem = (message: string): void => report(invalidFlag(`--device: ${message}`, field.range));
    if (field.key === 'required') {
      const value = field.value === undefined ? true : parseBoolean(field.value.text);
      if (value === undefined) problem(`invalid value for required: ${field.value?.text}`);
      required = value ?? false;
    } else if (field.key === 'name' && field.value !== undefined) {
      if (name !== '') problem(`device name already set to ${name}`);
      name = field.value.text;
    } else if (name === '') name = field.text;
    else if (field.value === undefined) problem(`invalid field '${field.text}' must be a key=value pair`);
    else problem(`unexpected key '${field.key}' in '${field.text}'`);
  }
  return { name, required, range: flag.range };
}

function lastFlag(flags: readonly Flag[], name: string): Flag | undefined {
  return flags.findLast((flag) => flag.name === name);
}

function lastValue(flags: readonly Flag[], name: string): string | undefined {
  return lastFlag(flags, name)?.value;
}

function wordOf(flag: Flag): Word {
  return { text: flag.value ?? '', range: flag.valueRange ?? flag.range };
}

/** An empty value is as good as none, as in BuildKit. */
function word<K extends string>(flags: readonly Flag[], name: string, key: K): { readonly [P in K]?: Word } {
  const flag = lastFlag(flags, name);
  if (flag === undefined || flag.value === undefined || flag.value === '') return {};
  return single(key, wordOf(flag));
}

function truth<K extends string>(
  flags: readonly Flag[],
  name: string,
  key: K,
): { readonly [P in K]?: boolean } {
  const flag = lastFlag(flags, name);
  return flag === undefined ? {} : single(key, flag.value?.toLowerCase() !== 'false');
}

function duration<K extends string>(
  flags: readonly Flag[],
  name: string,
  key: K,
): { readonly [P in K]?: number } {
  const value = parseDuration(lastValue(flags, name) ?? '');
  return value === undefined ? {} : single(key, value);
}

function single<K extends string, V>(key: K, value: V): { readonly [P in K]?: V } {
  const result: { [P in K]?: V } = {};
  result[key] = value;
  return result;
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

function unreadFlag(instruction: InstructionName, flag: Flag): Diagnostic {
  return {
    severity: 'warning',
    code: 'unknown-flag',
    message: `${instruction} takes no flags: --${flag.name} says nothing`,
    range: flag.range,
    hint: 'remove it',
  };
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

function invalidFlag(message: string, range: SourceRange): Diagnostic {
  return error('invalid-flag-value', message, range);
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
