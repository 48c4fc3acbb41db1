import { type HostPath, UsageError } from '../../core/index.ts';
import type { CredentialStore } from '../../image/index.ts';
import { defineSpec } from '../argv/spec.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { ask } from '../prompt.ts';

export const login = defineCommand(
  defineSpec({
    name: 'login',
    summary: 'Authenticate to a registry',
    usage: '[OPTIONS] [SERVER]',
    details: 'Without SERVER, Docker Hub is meant.',
    positionals: { min: 0, max: 1 },
    flags: {
      password: { type: 'string', short: 'p', help: 'Password or Personal Access Token' },
      'password-stdin': { type: 'boolean', help: 'Take the password from stdin' },
      username: { type: 'string', short: 'u', help: 'Username' },
    },
  }),
  async ({ flags, positionals }, context) => {
    const { streams, interrupt } = context;
    if (flags.password !== undefined && flags['password-stdin']) {
      throw new UsageError('--password and --password-stdin are mutually exclusive');
    }
    if (flags['password-stdin'] && flags.username === undefined) {
      throw new UsageError('--password-stdin needs --username');
    }
    const host = hostOf(positionals[0]);
    const username = flags.username ?? (await askHere('Username: ', { secret: false }, context));
    const password = flags['password-stdin']
      ? await readPassword(streams.stdin)
      : (flags.password ?? (await askHere('Password: ', { secret: true }, context)));
    if (username === '' || password === '') throw new UsageError('username and password must not be empty');
    {
      await using engine = await context.openEngine();
      await engine.checkLogin(host, { username, password }, interrupt.signal);
    }
    const place = await (await credentialStore(context)).store(host, { kind: 'basic', username, password });
    if (place.kind === 'file') {
      streams.stderr.write(`WARNING! Your credentials are stored unencrypted in '${place.path}'.
`);
    }
    streams.stdout.write('Login Succeeded\n');
    return 0;
  },
);

export const logout = defineCommand(
  defineSpec({
    name: 'logout',
    summary: 'Log out from a registry',
    usage: '[SERVER]',
    details: 'Without SERVER, Docker Hub is meant.',
    positionals: { min: 0, max: 1 },
    flags: {},
  }),
  async ({ positionals }, context) => {
    const host = hostOf(positionals[0]);
    const had = await (await credentialStore(context)).erase(host);
    const { stdout } = context.streams;
    stdout.write(had ? `Removing login credentials for ${host}\n` : `Not logged in to ${host}\n`);
    return 0;
  },
);

/** Where Docker keeps credentials. Loaded only by the commands that change them. */
async function credentialStore(context: CommandContext): Promise<CredentialStore> {
  const { createCredentialStore } = await import('../../image/index.ts');
  const configDir = (await context.dockerConfigFolder()) as HostPath;
  return createCredentialStore({ configDir, env: context.env });
}

/** `registry.example.com:5000` of that, or of `https://registry.example.com:5000/v2/`. */
function hostOf(server: string | undefined): string {
  if (server === undefined || server === '') return 'docker.io';
  const host = server.replace(/^https?:\/\//, '').replace(/\/.*$/s, '');
  if (!/^[a-zA-Z0-9.-]+(?::[0-9]+)?$|^\[[0-9a-fA-F:]+\](?::[0-9]+)?$/.test(host)) {
    throw new UsageError(`${JSON.stringify(server)} is no registry`, 'Write HOST or HOST:PORT.');
  }
  return host === 'index.docker.io' ? 'docker.io' : host;
}

/** All of standard input without its last line break. */
async function readPassword(stdin: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stdin) chunks.push(chunk);
  return Buffer.concat(chunks)
    .toString('utf8')
    .replace(/\r?\n$/, '');
}

function askHere(question: string, how: { secret: boolean }, context: CommandContext): Promise<string> {
  if (context.streams.stdin.isTTY === true) return ask(question, how, context);
  throw new UsageError(
    'cannot ask for credentials without a terminal',
    'Use --username and --password-stdin.',
  );
}
