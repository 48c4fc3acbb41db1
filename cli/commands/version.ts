import { defineSpec } from '../argv/spec.ts';
import { defineCommand } from '../command.ts';
import { readVersion } from '../version.ts';

export const version = defineCommand(
  defineSpec({
    name: 'version',
    summary: 'Show the version of varve',
    usage: '[OPTIONS]',
    positionals: { min: 0, max: 0 },
    flags: {
      format: { type: 'string', help: 'Format output', choices: ['text', 'json'], shownDefault: '"text"' },
      short: { type: 'boolean', help: 'One line', hidden: true },
    },
  }),
  async ({ flags }, { streams }) => {
    streams.stdout.write(
      renderVersion({
        version: readVersion(),
        node: process.version,
        platform: `${process.platform}/${process.arch === 'x64' ? 'amd64' : process.arch}`,
        form: flags.short ? 'short' : flags.format === 'json' ? 'json' : 'text',
      }),
    );
    return 0;
  },
);

/** The text of `varve version`, `varve version --format json` or `varve --version`. */
export function renderVersion(about: {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly form: 'text' | 'json' | 'short';
}): string {
  const { version: number, node, platform } = about;
  if (about.form === 'short') return `varve version ${number}\n`;
  if (about.form === 'json')
    return `${JSON.stringify({ Version: number, Node: node, Platform: platform })}\n`;
  return `varve\n Version:   ${number}\n Node:      ${node}\n OS/Arch:   ${platform}\n`;
}
