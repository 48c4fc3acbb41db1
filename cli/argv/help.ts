import type { CommandSpec, FlagSpec, FlagType } from './spec.ts';

const WIDTH = 100;
/** Docker's words for what a flag takes. */
const PLACEHOLDER: Readonly<Record<FlagType, string>> = {
  boolean: '',
  string: 'string',
  list: 'stringArray',
  size: 'bytes',
  number: 'decimal',
};

/** The text of `varve COMMAND --help`, in the layout of Docker's. */
export function commandHelp(spec: CommandSpec): string {
  const parts = [`Usage:  varve ${spec.name} ${spec.usage}`.trimEnd(), spec.summary];
  if (spec.details !== undefined) parts.push(spec.details);
  if (spec.aliases !== undefined) {
    parts.push(`Aliases:\n  ${[spec.name, ...spec.aliases].map((name) => `varve ${name}`).join(', ')}`);
  }
  const flags = Object.entries(spec.flags).filter(
    ([, flag]) => !flag.hidden && flag.unsupported === undefined,
  );
  if (flags.length > 0) parts.push(`Options:\n${flagTable(flags).join('\n')}`);
  const later = Object.entries(spec.flags).filter(
    ([, flag]) => !flag.hidden && flag.unsupported !== undefined,
  );
  if (later.length > 0) {
    const names = later.map(([name]) => `--${name}`).sort();
    parts.push(
      `Not supported yet:\n${wrap(names, WIDTH - 2)
        .map((line) => `  ${line}`)
        .join('\n')}`,
    );
  }
  return `${parts.join('\n\n')}\n`;
}

function flagTable(flags: readonly (readonly [string, FlagSpec])[]): string[] {
  const sorted = [...flags].sort(([a], [b]) => (a < b ? -1 : 1));
  const rows = sorted.map(([name, flag]) => ({ left: flagColumn(name, flag), flag }));
  const indent = Math.max(...rows.map(({ left }) => left.length)) + 3;
  return rows.flatMap(({ left, flag }) => {
    const shown = flag.shownDefault === undefined ? '' : ` (default ${flag.shownDefault})`;
    const choices =
      flag.choices === undefined ? '' : ` (${flag.choices.map((word) => `"${word}"`).join(', ')})`;
    const [first = '', ...more] = wrap(`${flag.help}${choices}${shown}`.split(' '), WIDTH - indent);
    return [`${left.padEnd(indent)}${first}`, ...more.map((line) => `${''.padEnd(indent)}${line}`)];
  });
}

function flagColumn(name: string, flag: FlagSpec): string {
  const short = flag.short === undefined ? '    ' : `-${flag.short}, `;
  return `  ${short}--${name} ${flag.placeholder ?? PLACEHOLDER[flag.type]}`.trimEnd();
}

/** Words in lines of at most `width`; a longer word has its own line. */
function wrap(words: readonly string[], width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of words) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(line);
  return lines;
}

/** A command in the list of `varve --help`. */
export interface CommandSummary {
  readonly name: string;
  readonly summary: string;
}

/** The text of `varve --help` (or `varve cache --help` with `prefix` `cache`). */
export function overviewHelp(options: {
  readonly prefix: string;
  readonly about: string;
  readonly groups: readonly { readonly title: string; readonly commands: readonly CommandSummary[] }[];
  readonly globals?: CommandSpec['flags'];
}): string {
  const name = `varve${options.prefix === '' ? '' : ` ${options.prefix}`}`;
  const indent =
    Math.max(...options.groups.flatMap(({ commands }) => commands.map((one) => one.name.length))) + 2;
  const parts = [
    `Usage:  ${name} ${options.globals === undefined ? '' : '[OPTIONS] '}COMMAND`,
    options.about,
  ];
  for (const { title, commands } of options.groups) {
    const rows = commands.map((one) => `  ${one.name.padEnd(indent)}${one.summary}`);
    parts.push(`${title}:\n${rows.join('\n')}`);
  }
  if (options.globals !== undefined) {
    parts.push(`Global Options:\n${flagTable(Object.entries(options.globals)).join('\n')}`);
  }
  parts.push(`Run '${name} COMMAND --help' for more information on a command.`);
  return `${parts.join('\n\n')}\n`;
}
