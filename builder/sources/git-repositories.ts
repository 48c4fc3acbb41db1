import { lstat, mkdir, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  digestOf,
  errnoOf,
  type GitSource,
  type HostPath,
  joinHost,
  MachineError,
  type StepKey,
  withoutCredentials,
} from '../../core/index.ts';
import { TRUST_HINT } from '../../image/index.ts';
import type { FetchOptions, GitCommit, KeptRepository } from './contract.ts';
import { GitFailure, type GitProgram } from './git-program.ts';

export interface GitRepositoriesOptions {
  /** `sources/git` in the state folder. */
  readonly folder: HostPath;
  readonly git: GitProgram;
  readonly exclusively: <T>(key: StepKey, work: () => Promise<T>, signal?: AbortSignal) => Promise<T>;
  readonly now: () => number;
}

/** Where a fetch leaves what it brought, until the commit has a name of its own. */
const FETCHED = 'refs/varve/fetched';
/** What a fetch is asked for to have all that the remote's branches and tags lead to. */
const EVERYTHING = ['--prune', '+refs/heads/*:refs/varve/heads/*', '+refs/tags/*:refs/varve/tags/*'];
/** A commit's name in full, SHA-1 or SHA-256. */
const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

/**
 * Bare repositories in the state folder, one for each remote, with the commits that builds have used: what was fetched once is
 * not fetched again. One process at a time works on a repository.
 */
export class GitRepositories {
  readonly #options: GitRepositoriesOptions;

  constructor(options: GitRepositoriesOptions) {
    this.#options = options;
  }

  /** See `Sources.findCommit`. */
  async find(source: GitSource, options: FetchOptions): Promise<GitCommit> {
    const { ref = '', checksum } = source;
    const commit = COMMIT.test(ref)
      ? { id: ref }
      : ref !== '' && ref === checksum
        ? await this.#findByPrefix(source, checksum, options)
        : await this.#ask(source, options);
    if (checksum === undefined || commit.id.startsWith(checksum)) return commit;
    if (commit.tag?.startsWith(checksum) === true) return commit;
    throw new MachineError(
      'git-checksum-mismatch',
      `${shown(source)}: expected checksum to match ${checksum}, got ${commit.id}`,
      { hint: 'The branch or tag points elsewhere now. Check the change, then name its commit.' },
    );
  }

  async #ask(source: GitSource, options: FetchOptions): Promise<GitCommit> {
    const { ref } = source;
    // Its parent is where ssh keeps the keys of hosts.
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    const heads = ref === undefined ? [] : [`refs/heads/${ref.replace(/^refs\/heads\//, '')}`];
    const tags = ref === undefined ? [] : [`refs/tags/${ref.replace(/^refs\/tags\//, '')}`];
    const others = ref === undefined ? ['HEAD'] : [`refs/${ref.replace(/^refs\//, '')}`];
    const patterns = [...heads, ...tags, ...tags.map((tag) => `${tag}^{}`), ...others];
    const args = ['ls-remote', '--symref', '--', source.remote, ...patterns];
    const found = readRefs(await this.#run(source, args, options));
    const name = [...heads, ...tags, ...others].find((candidate) => found.ids.has(candidate));
    const id = name === undefined ? undefined : found.ids.get(name);
    if (name === undefined || id === undefined) throw refMissing(source);
    const branch = name === 'HEAD' ? found.head : name;
    const peeled = found.ids.get(`${name}^{}`);
    return {
      id: peeled ?? id,
      ...(branch === undefined ? {} : { ref: branch }),
      ...(peeled === undefined ? {} : { tag: id }),
    };
  }

