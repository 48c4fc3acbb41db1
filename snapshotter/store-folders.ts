import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { errnoOf, type HostPath, hasNoRoom, joinHost, MachineError } from '../core/index.ts';

/** What does not exist is undefined; anything else that goes wrong goes on. */
export function ignoreAbsent(error: unknown): undefined {
  if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
  throw error;
}

/**
 * What `read` gives, at once; undefined where there is no such file. For few bytes: to hand a read over to another thread takes longer
 * than it does.
 */
export function readNow<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    return ignoreAbsent(error);
  }
}

/** Names in a folder; none where there is no folder. */
export async function namesIn(folder: HostPath): Promise<readonly string[]> {
  return (await readdir(folder).catch(ignoreAbsent)) ?? [];
}

/** Makes a folder with a short name that nobody else has. */
export function makeUnique(parent: HostPath): HostPath {
  for (;;) {
    const folder = joinHost(parent, randomBytes(4).toString('hex'));
    try {
      mkdirSync(folder, { mode: 0o700 });
      return folder;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }
}

/**
 * Does `work` on the store's files; a system call that fails becomes a MachineError: `disk-full`, or `store-io` for the rest.
 *
 * @param doing what is being done, for the message: `commit a snapshot`.
 */
export async function onStore<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined || !(error instanceof Error)) throw error;
    const full = hasNoRoom(error);
    throw new MachineError(full ? 'disk-full' : 'store-io', `cannot ${doing}: ${error.message}`, {
      hint: full
        ? 'free some space, or let `varve cache prune` do it'
        : 'the store must be a folder that this user can write to',
      cause: error,
    });
  }
}
