import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  errnoOf,
  type GitSource,
  type HostPath,
  imagePath,
  joinHost,
  MachineError,
  resolvePath,
  withoutCredentials,
} from '../../core/index.ts';
import type { FetchOptions, GitCheckout, GitCommit } from './contract.ts';
import { folderTree } from './folder-tree.ts';
import { GitFailure, type GitProgram } from './git-program.ts';
import { failed, shown } from './git-repositories.ts';

export interface CheckoutTask {
  readonly git: GitProgram;
  readonly source: GitSource;
  readonly commit: GitCommit;
  /** The bare repository that has the commit. */
  readonly bare: HostPath;
  /** The files come into a new folder in here. */
  readonly temporary: HostPath;
  readonly options: FetchOptions;
}

/**
 * Writes a commit's files, with those of its submodules, into a new folder. The `.git` folder is kept where that is asked for, with
 * this one commit as its history, no credentials, and nothing that depends on the time or the machine.
 */
export async function checkOutCommit(task: CheckoutTask): Promise<GitCheckout> {
  const { source, git, commit, options } = task;
  const folder = (await mkdtemp(joinHost(task.temporary, 'git-'))) as HostPath;
  const keeps = source.keepGitDir === true && source.subdir === undefined;
  const inside = (
    args: readonly string[],
    call: Partial<FetchOptions & { protocols: readonly string[] }> = {},
  ) => git(args, { ...options, ...call, remote: source.remote, cwd: folder });
  const format = commit.id.length === 64 ? ['--object-format=sha256'] : [];
  await inside(['init', '--quiet', '--template=', ...format]);
  if (keeps) await copyHistory(task, inside);
  else await borrowObjects(task, folder);
  await inside(['checkout', '--quiet', '--detach', '--force', commit.id]);
  await inside(['remote', 'add', 'origin', source.remote]);
  if (source.submodules !== false) await fetchSubmodules(task, inside);
  const time = Number((await inside(['log', '-1', '--format=%ct', commit.id])).trim());
  if (keeps) await cleanHistory(source, folder, inside);
  else await removeGitDirs(folder, inside);
  const wanted = source.subdir === undefined ? folder : await subfolder(source, source.subdir, folder);
  return { folder: wanted, root: folder, ...(source.mtime === 'checkout' ? {} : { commitTime: time }) };
}

type Inside = (
  args: readonly string[],
  call?: Partial<FetchOptions & { protocols: readonly string[] }>,
) => Promise<string>;

/** The commit with its tree, and the branch or tag that it was found by, into the checkout's own `.git`. */
async function copyHistory({ commit, bare }: CheckoutTask, inside: Inside): Promise<void> {
  const id = commit.tag ?? commit.id;
  const refs = [`+${id}:${commit.ref ?? 'refs/varve/fetched'}`];
  // The only call that may read files of this machine: it follows no submodule.
  const fetch = [
    'fetch',
    '--quiet',
    '--no-tags',
    '--update-head-ok',
    '--depth=1',
    '--',
    `file://${bare}`,
    ...refs,
  ];
  await inside(fetch, { protocols: ['file'] });
  if (commit.ref === undefined) await inside(['update-ref', '-d', 'refs/varve/fetched']);
}

/** Reads the objects where they lie: the `.git` folder goes away again. */
async function borrowObjects({ bare }: CheckoutTask, folder: HostPath): Promise<void> {
  await writeFile(join(folder, '.git/objects/info/alternates'), `${bare}/objects\n`);
  try {
    await copyFile(join(bare, 'shallow'), join(folder, '.git/shallow'));
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

async function fetchSubmodules({ source }: CheckoutTask, inside: Inside): Promise<void> {
  const update = ['submodule', '--quiet', 'update', '--init', '--recursive'];
  try {
    await inside([...update, '--depth=1']).catch((error: unknown) => {
      // Some servers give no single commits.
      if (error instanceof GitFailure) return inside(update);
      throw error;
    });
  } catch (error) {
    if (!(error instanceof GitFailure)) throw error;
    const { message, hint } = failed(source, error);
    throw new MachineError(
      'git-unreachable',
      message.replace('failed to fetch', 'failed to update submodules of'),
      {
        hint: hint ?? '',
        cause: error,
      },
    );
  }
}

/** Takes out of `.git` what tells of this machine, this moment, or a password. */
async function cleanHistory(source: GitSource, folder: HostPath, inside: Inside): Promise<void> {
  await inside(['remote', 'set-url', 'origin', withoutCredentials(source.remote)]);
  if (source.submodules !== false) await inside(['submodule', '--quiet', 'sync', '--recursive']);
  // An index without times and inodes: it is the same wherever it is made.
  await rm(join(folder, '.git/index'), { force: true });
  await inside(['read-tree', 'HEAD']);
  await removeNamed(join(folder, '.git') as HostPath, new Set(['FETCH_HEAD', 'ORIG_HEAD', 'logs']));
}

async function removeNamed(folder: HostPath, names: ReadonlySet<string>): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = joinHost(folder, entry.name);
    if (names.has(entry.name)) await rm(path, { recursive: true, force: true });
    else if (entry.isDirectory() && entry.name !== 'objects') await removeNamed(path, names);
  }
}

/** Removes the `.git` of the repository and of all submodules; symlinks that a repository brings lead nowhere. */
async function removeGitDirs(folder: HostPath, inside: Inside): Promise<void> {
  const list = ['submodule', '--quiet', 'foreach', '--recursive', 'printf "%s\\0" "$displaypath"'];
  const paths = (await inside(list)).split('\0').filter((path) => path !== '');
  const tree = folderTree(folder);
  for (const path of paths) {
    const gitFile = imagePath(`${path}/.git`);
    if ((await tree.lstat(gitFile)) !== undefined)
      await rm(joinHost(folder, gitFile), { recursive: true, force: true });
  }
  await rm(join(folder, '.git'), { recursive: true, force: true });
}

/** The folder that is wanted, its symlinks resolved inside the repository. */
async function subfolder(source: GitSource, subdir: string, folder: HostPath): Promise<HostPath> {
  const found = await resolvePath(folderTree(folder), imagePath(subdir), { followLast: true });
  if (found?.entry?.type === 'dir') return joinHost(folder, found.path);
  throw new MachineError('git-subdir-missing', `${shown(source)} has no folder ${JSON.stringify(subdir)}`, {
    hint: 'Check the folder behind the second colon, or subdir= in the query.',
  });
}
