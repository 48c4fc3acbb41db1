import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseName, exec, tryExec } from '../fixtures/index.ts';
import { type Command, run } from './command.ts';
import { type RunningDocker, startDocker } from './dockerd.ts';
import { type Store, writeArchive } from './store.ts';

export type BuilderName = 'varve' | 'docker.io' | 'buildah';

/** A program that builds images, with a store that is its alone. */
export interface Builder {
  readonly name: BuilderName;
  readonly version: string;
  /** Makes `FROM localhost/NAME` work. */
  readonly base: (name: BaseName) => Promise<void>;
  /** The whole command line of a build; `words` are flags that all builders know, and the context. */
  readonly build: (words: readonly string[]) => Command;
  readonly pull: (reference: string) => Command;
  /** Gives an image of the store the name that it is pushed by, and returns the command that pushes it. */
  readonly push: (image: string, reference: string) => Promise<Command>;
  /** Takes images away by name, and every result that no image needs. The bases stay. */
  readonly forget: (images: readonly string[]) => Promise<void>;
}

/** varve, and what is measured beside it. */
export interface Builders {
  /** varve's. */
  readonly store: Store;
  readonly all: readonly Builder[];
  readonly missing: readonly { readonly name: BuilderName; readonly reason: string }[];
}

/** Starts what has to run; `ending` takes what must be ended. Each builder's data lies in `folder`. */
export async function openBuilders(options: {
  readonly folder: string;
  readonly store: Store;
  readonly ending: AsyncDisposableStack;
}): Promise<Builders> {
  const { folder, store, ending } = options;
  await mkdir(folder, { recursive: true });
  const archives = new Map<BaseName, Promise<string>>();
  const archive: ArchiveOf = (name) => {
    const made = archives.get(name) ?? makeArchive(folder, name);
    archives.set(name, made);
    return made;
  };
  const here = [await varveBuilder(store), await buildahBuilder(folder, archive)];
  // Where a build was broken off, buildah leaves its store mounted.
  ending.defer(async () => {
    await tryExec(['umount', '--recursive', '--lazy', join(folder, 'buildah/overlay')]);
  });
  const docker = await startDocker(join(folder, 'docker'));
  if ('reason' in docker)
    return { store, all: here, missing: [{ name: 'docker.io', reason: docker.reason }] };
  ending.use(docker);
  return { store, all: [...here, dockerBuilder(docker, archive)], missing: [] };
}

type ArchiveOf = (name: BaseName) => Promise<string>;

async function makeArchive(folder: string, name: BaseName): Promise<string> {
  const path = join(folder, `${name}.tar`);
  await writeArchive(name, path);
  return path;
}

/** Calls `load` once for each base. */
function once(load: (name: BaseName) => Promise<void>): (name: BaseName) => Promise<void> {
  const loaded = new Map<BaseName, Promise<void>>();
  return (name) => {
    const loading = loaded.get(name) ?? load(name);
    loaded.set(name, loading);
    return loading;
  };
}

async function varveBuilder(store: Store): Promise<Builder> {
  const version = (await store.varve(['--version'])).trim().split(' ').at(-1) ?? '';
  return {
    name: 'varve',
    version,
    base: (name) => store.base(name),
    build: (words) => store.command(['build', '--quiet', ...words]),
    pull: (reference) => store.command(['pull', '--quiet', reference]),
    push: async (image, reference) => {
      await store.varve(['tag', image, reference]);
      return store.command(['push', '--quiet', reference]);
    },
    forget: async (images) => {
      for (const image of images) await tryRun(store.command(['rmi', image]));
      await store.varve(['cache', 'prune', '--all', '--force']);
    },
  };
}

/** Chroot isolation is buildah's cheapest, and needs no cgroups. */
async function buildahBuilder(folder: string, archive: ArchiveOf): Promise<Builder> {
  const root = join(folder, 'buildah');
  const runRoot = join(folder, 'buildah-run');
  const { stdout } = await exec(['buildah', '--version']);
  const command = (words: readonly string[]): Command => ({
    argv: ['buildah', '--root', root, '--runroot', runRoot, '--storage-driver', 'overlay', ...words],
  });
  return {
    name: 'buildah',
    version: /version (\S+)/.exec(stdout)?.[1] ?? '',
    base: once(async (name) => {
      const target = `containers-storage:[overlay@${root}+${runRoot}]localhost/${name}:latest`;
      await exec(['skopeo', 'copy', '--quiet', `docker-archive:${await archive(name)}`, target]);
    }),
    build: (words) =>
      command(['bud', '--layers', '--isolation', 'chroot', '--pull-never', '--quiet', ...words]),
    pull: (reference) => command(['pull', '--quiet', '--tls-verify=false', reference]),
    push: async (image, reference) =>
      command(['push', '--quiet', '--tls-verify=false', image, `docker://${reference}`]),
    forget: async (images) => {
      for (const image of images) await tryRun(command(['rmi', '--force', image]));
      await tryRun(command(['rmi', '--prune', '--force']));
    },
  };
}

function dockerBuilder({ command: client, env, version }: RunningDocker, archive: ArchiveOf): Builder {
  const command = (words: readonly string[]): Command => ({ argv: [...client, ...words], env });
  return {
    name: 'docker.io',
    version,
    base: once(async (name) => {
      await run(command(['load', '--quiet', '--input', await archive(name)]));
    }),
    build: (words) => command(['build', '--quiet', '--network', 'host', ...words]),
    pull: (reference) => command(['pull', '--quiet', reference]),
    push: async (image, reference) => {
      await run(command(['tag', image, reference]));
      return command(['push', '--quiet', reference]);
    },
    forget: async (images) => {
      for (const image of images) await tryRun(command(['rmi', '--force', image]));
      await run(command(['builder', 'prune', '--all', '--force']));
    },
  };
}

/** What is not there need not be taken away. */
async function tryRun({ argv, env }: Command): Promise<void> {
  await tryExec(argv, env === undefined ? {} : { env });
}
