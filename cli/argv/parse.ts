import { UsageError } from '../../core/index.ts';
import { nearest } from './nearest.ts';
import { parseSize } from './size.ts';
import type { CommandSpec, FlagSpec, FlagSpecs, FlagValues, ParsedArgs } from './spec.ts';

/** An `import` of `node:util` loads all that it exports, `worker_threads` among it: 8 ms of every start. */
const { parseArgs } = process.getBuiltinModule('node:util');

/** A flag as it was given: how it was written (for messages) and its value, if any. */
interface GivenFlag {
  readonly name: string;
  readonly written: string;
  readonly value: string | undefined;
}

/**
 * Reads the arguments of one command as Docker's command line reads its own (Go's pflag): `-it`, `-e A=b`, `-eA=b`,
 * `--flag=value`, `--flag value` (also where the value begins with `-`), `--flag=false`, repeated flags, `--`.
 *
 * `node:util` parseArgs splits the words: it knows all of these forms, is part of Node and loads in no time, where a
 * library such as commander costs 10 ms of every start. What it lacks is done here: booleans with a value, `-e=A`,
 * stopping at the first positional argument, and messages that name the nearest known flag.
 *
 * @throws UsageError for an unknown, unsupported or malformed flag and for too few or too many arguments.
 */
export function parseCommand<Flags extends FlagSpecs>(
  spec: CommandSpec<Flags>,
  argv: readonly string[],
): ParsedArgs<Flags> {
  const { given, positionals } = split(spec, argv);
  const help = given.some(({ name }) => name === 'help');
  const values = new Map<string, boolean | string | number | string[]>();
  const warnings = new Set<string>();
  for (const flag of help ? [] : given) {
    const known = Object.hasOwn(spec.flags, flag.name) ? spec.flags[flag.name] : undefined;
    if (known === undefined) throw unknownFlag(spec, flag.written);
    const { ineffective } = known;
    if (ineffective !== undefined && !ineffective.except.includes(flag.value ?? ''))
      warnings.add(`${flag.written} has no effect: ${ineffective.why}`);
    store(values, flag, known);
  }
  if (!help) checkPositionals(spec, positionals);
  const flags: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(spec.flags)) flags[name] = values.get(name) ?? absent(flag);
  // The one cast of this file: `absent` and `store` give each name the type that its spec declares.
  return { flags: flags as FlagValues<Flags>, positionals, help, warnings: [...warnings] };
}

function split(spec: CommandSpec, argv: readonly string[]): { given: GivenFlag[]; positionals: string[] } {
  const options: Record<string, { type: 'boolean' | 'string'; short?: string }> = {
    help: { type: 'boolean' },
  };
  const names = new Map<string, string>([['help', 'help']]);
  for (const [name, flag] of Object.entries(spec.flags)) {
    const type = flag.type === 'boolean' ? 'boolean' : 'string';
    options[name] = flag.short === undefined ? { type } : { type, short: flag.short };
    names.set(name, name);
    for (const alias of flag.aliases ?? []) {
      options[alias] = { type };
      names.set(alias, name);
    }
  }
  const takesH = Object.values(spec.flags).some((flag) => flag.short === 'h');
  if (!takesH) options['help'] = { type: 'boolean', short: 'h' };
  const { tokens } = parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const given: GivenFlag[] = [];
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'option') {
      const short = !token.rawName.startsWith('--');
      const value = short && token.inlineValue ? token.value?.replace(/^=/, '') : token.value;
      given.push({ name: names.get(token.name) ?? token.name, written: token.rawName, value });
    } else if (token.kind === 'positional') {
      if (spec.stopAtPositional) return { given, positionals: argv.slice(token.index) };
      positionals.push(token.value);
    } else if (spec.stopAtPositional) return { given, positionals: argv.slice(token.index + 1) };
  }
  return { given, positionals };
}

function absent(flag: FlagSpec): boolean | string[] | undefined {
  if (flag.type === 'boolean') return false;
  return flag.type === 'list' ? [] : undefined;
}

function store(
  values: Map<string, boolean | string | number | string[]>,
  given: GivenFlag,
  flag: FlagSpec,
): void {
  const { name, written, value } = given;
  if (flag.unsupported !== undefined) {
    if (flag.unsupported.except.includes(value ?? '')) return;
    const { why } = flag.unsupported;
    throw new UsageError(
      why === undefined
        ? `${written} is known from Docker, but varve does not support it yet`
        : `${written} is not supported: ${why}`,
    );
  }
  if (flag.type === 'boolean') {
    values.set(name, parseBoolean(written, value));
    return;
  }
  if (value === undefined) throw new UsageError(`flag needs an argument: ${written}`);
  // A script may give a variable that is not set: nothing was chosen.
  if (flag.choices !== undefined && value === '') return;
  if (flag.choices !== undefined && !flag.choices.includes(value)) {
    const guess = nearest(value, flag.choices);
    const hint = guess === undefined ? undefined : `Did you mean ${guess}?`;
    throw new UsageError(
      `invalid value ${JSON.stringify(value)} for ${written}: use ${flag.choices.join(', ')}`,
      hint,
    );
  }
  if (flag.type === 'list') {
    const list = values.get(name);
    values.set(name, Array.isArray(list) ? [...list, value] : [value]);
  } else if (flag.type === 'size') values.set(name, parseSize(value, written));
  else if (flag.type === 'number') values.set(name, parseNumber(value, written));
  else values.set(name, value);
}

/** As Go's strconv.ParseBool. */
function parseBoolean(written: string, value: string | undefined): boolean {
  if (value === undefined || ['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false;
  throw new UsageError(`invalid value ${JSON.stringify(value)} for ${written}: use true or false`);
}

function parseNumber(value: string, written: string): number {
  if (!/^-?[0-9]+(?:\.[0-9]+)?$/.test(value)) {
    throw new UsageError(`invalid value ${JSON.stringify(value)} for ${written}: a number is needed`);
  }
  return Number(value);
}

function unknownFlag(spec: CommandSpec, written: string): UsageError {
  if (!written.startsWith('--')) return new UsageError(`unknown shorthand flag: ${written}`);
  const names = Object.entries(spec.flags).flatMap(([name, flag]) => (flag.hidden ? [] : [name]));
  const guess = nearest(written.slice(2), names);
  return new UsageError(
    `unknown flag: ${written}`,
    guess === undefined ? undefined : `Did you mean --${guess}?`,
  );
}

function checkPositionals(spec: CommandSpec, positionals: readonly string[]): void {
  const { min, max } = spec.positionals;
  if (positionals.length >= min && positionals.length <= max) return;
  const plural = (count: number): string => `${count} argument${count === 1 ? '' : 's'}`;
  const wants =
    min === max
      ? min === 0
        ? 'accepts no arguments'
        : `requires ${plural(min)}`
      : positionals.length < min
        ? `requires at least ${plural(min)}`
        : `accepts at most ${plural(max)}`;
  const odd = positionals.length > max ? `; ${JSON.stringify(positionals[max])} is one too many` : '';
  throw new UsageError(`'varve ${spec.name}' ${wants}${odd}`);
}
