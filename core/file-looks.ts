import type { Digest } from './digest.ts';
import type { HostPath, ImagePath } from './path.ts';
import type { StatRow } from './stat-row.ts';

/** What lies in one folder. */
export interface LookedFolder {
  /** In the order of their bytes. */
  readonly names: readonly string[];
  /** A row for each name. */
  readonly rows: Buffer;
  /** Targets of the symlinks among them, by the number of the name. */
  readonly targets: ReadonlyMap<number, string>;
}

/** What was read of one file. */
export interface LookedFile {
  /** SHA-256 of its bytes, or of the first `size` and one more where it has grown. */
  readonly digest: Digest;
  /** What lay at its path when it had been read. */
  readonly after: StatRow;
}

/**
 * Looks at files of one folder of this machine in bulk, beside this thread. It tells what it sees and no reasons: where there is nothing to tell,
 * because of what lies there or because looking failed, whoever asked looks for himself. Answers come in the order of the questions.
 */
export interface FileLooks {
  /** What lies in each of these folders; a name that goes meanwhile is left out. undefined: look yourself. */
  list(folders: readonly ImagePath[]): Promise<readonly (LookedFolder | undefined)[]>;
  /** Reads files, each no further than a byte behind `size`; never through a symlink in the last part. undefined: look yourself. */
  read(
    files: readonly { readonly path: ImagePath; readonly size: number }[],
  ): Promise<readonly (LookedFile | undefined)[]>;
  /** Ends it; nothing may be asked any more. */
  end(): void;
}

/** Opens the looks into a folder; what it takes starts with the first question. */
export type LookInto = (folder: HostPath) => FileLooks;
