import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseName, exec } from '../../fixtures/index.ts';
import type { Bench } from '../bench.ts';
import { nodeApplication, writeManyFiles } from '../contexts.ts';
import { BARE_NAMESPACES, BARE_NODE, copy, crun, find, sha256 } from '../floors.ts';
import type { BesideWorkload } from './beside.ts';
import { again, cold, freshCheckout, type Project, pulls, pushes } from './scenarios.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

/** A tree of small files, the same for all who ask; 100 files of it in a quick run. */
function tree(count: number): (bench: Bench) => Promise<string> {
  return (bench) => {
    const files = bench.quick ? 100 : count;
    return bench.context(`tree-${files}`, (folder) => writeManyFiles(folder, files));
  };
}

/** A tree of incompressible files. */
function data(name: string, files: number, mebibytes: number): (bench: Bench) => Promise<string> {
  return (bench) =>
    bench.context(name, async (folder) => {
      const [count, bytes] = bench.quick ? [8, MIB] : [files, mebibytes * MIB];
      const each = Math.floor(bytes / count);
      const script = `i=0; while [ $i -lt ${count} ]; do head -c ${each} /dev/urandom > $i; i=$((i+1)); done`;
      await exec(['sh', '-c', script], { cwd: folder });
    });
}

/** Twelve instructions, a context that is copied whole and two steps that use it. */
function twelve(count: number): Project {
  return {
    dockerfile: [
      'FROM localhost/busybox',
      'ARG MODE=production',
      'ENV MODE=$MODE LANG=C.UTF-8',
      'LABEL description="twelve instructions"',
      'RUN mkdir -p /app /var/cache/app',
      'WORKDIR /app',
      'COPY group-0/part-0 ./first/',
      'RUN ls first > first.txt',
      'COPY . .',
      'RUN find . -type f | wc -l > count.txt',
      'EXPOSE 8080',
      'CMD ["cat", "count.txt"]',
    ],
    context: tree(count),
  };
}

function edited(count: number): Project {
  return {
    dockerfile: ['FROM localhost/busybox', 'WORKDIR /app', 'COPY . .', `RUN tail -n 1 ${EDITED} > /edited`],
    context: tree(count),
  };
}

const EDITED = 'group-0/part-1/file-21.txt';

async function edit(context: string, round: number): Promise<void> {
  await appendFile(join(context, EDITED), `edit ${round}\n`);
}

/** `most`: of the time that the faster of the others takes. */
function editOne(one: {
  readonly name: string;
  readonly files: number;
  readonly rounds: number;
  readonly most: number;
}): BesideWorkload {
  const { name, files, rounds, most } = one;
  return {
    name,
    title: `one file of ${files.toLocaleString('en')} edited, \`COPY . .\`, a \`RUN\``,
    base: 'busybox',
    rounds,
    scenario: again(edited(files), edit),
    floors: async ({ bench, folder }) => {
      const template = await tree(files)(bench);
      return [find(template), copy(template, join(folder, 'copy'))];
    },
    limits: [{ kind: 'ratio', most }],
  };
}

/** Cheap steps that nothing but their command tells apart. */
function cheapRuns({ quick }: Bench): Project {
  const runs = Array.from({ length: quick ? 3 : 20 }, (_, i) => `RUN echo ${i} > /file-${i}`);
  return { dockerfile: ['FROM localhost/busybox', ...runs] };
}

const FOUR = [1, 2, 3, 4];

const sleeps = ({ quick }: Bench): string => `sleep ${quick ? 0.1 : 2} && echo slept > /slept`;

function fourStages(bench: Bench): Project {
  return {
    dockerfile: [
      ...FOUR.flatMap((n) => [
        `FROM localhost/busybox AS s${n}`,
        `RUN ${sleeps(bench)} && echo ${n} >> /slept`,
      ]),
      'FROM localhost/busybox',
      ...FOUR.map((n) => `COPY --from=s${n} /slept /slept-${n}`),
    ],
  };
}

/** Writes `count` files of half a mebibyte and a little, which nothing makes smaller. */
function writesData({ quick }: Bench): string {
  const count = quick ? 4 : 2000;
  return `mkdir /data && i=0 && while [ $i -lt ${count} ]; do head -c 536871 /dev/urandom > /data/$i; i=$((i+1)); done`;
}

/** Writes folders of 20 small files, without a process for each. */
function writesModules({ quick }: Bench): string {
  const folders = quick ? 30 : 3000;
  const names = Array.from({ length: 20 }, (_, i) => i).join(' ');
  const file = 'echo "module.exports = { folder: \'$d\', file: $i };" > $d/file-$i.js';
  return `seq ${folders} | sed s,^,/node_modules/m, | xargs mkdir -p && for d in /node_modules/*; do for i in ${names}; do ${file}; done; done`;
}

const installs = ({ quick }: Bench): string =>
  `apt-get update && apt-get install -y --no-install-recommends ${quick ? 'tree' : 'build-essential'}`;

/** A `RUN` on nothing but the base, from nothing. */
function coldRun(
  base: BaseName,
  script: (bench: Bench) => string,
): Pick<BesideWorkload, 'scenario' | 'floors' | 'base'> {
  return {
    base,
    scenario: (site) =>
      cold(base, { dockerfile: [`FROM localhost/${base}`, `RUN ${script(site.bench)}`] })(site),
    floors: async ({ bench, folder }) => [await crun(base, script(bench), folder)],
  };
}

/** The base of what goes to and from a registry. */
const transferred = ({ quick }: Bench): BaseName => (quick ? 'busybox' : 'debian');

