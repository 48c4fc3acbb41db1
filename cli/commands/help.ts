import { UsageError } from '../../core/index.ts';
import { GLOBAL_FLAGS } from '../argv/global.ts';
import { commandHelp, overviewHelp } from '../argv/help.ts';
import { defineSpec } from '../argv/spec.ts';
import { defineCommand } from '../command.ts';
import { COMMANDS, resolveCommand } from '../registry.ts';

const GROUPS: readonly { readonly title: string; readonly names: readonly (keyof typeof COMMANDS)[] }[] = [
  {
    title: 'Common Commands',
    names: ['build', 'run', 'why', 'images', 'pull', 'push', 'login', 'logout', 'version'],
  },
  { title: 'Image Commands', names: ['history', 'inspect', 'load', 'rmi', 'save', 'tag'] },
  { title: 'Cache Commands', names: ['cache ls', 'cache du', 'cache prune', 'cache verify'] },
];

export const help = defineCommand(
  defineSpec({
    name: 'help',
    summary: 'Help about a command',
    usage: '[COMMAND]',
    positionals: { min: 0, max: 2 },
    flags: {},
  }),
  async ({ positionals }, { streams }) => {
    if (positionals.length === 0) {
      const groups = await Promise.all(
        GROUPS.map(async ({ title, names }) => ({ title, commands: await summaries(names) })),
      );
      const about = 'Builds container images from Dockerfiles, and runs a step again only if it has to.';
      streams.stdout.write(overviewHelp({ prefix: '', about, groups, globals: GLOBAL_FLAGS }));
      return 0;
    }
    const found = resolveCommand(positionals);
    if (positionals[0] === 'cache' && positionals.length === 1) {
      const commands = await summaries(['cache ls', 'cache du', 'cache prune', 'cache verify']);
      const shown = commands.map(({ name, summary }) => ({ name: name.replace(/^cache /, ''), summary }));
      const about = 'Look at the cache, and make it smaller';
      streams.stdout.write(
        overviewHelp({ prefix: 'cache', about, groups: [{ title: 'Commands', commands: shown }] }),
      );
      return 0;
    }
    if (found === undefined || found.rest.length > 0) {
      throw new UsageError(`there is no command ${JSON.stringify(positionals.join(' '))}`);
    }
    streams.stdout.write(commandHelp((await found.load()).spec));
    return 0;
  },
);

function summaries(names: readonly (keyof typeof COMMANDS)[]) {
  return Promise.all(
    names.map(async (name) => {
      const { spec } = await COMMANDS[name]();
      return { name: spec.name, summary: spec.summary };
    }),
  );
}
