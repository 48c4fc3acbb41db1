import { randomBytes } from 'node:crypto';
import { mkdir, readdir } from 'node:fs/promises';
import { errnoOf, type HostPath, joinHost } from '../core/index.ts';

/** What does not exist is undefined; anything else that goes wrong goes on. */
export function ignoreAbsent(error: unknown): undefined {
  if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
  throw error;
}

/** Names in a folder; none where there is no folder. */
export async function namesIn(folder: HostPath): Promise<readonly string[]> {
  return (await readdir(folder).catch(ignoreAbsent)) ?? [];
}

/** Makes a folder with a short name that nobody else has. */
export async function makeUnique(parent: HostPath): Promise<HostPath> {
  for (;;) {
    const folder = joinHost(parent, randomBytes(4).toString('hex'));
    try {
      await mkdir(folder, { mode: 0o700 });
      return folder;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }
}
