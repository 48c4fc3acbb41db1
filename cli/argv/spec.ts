/** What a flag takes. `list` may be given several times; `size` is bytes as `512m`; `number` may have a fraction. */
export type FlagType = 'boolean' | 'string' | 'list' | 'size' | 'number';

/** One flag as data: parsing, `--help` and error messages follow from it. */
export interface FlagSpec {
  readonly type: FlagType;
  readonly help: string;
  /** One letter: `t` for `-t`. */
  readonly short?: string;
  /** Further long names that mean the same (`net` for `network`). */
  readonly aliases?: readonly string[];
  /** Word after the name in `--help`; by default the type's name as Docker prints it. */
  readonly placeholder?: string;
  /** Value shown as default in `--help`. It is not filled in: an absent flag stays absent. */
  readonly shownDefault?: string;
  /** The only values allowed. */
  readonly choices?: readonly string[];
  /** Parsed, but left out of `--help`. */
  readonly hidden?: boolean;
  /** Known from Docker and refused by name, unless it is given one of `except` (a value that asks for nothing). */
  readonly unsupported?: {
    readonly except: readonly string[];
    /** Why, after the flag's name and a colon; absent: that it is not there yet. */
    readonly why?: string;
  };
  /** Taken with a warning, unless it is given one of `except`: what it asks for changes nothing that the build leaves. */
  readonly ineffective?: { readonly except: readonly string[]; readonly why: string };
}

/** Flags by long name. */
export type FlagSpecs = Readonly<Record<string, FlagSpec>>;

/** What a command looks like from outside. */
export interface CommandSpec<Flags extends FlagSpecs = FlagSpecs> {
  /** Words after `varve`: `build`, `cache ls`. */
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** What follows the name in the usage line: `[OPTIONS] PATH | URL | -`. */
  readonly usage: string;
  /** More text for `--help`, below the summary. */
  readonly details?: string;
  readonly aliases?: readonly string[];
  readonly flags: Flags;
  /** Fewest and most positional arguments. */
  readonly positionals: { readonly min: number; readonly max: number };
  /** True: everything after the first positional argument is left alone (`run IMAGE COMMAND --flag`). */
  readonly stopAtPositional?: boolean;
}

/** The value of one flag, by its type; absent flags are `undefined`, `false` or an empty list. */
type FlagValue<Type extends FlagType> = Type extends 'boolean'
  ? boolean
  : Type extends 'list'
    ? readonly string[]
    : Type extends 'string'
      ? string | undefined
      : number | undefined;

export type FlagValues<Flags extends FlagSpecs> = {
  readonly [Name in keyof Flags]: FlagValue<Flags[Name]['type']>;
};

/** A command's arguments, parsed by its spec. */
export interface ParsedArgs<Flags extends FlagSpecs> {
  readonly flags: FlagValues<Flags>;
  readonly positionals: readonly string[];
  /** `--help` was given: nothing else is checked. */
  readonly help: boolean;
  /** What is to be said of flags that were taken. */
  readonly warnings: readonly string[];
}

/** Keeps the literal types of `flags`, so that {@link FlagValues} knows each one. */
export function defineSpec<const Flags extends FlagSpecs>(spec: CommandSpec<Flags>): CommandSpec<Flags> {
  return spec;
}
