import { firstError, MachineError, UsageError } from '../core/index.ts';
import { GLOBAL_FLAGS, type GlobalOptions, mergeGlobals } from './argv/global.ts';
import { nearest } from './argv/nearest.ts';
import type { Environment } from './argv/pairs.ts';
import { parseCommand } from './argv/parse.ts';
import { defineSpec } from './argv/spec.ts';
import type { Command, CommandContext, Streams } from './command.ts';
import type { OpenEngine } from './engine-contract.ts';
import { INTERRUPTED, Interrupt, type SignalSource } from './interrupt.ts';
import { COMMANDS, resolveCommand } from './registry.ts';
import { styleFor } from './style.ts';

/** Everything outside that the command line touches; `entry.ts` takes it from `process`, tests make their own. */
export interface Surroundings {
  /** Words after the program's name. */
  readonly argv: readonly string[];
  readonly env: Environment;
  readonly cwd: string;
  readonly uid: number;
  readonly cpus: number;
  readonly temporaryFolder: string;
  readonly streams: Streams;
  readonly signals: SignalSource;
  /** Ends the process where it stands: the second Ctrl-C. */
  readonly exitNow: (code: number) => void;
  readonly now: () => number;
  readonly newId: () => string;
  readonly openEngine: OpenEngine;
}

const TOP = defineSpec({
  name: '',
  summary: '',
  usage: '[OPTIONS] COMMAND',
  positionals: { min: 0, max: Number.POSITIVE_INFINITY },
  stopAtPositional: true,
  flags: { ...GLOBAL_FLAGS, version: { type: 'boolean', short: 'v', help: 'Print the version and quit' } },
});

/**
 * Runs one command line to its end.
 *
 * @returns the exit code: 0; 1 the build or the machine failed; 2 wrong usage; 130 interrupted; of `run` the container's
 * own, or 125 to 127 as Docker has them. Never rejects.
 */
export async function main(around: Surroundings): Promise<number> {
  const { stderr } = around.streams;
  using interrupt = new Interrupt(around.signals, around.exitNow);
  let globals: GlobalOptions = {
    root: undefined,
    config: undefined,
    debug: (around.env['VARVE_DEBUG'] ?? '') !== '',
  };
  let command: Command | undefined;
  try {
    const top = parseCommand(TOP, around.argv);
    const beforeName = mergeGlobals(globals, top.flags);
    globals = beforeName;
    const prepare = (given: GlobalOptions): CommandContext => {
      globals = mergeGlobals(beforeName, given);
      return contextOf(around, interrupt, globals);
    };
    if (top.flags.version) return await (await COMMANDS.version()).execute(['--short'], prepare);
    const found = resolveCommand(top.help ? ['help'] : top.positionals);
    if (found === undefined) throw unknownCommand(top.positionals);
    command = await found.load();
    return await command.execute(found.rest, prepare);
  } catch (thrown) {
    const error = firstError(thrown);
    if (interrupt.signal.aborted && isExpected(error)) {
      stderr.write('varve: interrupted\n');
      return INTERRUPTED;
    }
    const { renderError, exitCodeOf } = await import('./render-failure.ts');
    const style = styleFor(stderr, around.env);
    stderr.write(renderError(error, { command: command?.spec.name ?? '', debug: globals.debug, style }));
    return command?.failureCode ?? exitCodeOf(error);
  }
}

/** After Ctrl-C, calls that were cut short end in these; a bug is told all the same. */
function isExpected(error: unknown): boolean {
  return error instanceof MachineError || (error instanceof Error && error.name === 'AbortError');
}

function contextOf(around: Surroundings, interrupt: Interrupt, globals: GlobalOptions): CommandContext {
  const { env, cwd, uid, streams, now, newId, cpus, temporaryFolder } = around;
  const loadConfig = async () => (await import('./config.ts')).loadConfig(env);
  return {
    env,
    cwd,
    streams,
    now,
    newId,
    cpus,
    temporaryFolder,
    interrupt,
    loadConfig,
    dockerConfigFolder: async () =>
      (await import('./config.ts')).dockerConfigFolder(globals.config, env, cwd),
    openEngine: async () => {
      const { stateFolder, dockerConfigFolder } = await import('./config.ts');
      const root = stateFolder({ root: globals.root, env, cwd, uid });
      const dockerConfig = dockerConfigFolder(globals.config, env, cwd);
      return around.openEngine({ root, config: await loadConfig(), dockerConfig, env, now });
    },
  };
}

function unknownCommand(words: readonly string[]): UsageError {
  const word = words[0] ?? '';
  const guess = nearest(word, Object.keys(COMMANDS));
  return new UsageError(
    `${JSON.stringify(word)} is not a varve command`,
    guess === undefined ? undefined : `Did you mean 'varve ${guess}'?`,
  );
}
