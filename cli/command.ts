import type { Readable } from 'node:stream';
import { GLOBAL_FLAGS, type GlobalOptions, mergeGlobals } from './argv/global.ts';
import { commandHelp } from './argv/help.ts';
import type { Environment } from './argv/pairs.ts';
import { parseCommand } from './argv/parse.ts';
import type { CommandSpec, FlagSpecs, ParsedArgs } from './argv/spec.ts';
import type { Engine, VarveConfig } from './engine-contract.ts';
import type { Interrupt } from './interrupt.ts';
import type { OutputStream } from './progress/renderer.ts';

export type InputStream = Readable & {
  readonly isTTY?: boolean;
  setRawMode?(on: boolean): unknown;
};

export interface Streams {
  readonly stdin: InputStream;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
}

/** The world as a command sees it: nothing in a command reaches for `process`. */
export interface CommandContext {
  readonly env: Environment;
  readonly cwd: string;
  readonly streams: Streams;
  /** Epoch milliseconds. */
  readonly now: () => number;
  readonly newId: () => string;
  readonly cpus: number;
  /** Folder for spooled input. */
  readonly temporaryFolder: string;
  readonly interrupt: Interrupt;
  /** Folder of Docker's config.json. */
  readonly dockerConfigFolder: () => Promise<string>;
  readonly loadConfig: () => Promise<VarveConfig>;
  /** Opens the state folder; the caller disposes of the engine. */
  readonly openEngine: () => Promise<Engine>;
}

/** One command: what it looks like, and what it does. Rejects with UsageError, MachineError, or a bug. */
export interface Command {
  readonly spec: CommandSpec;
  /** Exit code of everything that goes wrong before the command's own work: 125 for `run`. */
  readonly failureCode?: number;
  execute(argv: readonly string[], prepare: (globals: GlobalOptions) => CommandContext): Promise<number>;
}

/** Joins a spec and a body that gets the spec's flags, typed. `--help` never reaches the body. */
export function defineCommand<Flags extends FlagSpecs>(
  spec: CommandSpec<Flags>,
  body: (args: ParsedArgs<Flags>, context: CommandContext) => Promise<number>,
  options: { readonly failureCode?: number } = {},
): Command {
  const globals = { ...GLOBAL_FLAGS };
  const full = { ...spec, flags: { ...globals, ...spec.flags } };
  return {
    spec,
    ...options,
    async execute(argv, prepare) {
      const args = parseCommand(full, argv);
      const given = parseGlobals(args.flags);
      const context = prepare(given);
      if (args.help) {
        context.streams.stdout.write(commandHelp(spec));
        return 0;
      }
      for (const warning of args.warnings) context.streams.stderr.write(`varve: warning: ${warning}\n`);
      return body(args, context);
    },
  };
}

function parseGlobals(flags: Readonly<Record<string, unknown>>): GlobalOptions {
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  return mergeGlobals(
    { root: undefined, config: undefined, debug: false },
    { root: text(flags['root']), config: text(flags['config']), debug: flags['debug'] === true },
  );
}

/** Writes and waits until the stream has taken it: for output that may be large. */
export function write(stream: OutputStream, chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, (error) => (error ? reject(error) : resolve()));
  });
}
