import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Bench, oneByOne } from '../bench.ts';
import type { Builder } from '../builders.ts';
import { timed } from '../command.ts';
import { nodeApplication } from '../contexts.ts';
import type { BuilderTimes, RebuildResult } from '../result.ts';
import { seededRandom, shuffled, summarise } from '../statistics.ts';
import type { Store } from '../store.ts';

const EDITS = 4;
const MOST = 0.1;
const IMAGE = 'localhost/rebuilt';

/** A builder with its own copy of the application. */
interface Subject {
  readonly builder: Builder;
  readonly context: string;
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
  const { store, all, missing } = await bench.builders();
  const application = nodeApplication(bench);
  const subjects = await oneByOne(bench, all, async (builder): Promise<Subject> => {
    await builder.base('node');
    const context = await mkdtemp(join(folder, 'context-'));
    await application.copyTo(context);
    return { builder, context };
  });
  const measured = await measureEdits(bench, store, subjects);
  // Its layers would be hits for whoever installs the same packages.
  for (const { builder } of subjects) await builder.forget([IMAGE]);
  const [varve, ...others] = measured;
  if (varve === undefined) throw new Error('varve was not measured');
  return {
    kind: 'rebuild',
    workload: 'rebuild',
    title: 'the Node application after an edit of a source file',
    seed: bench.seed,
    builders: [
      ...measured,
      ...missing.map(({ name, reason }) => ({ kind: 'unavailable', builder: name, reason }) as const),
    ],
    ratios: others.map((other) => ({ builder: other.builder, ratio: ratioOf(varve, other) })),
    limit: MOST,
  };
}

function ratioOf(varve: Measured, other: Measured): RebuildResult['ratios'][number]['ratio'] {
  return summarise(varve.rebuildMs.map((ms, i) => ms / (other.rebuildMs[i] ?? Number.NaN)));
}

async function measureEdits(
  bench: Bench,
  store: Store,
  subjects: readonly Subject[],
): Promise<readonly Measured[]> {
  const random = seededRandom(bench.seed);
  const cold = new Map<Subject, number>();
  const rebuilt = new Map<Subject, number[]>();
  const build = (subject: Subject): Promise<number> =>
    timed(subject.builder.build([...FLAGS, subject.context]), bench);
  await oneByOne(bench, shuffled(subjects, random), async (subject) => {
    cold.set(subject, await build(subject));
    bench.say(`  first build with ${subject.builder.name}: ${cold.get(subject)} ms`);
  });
  const edits = bench.quick ? 1 : EDITS;
  for (let edit = 1; edit <= edits; edit += 1) {
    await oneByOne(bench, shuffled(subjects, random), async (subject) => {
      await editSource(subject.context, edit);
      const ms = await build(subject);
      rebuilt.set(subject, [...(rebuilt.get(subject) ?? []), ms]);
      bench.say(`  edit ${edit}/${edits} with ${subject.builder.name}: ${ms} ms`);
      if (subject.builder.name !== 'varve') return;
      const answer = await store.varve(['run', '--rm', IMAGE, ...nodeApplication(bench).question]);
      if (!answer.includes(`Edit ${edit}`)) {
        throw new Error(`varve built something else than the edited source: ${answer}`);
      }
    });
  }
  return subjects.map((subject) => ({
    kind: 'measured',
    builder: subject.builder.name,
    version: subject.builder.version,
    coldMs: cold.get(subject) ?? Number.NaN,
    rebuildMs: rebuilt.get(subject) ?? [],
  }));
}

async function editSource(context: string, edit: number): Promise<void> {
  const text = `export function greeting(name) {\n  return \`Edit ${edit}: good day, \${name}!\`;\n}\n`;
  await writeFile(join(context, 'src/greeting.js'), text);
}

const FLAGS = ['--build-arg', 'REGISTRY=localhost', '--tag', IMAGE];