  /** The one commit whose id begins with `prefix`: a branch or a tag leads to it, or the history has it. */
  async #findByPrefix(source: GitSource, prefix: string, options: FetchOptions): Promise<GitCommit> {
    const { folder, git, exclusively } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const { ids } = readRefs(await this.#run(source, ['ls-remote', '--', source.remote], options));
    const tips = new Map<string, GitCommit>();
    for (const [name, id] of ids) {
      const peeled = ids.get(`${name}^{}`);
      if (id.startsWith(prefix))
        tips.set(peeled ?? id, peeled === undefined ? { id } : { id: peeled, tag: id });
    }
    const [[, tip] = [], another] = tips;
    if (tip !== undefined && another === undefined) return tip;
    const [sample] = ids.values();
    if (sample === undefined || another !== undefined) throw refMissing(source);
    const name = nameOf(source, { id: sample });
    const bare = joinHost(folder, name);
    const look = async (): Promise<GitCommit> => {
      await this.#open(bare, { id: sample }, options);
      await this.#fetchBy(EVERYTHING, { source, bare, options }).catch((error: unknown) => {
        throw error instanceof GitFailure ? failed(source, error) : error;
      });
      const args = ['--git-dir', bare, 'rev-parse', '--verify', '--quiet', `${prefix}^{commit}`];
      return { id: (await git(args, options)).trim() };
    };
    try {
      return await exclusively(lockOf(name), look, options.signal);
    } catch (error) {
      throw error instanceof GitFailure ? refMissing(source) : error;
    }
  }

  /**
   * Calls `work` with the bare repository that has the commit, fetched where it is not there yet. Nobody else touches it
   * meanwhile.
   */
  with<T>(
    source: GitSource,
    commit: GitCommit,
    task: { readonly work: (bare: HostPath) => Promise<T>; readonly options: FetchOptions },
  ): Promise<T> {
    const { folder, exclusively } = this.#options;
    const { options } = task;
    const name = nameOf(source, commit);
    const bare = joinHost(folder, name);
    return exclusively(
      lockOf(name),
      async () => {
        await this.#open(bare, commit, options);
        const wanted = { source, commit, bare, options };
        if (!(await this.#hasAll(wanted))) await this.#fetch(wanted);
        return await task.work(bare);
      },
      options.signal,
    );
  }

  async #open(bare: HostPath, commit: GitCommit, options: FetchOptions): Promise<void> {
    const { git, now } = this.#options;
    // The mark is written last: without it, a repository is one that a process left half made.
    const mark = join(bare, 'varve');
    if ((await readFile(mark).catch(() => undefined)) === undefined) {
      await rm(bare, { recursive: true, force: true });
      await mkdir(bare, { recursive: true, mode: 0o700 });
      const format = commit.id.length === 64 ? ['--object-format=sha256'] : [];
      await git(['init', '--quiet', '--bare', '--template=', ...format, bare], options);
      await git(['--git-dir', bare, 'config', 'uploadpack.allowAnySHA1InWant', 'true'], options);
      await writeFile(mark, '');
    }
    await rm(join(bare, 'shallow.lock'), { force: true });
    const at = new Date(now());
    await utimes(mark, at, at);
  }

  /** Is the commit there, and the tag too where `.git` is to keep it? */
  async #hasAll({ source, commit, bare, options }: Fetch): Promise<boolean> {
    const { git } = this.#options;
    try {
      const type = await git(['--git-dir', bare, 'cat-file', '-t', commit.id], options);
      if (type.trim() !== 'commit') return false;
      if (commit.tag !== undefined && source.keepGitDir === true)
        await git(['--git-dir', bare, 'cat-file', '-e', commit.tag], options);
      return true;
    } catch (error) {
      if (error instanceof GitFailure) return false;
      throw error;
    }
  }

  /** By its id alone where the server lets us; else by the ref that it was found by, and at last everything. */
  async #fetch(wanted: Fetch): Promise<void> {
    const { commit, bare, options, source } = wanted;
    const { git } = this.#options;
    const ways: readonly (readonly string[])[] = [
      ...(commit.ref === undefined
        ? []
        : [['--depth=1', `+${commit.ref}:${FETCHED}`], [`+${commit.ref}:${FETCHED}`]]),
      ['--depth=1', commit.id],
      EVERYTHING,
    ];
    let failure: unknown;
    for (const way of ways) {
      try {
        await this.#fetchBy(way, wanted);
      } catch (error) {
        if (!(error instanceof GitFailure)) throw error;
        failure ??= error;
        if (!isRefusal(error)) throw failed(source, error);
        continue;
      }
      if (!(await this.#hasAll(wanted))) continue;
      // Named, so that nothing drops it, whatever the branch does later.
      await git(['--git-dir', bare, 'update-ref', `refs/varve/commits/${commit.id}`, commit.id], options);
      return;
    }
    throw commit.ref === undefined
      ? commitMissing(source, commit.id, failure)
      : new MachineError('git-ref-missing', `${shown(source)} changed while it was fetched`, {
          hint: 'Build again.',
          cause: failure,
        });
  }

  /** `git fetch` with the flags and refs of `way`. @throws GitFailure */
  async #fetchBy(way: readonly string[], wanted: Omit<Fetch, 'commit'>): Promise<void> {
    const { source, bare, options } = wanted;
    const flags = way.filter((word) => word.startsWith('--'));
    const refs = way.filter((word) => !word.startsWith('--'));
    const everything = way === EVERYTHING && (await isShallow(bare)) ? ['--unshallow'] : [];
    const args = ['fetch', '--quiet', '--force', '--no-tags', ...flags, ...everything];
    await this.#options.git(['--git-dir', bare, ...args, '--', source.remote, ...refs], {
      ...options,
      remote: source.remote,
    });
  }

  async #run(source: GitSource, args: readonly string[], options: FetchOptions): Promise<string> {
    try {
      return await this.#options.git(args, { ...options, remote: source.remote });
    } catch (error) {
      throw error instanceof GitFailure ? failed(source, error) : error;
    }
  }

  /** See `Sources.repositories`. */
  async list(): Promise<readonly KeptRepository[]> {
    const { folder } = this.#options;
    const names = await readdir(folder).catch(() => []);
    return Promise.all(
      names.map(async (name) => {
        const mark = await stat(joinHost(folder, name, 'varve')).catch(() => undefined);
        return { name, bytes: await bytesBelow(joinHost(folder, name)), lastUsedAtMs: mark?.mtimeMs ?? 0 };
      }),
    );
  }

  /** See `Sources.removeRepository`. */
  remove(kept: KeptRepository, signal: AbortSignal): Promise<number> {
    const { folder, exclusively } = this.#options;
    const path = joinHost(folder, kept.name);
    return exclusively(
      lockOf(kept.name),
      async () => {
        const mark = await stat(join(path, 'varve')).catch(() => undefined);
        if ((mark?.mtimeMs ?? 0) > kept.lastUsedAtMs) return 0;
        // First the mark: what is left of a removal that was cut short is then no repository.
        await rm(join(path, 'varve'), { force: true });
        await rm(path, { recursive: true, force: true });
        return kept.bytes;
      },
      signal,
    );
  }
}

