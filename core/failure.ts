/** A range of a source text. Lines and columns count from 1, columns in UTF-16 units; `end` is exclusive. */
export interface SourceRange {
  readonly start: SourcePosition;
  readonly end: SourcePosition;
}

export interface SourcePosition {
  readonly line: number;
  readonly column: number;
  /** UTF-16 units from the start of the text. */
  readonly offset: number;
}

/** Something to tell the author of a Dockerfile. Rendered with an excerpt of the source by the command line. */
export interface Diagnostic {
  readonly severity: 'error' | 'warning';
  /** Stable name: BuildKit's rule name for its build checks (`StageNameCasing`), else kebab-case (`unknown-instruction`). */
  readonly code: string;
  readonly message: string;
  readonly range: SourceRange;
  /** What to do about it. */
  readonly hint?: string;
  /** A page that explains the rule. */
  readonly url?: string;
}

/** The user's build failed: bad Dockerfile, missing source, a command that exits non-zero. Travels in a `Result`. */
export interface BuildFailure {
  readonly kind: 'build-failure';
  /** Stable, kebab-case: `copy-source-missing`, `run-failed`, `unknown-stage`. */
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
  /** Where in the Dockerfile; absent when no line is to blame. */
  readonly range?: SourceRange;
  /** All parse errors, when parsing failed. */
  readonly diagnostics?: readonly Diagnostic[];
  /** Exit code of a failed command. */
  readonly exitCode?: number;
}

/**
 * The machine failed: disk full, registry down, no compiler, store of a newer version. `code` is stable and
 * kebab-case; `hint` says what to do. A bug, by contrast, is a plain `Error` that nobody catches.
 */
export class MachineError extends Error {
  override readonly name = 'MachineError';
  readonly code: string;
  readonly hint: string | undefined;

  constructor(
    code: string,
    message: string,
    options: { readonly hint?: string; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** What to do where a file of the store is not as it was left. */
export const STORE_CHANGED_HINT = 'something outside of varve changes files in its store';

/** What to do where a user may use no other ids than the own one (subuid(5)). */
export const UNMAPPED_ID_HINT =
  'install the package uidmap, and give the user a range of 65536 ids in /etc/subuid and /etc/subgid';

/** The failure of a `chown` to ids that the user namespace has none for (`EINVAL`); any other failure is given back. */
export function ownerFailure(cause: unknown, owner: { readonly uid: number; readonly gid: number }): unknown {
  if (!(cause instanceof Error && 'code' in cause && cause.code === 'EINVAL')) return cause;
  return new MachineError(
    'unmapped-id',
    `user ${owner.uid} or group ${owner.gid} is none that this user may use`,
    { hint: UNMAPPED_ID_HINT, cause },
  );
}

/** Used wrongly: an unknown flag, a missing argument. The command line ends with exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly hint: string | undefined;

  constructor(message: string, hint?: string) {
    super(message);
    this.hint = hint;
  }
}

/** `error.code` of Node's system errors (`ENOENT`), undefined for anything else. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' && /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined;
}

/** What went wrong first, where more went wrong while things were given back after it (`SuppressedError`). */
export function firstError(error: unknown): unknown {
  let first = error;
  while (first instanceof Error && first.name === 'SuppressedError' && 'suppressed' in first)
    first = first.suppressed;
  return first;
}

/** Did a system call fail because the disk, or the user's share of it, is full? */
export function hasNoRoom(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'ENOSPC' || errno === 'EDQUOT';
}
