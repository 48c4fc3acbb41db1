import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseName, exec } from '../../fixtures/index.ts';
import type { Bench } from '../bench.ts';
import { downloadPackages, nodeApplication, writeManyFiles, writeSources } from '../contexts.ts';
import type { StepTime, TracingResult } from '../result.ts';
import { type Summary, seededRandom, shuffled, summarise } from '../statistics.ts';
import type { Store } from '../store.ts';

/** A step whose cost is measured, and what it stands on. */
export interface TracedWorkload {
  readonly name: string;
  readonly title: string;
  readonly base: BaseName;
  /** Instructions of an image on that base which the step's Dockerfile then stands on. */
  readonly prepared?: readonly string[];
  /** Pairs of builds in a full run. */
  readonly pairs: number;
  /** The highest accepted median ratio of wall times. */
  readonly limit: number;
  readonly context: (bench: Bench) => Promise<string>;
  /** Instructions between `FROM` and the step. */
  readonly before: readonly string[];
  /** The step without `RUN`. */
  readonly run: string;
}

const ORDINARY = 1.05;
const READS_EVERYTHING = 1.5;

const TOOLS = ['bc', 'curl', 'file', 'jq', 'less', 'openssh-client', 'rsync', 'tree', 'unzip', 'vim-tiny'];
const COMPILER = ['gcc', 'libc6-dev', 'make'];
/** A compiler of a hundredth of the size, for a quick run. */
const SMALL_COMPILER = ['tcc', 'libtcc-dev', 'libc6-dev', 'make'];

/** Every workload with what it runs; all of it lies above a `COPY`, so that there is something to trace. */
export const TRACED: readonly TracedWorkload[] = [
  {
    name: 'npm',
    title: '`npm ci` of 340 packages, from npm’s cache in the base image',
    base: 'node',
    pairs: 7,
    limit: ORDINARY,
    context: (bench) => bench.context('node', nodeApplication(bench).copyTo),
    prepared: ['COPY . /warm', 'RUN cd /warm && npm ci && rm -r /warm/node_modules'],
    before: ['WORKDIR /app', 'COPY . .'],
    run: 'npm ci --prefer-offline',
  },
  {
    name: 'apt',
    title: '`apt-get install` of ten packages with what they need, from a copied folder',
    base: 'debian',
    pairs: 9,
    limit: ORDINARY,
    context: (bench) => packages(bench, 'tools', TOOLS),
    before: ['COPY . /debs'],
    run: 'apt-get install -y --no-install-recommends /debs/*.deb',
  },
  {
    name: 'gcc',
    title: '`make -j2` of 300 C sources with 40 headers',
    base: 'toolchain',
    pairs: 7,
    limit: ORDINARY,
    context: sourcesContext,
    before: ['COPY . /src'],
    run: 'make -C /src -j2',
  },
  {
    name: 'gcc-layered',
    title: 'the same, the compiler installed by an earlier step',
    base: 'debian',
    pairs: 5,
    limit: ORDINARY,
    context: async (bench) => {
      const debs = await packages(bench, 'compiler', COMPILER);
      return bench.context('layered', async (folder) => {
        await exec(['cp', '-a', debs, join(folder, 'debs')]);
        await exec(['cp', '-a', await sourcesContext(bench), join(folder, 'src')]);
      });
    },
    before: [
      'COPY debs /debs',
      'RUN apt-get install -y --no-install-recommends /debs/*.deb',
      'COPY src /src',
    ],
    run: 'make -C /src -j2',
  },
  {
    name: 'processes',
    title: '2,000 short processes',
    base: 'debian',
    pairs: 9,
    limit: ORDINARY,
    context: (bench) =>
      bench.context('loop', async (folder) => {
        const count = bench.quick ? 20 : 2000;
        const loop = `i=0\nwhile [ $i -lt ${count} ]; do /bin/true; i=$((i+1)); done\n`;
        await writeFile(join(folder, 'loop.sh'), loop);
      }),
    before: ['COPY loop.sh /'],
    run: 'sh /loop.sh',
  },
  {
    name: 'tar',
    title: '`tar` of a copied tree of 50,000 files',
    base: 'debian',
    pairs: 5,
    limit: READS_EVERYTHING,
    context: treeContext,
    before: ['COPY . /tree'],
    // GNU tar reads no content when it writes to /dev/null itself.
    run: 'tar -cf - /tree | cat > /dev/null',
  },
  {
    name: 'find',
    title: '`find` over a copied tree of 50,000 files',
    base: 'debian',
    pairs: 5,
    limit: READS_EVERYTHING,
    context: treeContext,
    before: ['COPY . /tree'],
    run: "find /tree -printf '%p %s %T@\\n' > /dev/null",
  },
];