/** Everything that is measured beside others, in the order of the table. */
export const BESIDE: readonly BesideWorkload[] = [
  {
    name: 'unchanged-1k',
    title: 'nothing changed: 12 instructions, 1,000 files',
    base: 'busybox',
    rounds: 9,
    scenario: again(twelve(1000)),
    floors: async ({ bench }) => [BARE_NODE, find(await tree(1000)(bench))],
    limits: [
      { kind: 'ratio', most: 0.5 },
      { kind: 'above', floor: BARE_NODE.name, most: 60 },
    ],
  },
  {
    name: 'unchanged-50k',
    title: 'the same with 50,000 files',
    base: 'busybox',
    rounds: 7,
    scenario: again(twelve(50_000)),
    floors: async ({ bench }) => [BARE_NODE, find(await tree(50_000)(bench))],
    limits: [
      { kind: 'ratio', most: 0.25 },
      { kind: 'times', floor: 'find -printf', most: 3 },
    ],
  },
  {
    name: 'checkout',
    title: 'the same after a fresh checkout',
    base: 'busybox',
    rounds: 5,
    scenario: (site) => again(twelve(50_000), freshCheckout(tree(50_000), site.bench))(site),
    floors: async ({ bench, folder }) => {
      const template = await tree(50_000)(bench);
      return [find(template), sha256(template), copy(template, join(folder, 'copy'))];
    },
    limits: [{ kind: 'ratio', most: 0.3 }],
  },
  {
    name: 'runs',
    title: '20 cheap `RUN`s, cold',
    base: 'busybox',
    rounds: 7,
    scenario: (site) => cold('busybox', cheapRuns(site.bench))(site),
    floors: async ({ folder }) => [
      BARE_NODE,
      BARE_NAMESPACES,
      await crun('busybox', 'echo 1 > /file-1', folder),
    ],
    limits: [
      { kind: 'ratio', most: 0.15 },
      { kind: 'step', steps: 20, most: 15 },
    ],
  },
  editOne({ name: 'edit-10k', files: 10_000, rounds: 7, most: 0.2 }),
  editOne({ name: 'edit-50k', files: 50_000, rounds: 5, most: 0.15 }),
  {
    name: 'stages',
    title: 'four stages that each sleep 2 s, and a `COPY --from` of each',
    base: 'busybox',
    rounds: 3,
    scenario: (site) => cold('busybox', fourStages(site.bench))(site),
    floors: async ({ bench, folder }) => [await crun('busybox', sleeps(bench), folder)],
    limits: [
      { kind: 'ratio', most: 1 },
      { kind: 'wall', most: 2500 },
    ],
  },
  {
    name: 'data',
    title: 'one `RUN` that writes 1 GiB of random bytes in 2,000 files, cold',
    ...coldRun('busybox', writesData),
    rounds: 3,
    limits: [{ kind: 'ratio', most: 0.6 }],
  },
  {
    name: 'copy',
    title: '`COPY` of 512 MiB in 1,000 files, cold',
    base: 'busybox',
    rounds: 3,
    scenario: cold('busybox', {
      dockerfile: ['FROM localhost/busybox', 'COPY . /data/'],
      context: data('half', 1000, 512),
    }),
    floors: async ({ bench, folder }) => {
      const template = await data('half', 1000, 512)(bench);
      return [sha256(template), copy(template, join(folder, 'copy'))];
    },
    limits: [{ kind: 'ratio', most: 0.6 }],
  },
  {
    name: 'modules',
    title: 'one `RUN` that writes 60,000 small files, cold',
    ...coldRun('busybox', writesModules),
    rounds: 3,
    limits: [{ kind: 'ratio', most: 0.6 }],
  },
  {
    name: 'apt-cold',
    title: '`apt-get update && apt-get install build-essential`, cold',
    ...coldRun('debian', installs),
    rounds: 3,
    limits: [{ kind: 'ratio', most: 0.95 }],
  },
  {
    name: 'npm-cold',
    title: '`npm ci` of 340 packages, cold',
    base: 'node',
    rounds: 3,
    scenario: cold('node', {
      dockerfile: ['FROM localhost/node', 'WORKDIR /app', 'COPY . .', 'RUN npm ci'],
      context: (bench) => bench.context('node', nodeApplication(bench).copyTo),
    }),
    floors: async () => [BARE_NODE],
    limits: [{ kind: 'ratio', most: 0.95 }],
  },
  {
    name: 'pull',
    title: 'pull of three layers from a registry on loopback, cold',
    base: 'debian',
    rounds: 5,
    scenario: (site) =>
      pulls(transferred(site.bench), {
        // No builder has the first layer either: it is not the base's.
        dockerfile: [
          `FROM localhost/${transferred(site.bench)} AS system`,
          'RUN echo another > /etc/another',
          'FROM scratch',
          'COPY --from=system / /',
          'COPY group-0 /small/',
          'COPY . /large/',
        ],
        context: tree(10_000),
      })(site),
    floors: async () => [],
    limits: [{ kind: 'ratio', most: 0.9 }],
  },
  {
    name: 'push',
    title: 'push of a fresh image of two layers',
    base: 'debian',
    rounds: 5,
    scenario: (site) =>
      pushes(transferred(site.bench), {
        dockerfile: [`FROM localhost/${transferred(site.bench)}`, 'COPY . /app/'],
        context: tree(10_000),
        isUnique: true,
      })(site),
    floors: async () => [],
    limits: [{ kind: 'ratio', most: 0.9 }],
  },
];