interface Fetch {
  readonly source: GitSource;
  readonly commit: GitCommit;
  readonly bare: HostPath;
  readonly options: FetchOptions;
}

function nameOf(source: GitSource, commit: Pick<GitCommit, 'id'>): string {
  return digestOf(`${commit.id.length} ${source.remote}`).slice('sha256:'.length);
}

function lockOf(name: string): StepKey {
  return digestOf(`git repository ${name}`) as string as StepKey;
}

/** How to call a source in messages. */
export function shown(source: GitSource): string {
  const ref = source.ref === undefined ? '' : `#${source.ref}`;
  return `${withoutCredentials(source.remote)}${ref}`;
}

/** The lines of `git ls-remote --symref`. */
function readRefs(text: string): { readonly ids: ReadonlyMap<string, string>; readonly head?: string } {
  const ids = new Map<string, string>();
  let head: string | undefined;
  for (const line of text.split('\n')) {
    const [value = '', name = ''] = line.split('\t');
    if (value.startsWith('ref: ')) {
      if (name === 'HEAD') head = value.slice('ref: '.length);
    } else if (COMMIT.test(value)) ids.set(name, value);
  }
  return { ids, ...(head === undefined ? {} : { head }) };
}

/** Did the server refuse what was asked, where another way of asking may do? */
function isRefusal({ stderr }: GitFailure): boolean {
  return /not our ref|unadvertised object|does not allow request|shallow|--depth|couldn't find remote ref|no such remote ref/i.test(
    stderr,
  );
}

function refMissing(source: GitSource): MachineError {
  const repository = withoutCredentials(source.remote);
  const { ref } = source;
  if (ref === undefined)
    return new MachineError('git-ref-missing', `repository ${repository} has no commits`);
  const what =
    ref === source.checksum ? 'none or several commits whose id begins so' : 'no such branch or tag';
  return new MachineError(
    'git-ref-missing',
    `repository does not contain ref ${ref}: ${repository} has ${what}`,
    {
      hint: /^[0-9a-f]{4,39}$/.test(ref)
        ? 'Name a commit in full, with all its 40 digits.'
        : 'Check the name behind # or in the query.',
    },
  );
}

function commitMissing(source: GitSource, id: string, cause: unknown): MachineError {
  return new MachineError(
    'git-ref-missing',
    `repository ${withoutCredentials(source.remote)} has no commit ${id}`,
    { hint: 'Check the commit, and whether a branch or tag leads to it.', cause },
  );
}

/** git's own last words say best what is wrong. */
export function failed(source: GitSource, error: GitFailure): MachineError {
  const said = error.stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /^(?:fatal|error|remote|ssh|git@|host key)/i.test(line) || /denied|refused/i.test(line))
    .map((line) => withoutCredentials(line.replace(/^fatal: /, '')));
  const reason = said.find((line) => !line.startsWith('remote:')) ?? said[0] ?? error.stderr.trim();
  const needsLogin = /could not read Username|Authentication failed|Permission denied|terminal prompts/i.test(
    error.stderr,
  );
  const isUntrusted = /certificate (?:problem|verification failed)|unable to get local issuer/i.test(
    error.stderr,
  );
  return new MachineError(
    'git-unreachable',
    `failed to fetch ${shown(source)}: ${reason.replaceAll(source.remote, withoutCredentials(source.remote))}`,
    {
      hint: isUntrusted
        ? TRUST_HINT
        : needsLogin
          ? 'The repository is private, or is not there. Check its address; let varve in with --ssh default or --secret id=GIT_AUTH_TOKEN.'
          : 'Check the address and the network.',
      cause: error,
    },
  );
}

async function isShallow(bare: HostPath): Promise<boolean> {
  return (await stat(join(bare, 'shallow')).catch(() => undefined)) !== undefined;
}

async function bytesBelow(path: HostPath): Promise<number> {
  try {
    const entry = await lstat(path);
    if (!entry.isDirectory()) return entry.size;
    const names = await readdir(path);
    const sizes = await Promise.all(names.map((name) => bytesBelow(joinHost(path, name))));
    return sizes.reduce((sum, size) => sum + size, 0);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}
