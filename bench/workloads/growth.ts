import { mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../../fixtures/index.ts';
import type { Bench } from '../bench.ts';
import { withMemory } from '../memory.ts';
import type { GrowthPoint, GrowthResult, GrowthUnit } from '../result.ts';
import type { Store } from '../store.ts';

/** A layer that grows, made by varve from nothing; a `COPY` once more when nothing has changed. */
export interface GrowthWorkload {
  readonly name: string;
  readonly title: string;
  readonly unit: GrowthUnit;
  readonly by: 'COPY' | 'RUN';
}

const FILES = [1000, 5000, 20_000, 100_000, 500_000];
const MEBIBYTES = [64, 256, 1024, 4096, 10_240];
const MIB = 2 ** 20;
const FOLDER_OF = 100;
/** What a file takes on a disk at least, and what a large one holds. */
const [SMALL, LARGE] = [4096, 8 * MIB];
/** A context, the store's copy of it, and as much again for everything else. */
const ROOM = 3;
const MOST_MIB = 300;
/** Linear is 1; a tenth is left to the noise of single builds. */
const MOST_EXPONENT = 1.1;

export const GROWTH: readonly GrowthWorkload[] = [
  { name: 'copy-files', title: '`COPY` of many files', unit: 'files', by: 'COPY' },
  { name: 'copy-bytes', title: '`COPY` of many bytes', unit: 'MiB', by: 'COPY' },
  { name: 'run-files', title: '`RUN` that writes many files', unit: 'files', by: 'RUN' },
  { name: 'run-bytes', title: '`RUN` that writes many bytes', unit: 'MiB', by: 'RUN' },
];

/** Builds one size after the other, each in a store of its own, and leaves out those that the disk has no room for. */
export async function measureGrowth(bench: Bench, workload: GrowthWorkload): Promise<GrowthResult> {
  const points: GrowthPoint[] = [];
  const skipped: number[] = [];
  for (const size of sizesOf(bench, workload.unit)) {
    const folder = await mkdtemp(join(bench.folder, 'growth-'));
    try {
      if (!(await hasRoom(folder, workload.unit, size))) {
        skipped.push(size);
        bench.say(`  ${size} ${workload.unit}: left out, the disk has no room`);
        continue;
      }
      const point = await measurePoint(bench, { workload, size, folder });
      points.push(point);
      bench.say(`  ${size} ${workload.unit}: ${JSON.stringify(point.builds)}`);
    } finally {
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    }
  }
  const { name, title, unit } = workload;
  return {
    kind: 'growth',
    workload: name,
    title,
    unit,
    points,
    skipped,
    limit: MOST_EXPONENT,
    mostMiB: MOST_MIB,
  };
}

function sizesOf(bench: Bench, unit: GrowthUnit): readonly number[] {
  const [sizes, most] = unit === 'files' ? [FILES, bench.mostFiles] : [MEBIBYTES, bench.mostMebibytes];
  if (bench.quick) return sizes.slice(0, 1).map((size) => Math.ceil(size / 10));
  return sizes.filter((size) => size <= most);
}

async function hasRoom(folder: string, unit: GrowthUnit, size: number): Promise<boolean> {
  const { bavail, bsize, ffree } = await statfs(folder);
  const bytes = unit === 'files' ? size * SMALL : size * MIB;
  return bavail * bsize > ROOM * bytes && (unit === 'MiB' || ffree > ROOM * size);
}

async function measurePoint(
  bench: Bench,
  { workload, size, folder }: { workload: GrowthWorkload; size: number; folder: string },
): Promise<GrowthPoint> {
  const store = await bench.freshStore();
  try {
    await store.base('busybox');
    const context = join(folder, 'context');
    const dockerfile = join(folder, 'Dockerfile');
    await mkdir(context);
    const script = writes(workload.unit, size);
    await writeFile(dockerfile, `FROM localhost/busybox\n`);
    await store.build(['-f', dockerfile, context]);
    if (workload.by === 'COPY') await exec(['/bin/busybox', 'sh', '-c', script], { cwd: context });
    const step = workload.by === 'COPY' ? 'COPY . /data/' : `RUN mkdir /data && cd /data && ${script}`;
    await writeFile(dockerfile, `FROM localhost/busybox\n${step}\n`);
    return { size, builds: await measureBuilds(bench, store, { dockerfile, context, by: workload.by }) };
  } finally {
    await store.remove();
  }
}

async function measureBuilds(
  bench: Bench,
  store: Store,
  project: { readonly dockerfile: string; readonly context: string; readonly by: 'COPY' | 'RUN' },
): Promise<GrowthPoint['builds']> {
  const command = store.command(['build', '--quiet', '-f', project.dockerfile, project.context]);
  const cold = { name: 'cold', ...(await withMemory(command, bench)) } as const;
  // What a RUN wrote is not looked at again.
  if (project.by === 'RUN') return [cold];
  return [cold, { name: 'unchanged', ...(await withMemory(command, bench)) }];
}

/** A script for busybox's shell that writes small files of a few bytes, or large ones of bytes that nothing makes smaller. */
function writes(unit: GrowthUnit, size: number): string {
  if (unit === 'MiB') {
    const count = Math.max(1, Math.floor((size * MIB) / LARGE));
    const each = Math.ceil((size * MIB) / count);
    return `i=0; while [ $i -lt ${count} ]; do head -c ${each} /dev/urandom > $i; i=$((i+1)); done`;
  }
  const folders = Math.ceil(size / FOLDER_OF);
  return `seq ${folders} | sed s,^,f, | xargs mkdir && for d in *; do i=0; while [ $i -lt ${Math.min(size, FOLDER_OF)} ]; do echo $d $i > $d/$i; i=$((i+1)); done; done`;
}
