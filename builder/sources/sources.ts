import type { HostPath, StepKey } from '../../core/index.ts';
import { joinHost } from '../../core/index.ts';
import type { BlobStore, Transport } from '../../image/index.ts';
import type { Sources } from './contract.ts';
import { checkOutCommit } from './git-checkout.ts';
import { createGitProgram } from './git-program.ts';
import { GitRepositories } from './git-repositories.ts';
import { HttpFiles } from './http-files.ts';

export interface SourcesOptions {
  /** `sources` in the state folder. */
  readonly folder: HostPath;
  /** A folder of this process, on the store's file system, that is gone when it ends. */
  readonly temporary: HostPath;
  readonly blobs: Pick<BlobStore, 'size' | 'isWhole' | 'put' | 'pathOf'>;
  readonly transport: Transport;
  readonly userAgent: string;
  /** PATH and the proxies are taken from it. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The certificates of all authorities to trust, in a file; absent or undefined: those that git trusts by itself. */
  readonly certificates?: () => Promise<HostPath | undefined>;
  /** See `StepCache.exclusively`. */
  readonly exclusively: <T>(key: StepKey, work: () => Promise<T>, signal?: AbortSignal) => Promise<T>;
  readonly now: () => number;
  /** Most bytes of one file; absent: 32 GiB. */
  readonly maxBytes?: number;
}

export function createSources(options: SourcesOptions): Sources {
  const { folder, temporary, env, certificates, exclusively, now } = options;
  const git = createGitProgram({
    env,
    knownHosts: joinHost(folder, 'known_hosts'),
    ...(certificates === undefined ? {} : { certificates }),
  });
  const repositories = new GitRepositories({ folder: joinHost(folder, 'git'), git, exclusively, now });
  const files = new HttpFiles({ ...options, folder: joinHost(folder, 'http') });
  return {
    findCommit: (source, fetch) => repositories.find(source, fetch),
    checkOut: (source, commit, fetch) =>
      repositories.with(source, commit, {
        options: fetch,
        work: (bare) => checkOutCommit({ git, source, commit, bare, temporary, options: fetch }),
      }),
    fetchFile: (url, fetch) => files.fetch(url, fetch),
    repositories: () => repositories.list(),
    removeRepository: (kept, signal) => repositories.remove(kept, signal),
  };
}
