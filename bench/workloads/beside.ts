import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BaseName } from '../../fixtures/index.ts';
import { type Bench, oneByOne } from '../bench.ts';
import type { Builder } from '../builders.ts';
import { type Command, timed } from '../command.ts';
import type { Floor } from '../floors.ts';
import { judge, type Limit, ratiosOf } from '../judge.ts';
import type { BesideResult } from '../result.ts';
import { seededRandom, shuffled } from '../statistics.ts';

/** Whole commands of all builders, and floors, in the same rounds. */
export interface BesideWorkload {
  readonly name: string;
  readonly title: string;
  /** What the Dockerfile stands on. */
  readonly base: BaseName;
  readonly rounds: number;
  /** Puts a builder where the first round begins. */
  readonly scenario: (site: Site) => Promise<Scenario>;
  readonly floors: (site: Omit<Site, 'builder'>) => Promise<readonly Floor[]>;
  readonly limits: readonly Limit[];
}

export interface Site {
  readonly bench: Bench;
  readonly builder: Builder;
  /** Empty, and this builder's alone. */
  readonly folder: string;
}

/** What is timed, and what goes before it. */
export interface Scenario {
  /** Makes a round ready, which is not timed, and returns what is. */
  readonly ready: (round: number) => Promise<Command>;
  /** Gives the space back that the last round took. */
  readonly end?: () => Promise<void>;
}

/** One command in one round. */
interface Contestant {
  readonly name: string;
  readonly ready: (round: number) => Promise<Command>;
  readonly end?: (() => Promise<void>) | undefined;
  readonly ms: number[];
}

/** Times all builders and floors in each round, in an order drawn anew. */
export async function measureBeside(bench: Bench, workload: BesideWorkload): Promise<BesideResult> {
  const folder = await mkdtemp(join(bench.folder, `${workload.name}-`));
  const { all, missing } = await bench.builders();
  try {
    const builders = await contestants(bench, { workload, builders: all, folder });
    const floors = (await workload.floors({ bench, folder: await mkdtemp(join(folder, 'floors-')) })).map(
      ({ name, ready, command }): Contestant => ({
        name,
        ready: async () => {
          await ready?.();
          return command;
        },
        ms: [],
      }),
    );
    await measureRounds(bench, workload, [...builders, ...floors]);
    for (const { end } of builders) await end?.();
    const measured = {
      builders: all.map(({ name, version }, i) => ({ name, version, ms: builders[i]?.ms ?? [] })),
      floors: floors.map(({ name, ms }) => ({ name, ms })),
    };
    return {
      kind: 'beside',
      workload: workload.name,
      title: workload.title,
      seed: bench.seed,
      ...measured,
      missing,
      ratios: ratiosOf(measured),
      judgements: judge(measured, workload.limits),
    };
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function contestants(
  bench: Bench,
  options: {
    readonly workload: BesideWorkload;
    readonly builders: readonly Builder[];
    readonly folder: string;
  },
): Promise<readonly Contestant[]> {
  return oneByOne(bench, options.builders, async (builder): Promise<Contestant> => {
    await builder.base(options.workload.base);
    const site = { bench, builder, folder: await mkdtemp(join(options.folder, 'builder-')) };
    const { ready, end } = await options.workload.scenario(site);
    return { name: builder.name, ready, end, ms: [] };
  });
}

async function measureRounds(
  bench: Bench,
  workload: BesideWorkload,
  all: readonly Contestant[],
): Promise<void> {
  const random = seededRandom(bench.seed);
  const rounds = bench.quick ? 1 : (bench.rounds ?? workload.rounds);
  for (let round = 1; round <= rounds; round += 1) {
    await oneByOne(bench, shuffled(all, random), async ({ ready, ms }) => {
      ms.push(await timed(await ready(round), bench));
    });
    const said = all.map(({ name, ms }) => `${name} ${ms.at(-1)}`);
    bench.say(`  ${round}/${rounds} in ms: ${said.join(', ')}`);
  }
}
