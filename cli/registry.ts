import type { Command } from './command.ts';

type Load = () => Promise<Command>;

/** Every command by name. Each is loaded only when it is asked for: `varve version` pays for nothing else. */
export const COMMANDS = {
  build: async () => (await import('./commands/build.ts')).build,
  run: async () => (await import('./commands/run.ts')).run,
  why: async () => (await import('./commands/why.ts')).why,
  images: async () => (await import('./commands/images.ts')).images,
  rmi: async () => (await import('./commands/images.ts')).rmi,
  tag: async () => (await import('./commands/images.ts')).tag,
  inspect: async () => (await import('./commands/images.ts')).inspect,
  history: async () => (await import('./commands/images.ts')).history,
  pull: async () => (await import('./commands/transfer.ts')).pull,
  push: async () => (await import('./commands/transfer.ts')).push,
  login: async () => (await import('./commands/login.ts')).login,
  logout: async () => (await import('./commands/login.ts')).logout,
  save: async () => (await import('./commands/archive.ts')).save,
  load: async () => (await import('./commands/archive.ts')).load,
  'cache ls': async () => (await import('./commands/cache.ts')).cacheLs,
  'cache du': async () => (await import('./commands/cache.ts')).cacheDu,
  'cache prune': async () => (await import('./commands/cache.ts')).cachePrune,
  'cache verify': async () => (await import('./commands/cache.ts')).cacheVerify,
  version: async () => (await import('./commands/version.ts')).version,
  help: async () => (await import('./commands/help.ts')).help,
} as const satisfies Readonly<Record<string, Load>>;

/** Docker's longer ways to say the same. */
const SYNONYMS: Readonly<Record<string, keyof typeof COMMANDS>> = {
  'buildx build': 'build',
  'builder build': 'build',
  'image build': 'build',
  'image ls': 'images',
  'image list': 'images',
  'image rm': 'rmi',
  'image tag': 'tag',
  'image inspect': 'inspect',
  'image history': 'history',
  'image pull': 'pull',
  'image push': 'push',
  'image save': 'save',
  'image load': 'load',
  'container run': 'run',
  'builder prune': 'cache prune',
};

/** The command that `words` begin with (two words before one), and the words after it. */
export function resolveCommand(
  words: readonly string[],
): { readonly load: Load; readonly rest: readonly string[] } | undefined {
  const [first, second] = words;
  if (first === undefined) return { load: COMMANDS.help, rest: [] };
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(' ');
    const known = SYNONYMS[name] ?? name;
    if (isCommand(known)) return { load: COMMANDS[known], rest: words.slice(length) };
  }
  const isGroup = Object.keys(COMMANDS).some((name) => name.startsWith(`${first} `));
  const asksHelp = second === undefined || second === '--help' || second === '-h';
  return isGroup && asksHelp ? { load: COMMANDS.help, rest: [first] } : undefined;
}

function isCommand(name: string): name is keyof typeof COMMANDS {
  return Object.hasOwn(COMMANDS, name);
}