/** Debian packages with what they need; a quick run fetches the same few for all who ask. */
function packages({ quick, store, context }: Bench, name: string, all: readonly string[]): Promise<string> {
  const [folder, names] = quick ? ['small', SMALL_COMPILER] : [name, all];
  return context(folder, (path) => downloadPackages(store, names, path));
}

function sourcesContext(bench: Bench): Promise<string> {
  return bench.context('sources', (folder) => writeSources(folder, bench.quick ? 10 : 300, 40));
}

function treeContext(bench: Bench): Promise<string> {
  return bench.context('tree', async (folder) => {
    await mkdir(folder, { recursive: true });
    await writeManyFiles(folder, bench.quick ? 200 : 50_000);
  });
}

/** Brings to a store what the workload's Dockerfile stands on. Returns the context. */
export async function prepare(bench: Bench, store: Store, workload: TracedWorkload): Promise<string> {
  await store.base(workload.base);
  const context = await workload.context(bench);
  if (workload.prepared !== undefined) {
    // A quick run need not have anything ahead of time.
    const prepared = bench.quick ? [] : workload.prepared;
    const dockerfile = [`FROM localhost/${workload.base}`, ...prepared, ''].join('\n');
    await store.build(['--tag', preparedName(workload), context], dockerfile);
  }
  return context;
}

function preparedName({ name }: TracedWorkload): string {
  return `localhost/prepared-${name}`;
}

/** The Dockerfile: without the step, with it, or with a build argument `ROUND` that makes it run again. */
export function dockerfileOf(
  workload: TracedWorkload,
  options: { readonly step: 'none' | 'once' | 'each round' },
): string {
  const base = workload.prepared === undefined ? `localhost/${workload.base}` : preparedName(workload);
  const rounds = options.step === 'each round' ? ['ARG ROUND'] : [];
  const step = options.step === 'none' ? [] : [`RUN ${workload.run}`];
  return [`FROM ${base}`, ...workload.before, ...rounds, ...step, ''].join('\n');
}

const MODES = ['traced', 'untraced'] as const;
type Mode = (typeof MODES)[number];

/** Builds in pairs, traced and untraced, each pair in an order drawn anew. What lies below the step is reused. */
export async function measureTracing(bench: Bench, workload: TracedWorkload): Promise<TracingResult> {
  const { store, seed } = bench;
  const context = await prepare(bench, store, workload);
  const dockerfile = dockerfileOf(workload, { step: 'each round' });
  const random = seededRandom(seed);
  const build = async (mode: Mode, round: number): Promise<StepTime> => {
    const cache = mode === 'traced' ? 'observed' : 'exact';
    // What the build before left to be written must not be this one's cost.
    if (!bench.quick) await exec(['sync']);
    const flags = [`--cache=${cache}`, '--build-arg', `ROUND=${round}-${mode}`, context];
    const { wallMs, cpuMs, steps } = await store.build(flags, dockerfile);
    const step = steps.at(-1);
    if (step?.outcome !== 'ran') throw new Error(`${workload.name}: the step came to be ${step?.outcome}`);
    return { wallMs: rounded(wallMs), stepMs: rounded(step.ms), cpuMs: rounded(cpuMs) };
  };
  if (!bench.quick) for (const mode of MODES) await build(mode, 0);
  const pairs: TracingResult['pairs'][number][] = [];
  const count = bench.quick ? 1 : workload.pairs;
  for (let round = 1; round <= count; round += 1) {
    const times: Partial<Record<Mode, StepTime>> = {};
    for (const mode of shuffled(MODES, random)) times[mode] = await build(mode, round);
    const { traced, untraced } = times;
    if (traced === undefined || untraced === undefined) throw new Error('a pair has two builds');
    pairs.push({ traced, untraced });
    bench.say(`  ${round}/${count}: traced ${traced.wallMs} ms, untraced ${untraced.wallMs} ms`);
  }
  const ratios = (of: keyof StepTime): Summary =>
    summarise(pairs.map(({ traced, untraced }) => traced[of] / untraced[of]));
  return {
    kind: 'tracing',
    workload: workload.name,
    title: workload.title,
    seed,
    pairs,
    wall: ratios('wallMs'),
    step: ratios('stepMs'),
    cpu: ratios('cpuMs'),
    limit: workload.limit,
  };
}

/** Milliseconds with one decimal: the next ones say nothing. */
function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}
