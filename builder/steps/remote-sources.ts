import type { Canonical } from '../../cache/index.ts';
import { imagePath, ROOT_PATH, type Tree, withoutCredentials } from '../../core/index.ts';
import { atTime, type Contexts } from '../contexts.ts';
import { type SelectedRoot, type SelectionOptions, selectSources } from '../copy-selection.ts';
import type { CopySourcePlan } from '../graph.ts';
import { FileTree, folderTree } from '../sources/index.ts';

/** A source that lies in a tree. */
export interface FoundRoot {
  readonly kind: 'root';
  readonly tree: Tree;
  /** Names the tree, for messages and as an input. */
  readonly where: string;
  readonly root: SelectedRoot;
  /** From a web server: no archive unless that is asked for. */
  readonly isRemote?: true;
}

/** A repository at one commit, which stands for its files: they are fetched when they are needed. */
export interface FoundRepository {
  readonly kind: 'git';
  /** All that its files follow from. */
  readonly key: Canonical;
  readonly open: () => Promise<readonly FoundRoot[]>;
}

/** Who fetches for ADD; see {@link Contexts}. */
export type Fetcher = Pick<Contexts, 'findCommit' | 'checkOut' | 'fetchFile'>;

type HttpSource = Extract<CopySourcePlan, { readonly kind: 'http' }>;
type RepositorySource = Extract<CopySourcePlan, { readonly kind: 'git' }>;

/** A file from a web server, known by its content: neither its address nor the server's tags are part of it. */
export async function findFile(
  { url, name, checksum, range }: HttpSource,
  fetcher: Fetcher,
  { exclude }: SelectionOptions,
): Promise<readonly FoundRoot[]> {
  const path = imagePath(name);
  if (exclude?.ignores(path) === true) return [];
  const file = await fetcher.fetchFile(url, { range, ...(checksum === undefined ? {} : { checksum }) });
  const tree = new FileTree(path, file);
  const root: SelectedRoot = { path, resolved: path, entry: tree.entry, inside: [] };
  return [{ kind: 'root', tree, where: `the remote file ${name}`, root, isRemote: true }];
}

/** The repository's commit of today. */
export async function findRepository(
  { source, range }: RepositorySource,
  fetcher: Fetcher,
  options: SelectionOptions,
): Promise<FoundRepository> {
  const commit = await fetcher.findCommit(source, { range });
  const where = withoutCredentials(source.remote);
  const keeps = source.keepGitDir === true;
  const open = async (): Promise<readonly FoundRoot[]> => {
    const { folder, commitTime } = await fetcher.checkOut(source, commit, { range });
    const tree = folderTree(folder, commitTime === undefined ? undefined : atTime(commitTime));
    const roots = await selectSources(tree, '/', { range, where }, options);
    return roots.map((root) => ({ kind: 'root', tree, where, root: { ...root, path: ROOT_PATH } }));
  };
  let opened: Promise<readonly FoundRoot[]> | undefined;
  return {
    kind: 'git',
    key: {
      repository: where,
      commit: commit.id,
      subdir: source.subdir,
      submodules: source.submodules !== false,
      // Times are part of no key, but for those that somebody asks for.
      mtime: source.mtime === 'checkout' ? source.mtime : undefined,
      // What `.git` holds beside the commit.
      git: keeps ? { ref: commit.ref, tag: commit.tag } : undefined,
    },
    open: () => {
      opened ??= open();
      return opened;
    },
  };
}
