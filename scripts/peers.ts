import { cp, link, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { startDocker } from '../bench/dockerd.ts';
import {
  buildWithBuildah,
  compareConfigs,
  compareTrees,
  exec,
  pushBase,
  type RawConfig,
  type ScannedTree,
  scanTree,
  skopeoConfig,
  startRegistry,
  tryExec,
  unpackWithUmoci,
} from '../fixtures/index.ts';
import { KNOWN, type Peer, type PeerDifference } from '../fixtures/peers/differences.ts';

/** What a builder made of a fixture: an image, or its last words. */
type Made =
  | { readonly ok: true; readonly tree: ScannedTree; readonly config: RawConfig }
  | { readonly ok: false; readonly said: string };

/** Builds a fixture in a folder of its own. @returns the image in containers-transports(5) form. */
type Build = (job: {
  readonly dockerfile: string;
  readonly context: string;
  readonly folder: string;
}) => Promise<string>;

const FIXTURES = join(import.meta.dirname, '../fixtures/peers');
/** The daemon has no bridge: its steps use the machine's network. */
const DOCKER_FLAGS = ['-t', 'judged', '--network', 'host'];
const VARVE = join(import.meta.dirname, '../bin/varve');

async function make(build: Build, job: Parameters<Build>[0]): Promise<Made> {
  let image: string;
  try {
    image = await build(job);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const lines = text.split('\n').filter((line) => /error|fail|invalid|not/i.test(line));
    return { ok: false, said: (lines.at(-1) ?? text).trim() };
  }
  const unpacked = await unpackWithUmoci(image, job.folder);
  return { ok: true, tree: await scanTree(unpacked), config: await skopeoConfig(image) };
}

function differencesOf(varve: Made, peer: Made): readonly PeerDifference[] {
  if (!varve.ok || !peer.ok) {
    if (varve.ok === peer.ok) return [];
    const said = (made: Made): string => (made.ok ? 'built' : made.said);
    return [{ where: 'build', left: said(varve), right: said(peer) }];
  }
  return [...compareTrees(varve.tree, peer.tree), ...compareConfigs(varve.config, peer.config)];
}

/** Makes the context that all fixtures share, with what Git cannot hold. */
async function makeContext(folder: string): Promise<string> {
  const context = join(folder, 'context');
  await cp(join(FIXTURES, 'context'), context, { recursive: true, verbatimSymlinks: true });
  await exec(['tar', '-cf', join(context, 'archive.tar'), '-C', join(context, 'dir'), '.']);
  await exec(['tar', '-czf', join(context, 'archive.tar.gz'), '-C', join(context, 'dir'), '.']);
  await mkdir(join(context, 'linked/deep'), { recursive: true });
  await writeFile(join(context, 'linked/one'), 'one file with two names\n');
  await link(join(context, 'linked/one'), join(context, 'linked/deep/two'));
  return context;
}

async function main(wanted: readonly string[]): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'varve-peers-'));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const registry = cleanup.use(await startRegistry());
  await pushBase(registry, 'busybox');
  const context = await makeContext(folder);
  await writeFile(join(folder, 'secret'), 'not for the image\n');
  const secret = ['--secret', `id=peer,src=${join(folder, 'secret')}`];
  const flags = ['--build-arg', `REGISTRY=${registry.address}`, ...secret];
  const docker = await startDocker(join(folder, 'docker'));
  if ('reason' in docker) process.stdout.write(`docker: ${docker.reason}\n`);
  else cleanup.use(docker);
  const builders: Record<'varve' | Peer, Build | undefined> = {
    varve: async (job) => {
      const archive = join(job.folder, 'image.tar');
      const output = ['--output', `type=docker,dest=${archive}`];
      await exec([VARVE, 'build', '-q', ...flags, ...output, '-f', job.dockerfile, job.context], {
        env: { VARVE_ROOT: join(folder, 'varve') },
      });
      return `docker-archive:${archive}`;
    },
    docker:
      'reason' in docker
        ? undefined
        : async (job) => {
            const { command, env } = docker;
            const archive = join(job.folder, 'image.tar');
            await exec([...command, 'build', ...DOCKER_FLAGS, ...flags, '-f', job.dockerfile, job.context], {
              env,
            });
            await exec([...command, 'save', '-o', archive, 'judged'], { env });
            return `docker-archive:${archive}`;
          },
    buildah:
      (await tryExec(['buildah', '--version'])).code === 0
        ? ({ folder: own, ...job }) => buildWithBuildah({ ...job, flags }, own)
        : undefined,
  };
  let unexplained = 0;
  for (const file of (await readdir(FIXTURES)).filter((name) => name.endsWith('.Dockerfile')).sort()) {
    const name = basename(file, '.Dockerfile');
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const made = new Map<string, Made>();
    for (const [builder, build] of Object.entries(builders)) {
      if (build === undefined) continue;
      const own = join(folder, 'work', name, builder);
      await mkdir(own, { recursive: true });
      made.set(builder, await make(build, { dockerfile: join(FIXTURES, file), context, folder: own }));
      // Where a build fails, buildah leaves its store mounted.
      await tryExec(['umount', '--lazy', join(own, 'root/overlay')]);
      await rm(own, { recursive: true, force: true });
    }
    const varve = made.get('varve');
    if (varve === undefined) continue;
    for (const peer of ['docker', 'buildah'] as const) {
      const other = made.get(peer);
      if (other !== undefined) unexplained += report({ name, peer }, differencesOf(varve, other));
    }
  }
  process.stdout.write(`${unexplained} differences without a reason\n`);
  return unexplained === 0 ? 0 : 1;
}

/** @returns how many differences nobody has given a reason for. */
function report(
  { name, peer }: { readonly name: string; readonly peer: Peer },
  differences: readonly PeerDifference[],
): number {
  process.stdout.write(`${name} beside ${peer}: ${differences.length === 0 ? 'the same' : ''}\n`);
  let unexplained = 0;
  for (const difference of differences) {
    const known = KNOWN.find(
      (one) =>
        one.peer === peer &&
        (one.fixtures === undefined || one.fixtures.includes(name)) &&
        one.covers(difference),
    );
    if (known === undefined) unexplained += 1;
    const place =
      difference.where === 'build' ? 'build' : `${difference.where} ${difference.path} ${difference.field}`;
    const why = known === undefined ? 'NO REASON GIVEN' : `${known.right} is right: ${known.reason}`;
    process.stdout.write(`  ${place}: ${difference.left ?? '-'} | ${difference.right ?? '-'}\n    ${why}\n`);
  }
  return unexplained;
}

process.exitCode = await main(process.argv.slice(2));
