import type { Digest, GitSource, HostPath } from '../../core/index.ts';

/**
 * What builds take from other machines: Git repositories and files on web servers. Bytes that came once are kept in the state
 * folder, so that asking again is cheap; what an address means is asked anew by every build.
 */
export interface Sources {
  /**
   * Finds the commit that `source` means now; a full commit id needs no network.
   * @throws MachineError `git-missing`, `git-unreachable`, `git-ref-missing`, `git-checksum-mismatch`, `git-invalid`
   */
  findCommit(source: GitSource, options: FetchOptions): Promise<GitCommit>;
  /**
   * Writes the files of a commit (of its `subdir`, where one is named) into a folder of this process.
   * @throws MachineError as `findCommit`, and `git-subdir-missing`
   */
  checkOut(source: GitSource, commit: GitCommit, options: FetchOptions): Promise<GitCheckout>;
  /**
   * Brings one file: the kept one where the server says that it is still the same, or where its digest is `checksum`.
   * @throws MachineError `http-unreachable`, `http-refused`, `http-too-large`, `http-checksum-mismatch`
   */
  fetchFile(url: string, options: FetchFileOptions): Promise<FetchedFile>;
  /** What is kept of repositories. */
  repositories(): Promise<readonly KeptRepository[]>;
  /** Removes what is kept of a repository unless somebody used it since `repositories` told of it. @returns bytes freed. */
  removeRepository(kept: KeptRepository, signal: AbortSignal): Promise<number>;
}

export interface FetchOptions {
  readonly signal: AbortSignal;
  /** Socket of the SSH agent that may be asked for keys, or the one of who runs varve; absent: none. */
  readonly agent?: HostPath | 'own';
  /** The value of an `Authorization` header for the source's own host. It is written nowhere. */
  readonly authorization?: string;
}

export interface GitCommit {
  /** In full, lower case. */
  readonly id: string;
  /** The branch or tag that it was found by: `refs/heads/main`. */
  readonly ref?: string;
  /** The annotated tag's own id. */
  readonly tag?: string;
}

export interface GitCheckout {
  /** What was wanted. */
  readonly folder: HostPath;
  /** What is to be removed when nobody needs it any more: `folder`, or a folder above it. */
  readonly root: HostPath;
  /** When the commit was made, in seconds; absent where the files' own times count. */
  readonly commitTime?: number;
}

export interface FetchFileOptions extends FetchOptions {
  readonly checksum?: Digest;
  readonly onProgress?: (bytes: number, total: number | undefined) => void;
}

export interface FetchedFile {
  readonly digest: Digest;
  readonly size: number;
  /** Where its bytes lie until this process ends. */
  readonly path: HostPath;
  /** Last-Modified in seconds; 0 where the server does not say. */
  readonly mtime: number;
}

export interface KeptRepository {
  readonly name: string;
  readonly bytes: number;
  readonly lastUsedAtMs: number;
}
