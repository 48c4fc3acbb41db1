import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseName, exec, startRegistry } from '../../fixtures/index.ts';
import type { Bench } from '../bench.ts';
import { run } from '../command.ts';
import type { Scenario, Site } from './beside.ts';

/** What is built. */
export interface Project {
  readonly dockerfile: readonly string[];
  /** Where the context comes from; without it there is none. */
  readonly context?: (bench: Bench) => Promise<string>;
  /** Puts a file into each copy of the context that no other has: nobody has made such a layer before. */
  readonly isUnique?: boolean;
}

const IMAGE = 'localhost/measured:latest';

interface Place {
  readonly context: string;
  /** Flags and context of a build. */
  readonly words: readonly string[];
}

/** The Dockerfile lies beside the context, which is a copy of the project's. */
async function place({ bench, folder }: Site, project: Project): Promise<Place> {
  const context = join(folder, 'context');
  const dockerfile = join(folder, 'Dockerfile');
  await writeFile(dockerfile, `${project.dockerfile.join('\n')}\n`);
  if (project.context === undefined) await mkdir(context);
  else await exec(['cp', '-a', await project.context(bench), context]);
  if (project.isUnique === true) await writeFile(join(context, 'unique'), randomUUID());
  return { context, words: ['--tag', IMAGE, '-f', dockerfile, context] };
}

/** Unpacks the base, where a builder has left that for later. */
async function warm(site: Site, base: BaseName): Promise<void> {
  const folder = await mkdtemp(join(site.folder, 'warm-'));
  const dockerfile = join(folder, 'Dockerfile');
  await writeFile(dockerfile, `FROM localhost/${base}\nRUN true\n`);
  await run(site.builder.build(['-f', dockerfile, folder]));
}

/** Built once, then again and again; `change` does something to the context before each. */
export function again(
  project: Project,
  change: (context: string, round: number) => Promise<void> = async () => {},
): (site: Site) => Promise<Scenario> {
  return async (site) => {
    const { context, words } = await place(site, project);
    await run(site.builder.build(words));
    return {
      ready: async (round) => {
        await change(context, round);
        return site.builder.build(words);
      },
    };
  };
}

/** Removes the files of a context and copies them anew: other inodes, other times. */
export function freshCheckout(
  template: (bench: Bench) => Promise<string>,
  bench: Bench,
): (context: string) => Promise<void> {
  return async (context) => {
    await rm(context, { recursive: true });
    await exec(['cp', '-R', await template(bench), context]);
  };
}

/** Built from nothing each time, but for the base. The context is a new copy: nobody has seen these files before. */
export function cold(base: BaseName, project: Project): (site: Site) => Promise<Scenario> {
  return async (site) => {
    await site.builder.base(base);
    if (!site.bench.quick) await warm(site, base);
    const folders: string[] = [];
    const end = async (): Promise<void> => {
      await site.builder.forget([IMAGE]);
      for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
    };
    return {
      ready: async () => {
        await end();
        const folder = await mkdtemp(join(site.folder, 'cold-'));
        folders.push(folder);
        const { words } = await place({ ...site, folder }, project);
        return site.builder.build(words);
      },
      end,
    };
  };
}

/** An image is pulled that the store has nothing of. */
export function pulls(base: BaseName, project: Project): (site: Site) => Promise<Scenario> {
  return async (site) => {
    const { bench, builder } = site;
    const { address } = await bench.registry();
    const reference = `${address}/pulled:latest`;
    // Once for all builders.
    await bench.context('pulled', async (folder) => {
      await bench.store.base(base);
      const { words } = await place({ ...site, folder }, project);
      const archive = join(folder, 'image.tar');
      await bench.store.varve(['build', '--quiet', '--output', `type=docker,dest=${archive}`, ...words]);
      const [from, to] = [`docker-archive:${archive}`, `docker://${reference}`];
      await exec(['skopeo', 'copy', '--quiet', '--dest-tls-verify=false', from, to]);
    });
    const end = (): Promise<void> => builder.forget([reference]);
    return {
      ready: async () => {
        await end();
        return builder.pull(reference);
      },
      end,
    };
  };
}

/** An image that was just built goes to a registry that has nothing. */
export function pushes(base: BaseName, project: Project): (site: Site) => Promise<Scenario> {
  return async (site) => {
    const { ready, end } = await cold(base, project)(site);
    return {
      ready: async (round) => {
        await run(await ready(round));
        const registry = site.bench.ending.use(await startRegistry());
        return site.builder.push(IMAGE, `${registry.address}/fresh:latest`);
      },
      ...(end === undefined ? {} : { end }),
    };
  };
}
