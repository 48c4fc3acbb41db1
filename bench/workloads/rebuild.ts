import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../../fixtures/index.ts';
import type { Bench } from '../bench.ts';
import { copyNodeService } from '../contexts.ts';
import { type RunningDocker, startDocker } from '../dockerd.ts';
import type { BuilderTimes, RebuildResult } from '../result.ts';
import { seededRandom, shuffled, summarise } from '../statistics.ts';
import { writeArchive } from '../store.ts';

const EDITS = 4;
const MOST = 0.1;
const IMAGE = 'localhost/rebuilt';

/** A builder that has the base image and nothing else. */
interface Builder {
  readonly name: string;
  readonly version: string;
  /** Its own copy of the application. */
  readonly context: string;
  readonly build: () => Promise<void>;
  /** What a container of the image answers. */
  readonly answer?: () => Promise<string>;
}

type Measured = Extract<BuilderTimes, { kind: 'measured' }>;

/**
 * Builds the Node application with each builder, then edits a source file and builds again, several times; the order within
 * each edit is drawn anew. What the Dockerfile installs comes from the npm registry, for each builder by itself.
 *
 * @throws Error where varve's image does not do what the edited source says.
 */
export async function measureRebuild(bench: Bench): Promise<RebuildResult> {
  const folder = await mkdtemp(join(bench.folder, 'rebuild-'));
  const archive = join(folder, 'base.tar');
  await writeArchive('node', archive);
  const docker = await startDocker(join(folder, 'docker'));
  try {
    const builders = [await varveBuilder(bench, folder), await buildahBuilder(folder, archive)];
    if (!('reason' in docker)) builders.push(await dockerBuilder(docker, { folder, archive }));
    const measured = await measureEdits(bench, builders);
    const [varve, ...others] = measured;
    if (varve === undefined) throw new Error('varve was not measured');
    return {
      kind: 'rebuild',
      workload: 'rebuild',
      title: 'the Node application after an edit of a source file',
      seed: bench.seed,
      builders: 'reason' in docker ? [...measured, unavailable('docker.io', docker.reason)] : measured,
      ratios: others.map((other) => ({ builder: other.builder, ratio: ratioOf(varve, other) })),
      limit: MOST,
    };
  } finally {
    if (!('reason' in docker)) await docker[Symbol.asyncDispose]();
  }
}

function unavailable(builder: string, reason: string): BuilderTimes {
  return { kind: 'unavailable', builder, reason };
}

function ratioOf(varve: Measured, other: Measured): RebuildResult['ratios'][number]['ratio'] {
  return summarise(varve.rebuildMs.map((ms, i) => ms / (other.rebuildMs[i] ?? Number.NaN)));
}

async function measureEdits(bench: Bench, builders: readonly Builder[]): Promise<readonly Measured[]> {
  const random = seededRandom(bench.seed);
  const cold = new Map<Builder, number>();
  const rebuilt = new Map<Builder, number[]>();
  for (const builder of shuffled(builders, random)) {
    cold.set(builder, await timed(builder));
    bench.say(`  first build with ${builder.name}: ${cold.get(builder)} ms`);
  }
  const edits = bench.quick ? 1 : EDITS;
  for (let edit = 1; edit <= edits; edit += 1) {
    for (const builder of shuffled(builders, random)) {
      await editSource(builder.context, edit);
      const ms = await timed(builder);
      rebuilt.set(builder, [...(rebuilt.get(builder) ?? []), ms]);
      bench.say(`  edit ${edit}/${edits} with ${builder.name}: ${ms} ms`);
      const answer = await builder.answer?.();
      if (answer !== undefined && !answer.includes(`Edit ${edit}`)) {
        throw new Error(`${builder.name} built something else than the edited source: ${answer}`);
      }
    }
  }
  return builders.map((builder) => ({
    kind: 'measured',
    builder: builder.name,
    version: builder.version,
    coldMs: cold.get(builder) ?? Number.NaN,
    rebuildMs: rebuilt.get(builder) ?? [],
  }));
}

async function editSource(context: string, edit: number): Promise<void> {
  const text = `export function greeting(name) {\n  return \`Edit ${edit}: good day, \${name}!\`;\n}\n`;
  await writeFile(join(context, 'src/greeting.js'), text);
}

/** Milliseconds of one build. */
async function timed(builder: Builder): Promise<number> {
  await exec(['sync']);
  const began = performance.now();
  await builder.build();
  return Math.round((performance.now() - began) * 10) / 10;
}

async function contextIn(folder: string): Promise<string> {
  const context = await mkdtemp(join(folder, 'context-'));
  await copyNodeService(context);
  return context;
}

const FLAGS = ['--build-arg', 'REGISTRY=localhost', '--tag', IMAGE];

async function varveBuilder(bench: Bench, folder: string): Promise<Builder> {
  const store = await bench.freshStore();
  await store.base('node');
  const context = await contextIn(folder);
  const version = (await store.varve(['--version'])).trim().split(' ').at(-1) ?? '';
  return {
    name: 'varve',
    version,
    context,
    build: async () => {
      await store.build([...FLAGS, context]);
    },
    answer: () => store.varve(['run', '--rm', IMAGE, '/greet/you']),
  };
}

/** Chroot isolation is buildah's cheapest, and needs no cgroups. */
async function buildahBuilder(folder: string, archive: string): Promise<Builder> {
  const root = join(folder, 'buildah');
  const runRoot = join(folder, 'buildah-run');
  const store = ['--root', root, '--runroot', runRoot, '--storage-driver', 'overlay'];
  const context = await contextIn(folder);
  const target = `containers-storage:[overlay@${root}+${runRoot}]localhost/node:latest`;
  await exec(['skopeo', 'copy', '--quiet', `docker-archive:${archive}`, target]);
  const { stdout } = await exec(['buildah', '--version']);
  return {
    name: 'buildah',
    version: /version (\S+)/.exec(stdout)?.[1] ?? '',
    context,
    build: async () => {
      const flags = ['--layers', '--isolation', 'chroot', '--pull-never', '--quiet'];
      await exec(['buildah', ...store, 'bud', ...flags, ...FLAGS, context]);
    },
  };
}

async function dockerBuilder(
  docker: RunningDocker,
  place: { readonly folder: string; readonly archive: string },
): Promise<Builder> {
  const { command, env } = docker;
  await exec([...command, 'load', '--quiet', '--input', place.archive], { env });
  const context = await contextIn(place.folder);
  return {
    name: 'docker.io',
    version: docker.version,
    context,
    build: async () => {
      await exec([...command, 'build', '--quiet', '--network', 'host', ...FLAGS, context], { env });
    },
  };
}
