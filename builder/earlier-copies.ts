import type { Action } from '../cache/index.ts';
import { type DiffId, ROOT_PATH, type Tree } from '../core/index.ts';
import type { BuilderParts } from './contract.ts';
import { ifSound } from './sound.ts';

export interface EarlierCopy {
  readonly diffId: DiffId;
  /** The diff by itself. */
  readonly tree: Tree;
}

/**
 * What a COPY came to before, each diff by itself: this very step's last one first, then the newest one with the same words, since in a
 * Dockerfile or folder that was never built before there is no other. Times are taken from it, which are no part of any key, and the
 * files that are to be copied again as they are. All are held.
 */
export async function earlierCopies(
  slot: string,
  action: Action,
  { cache, snapshotter }: Pick<BuilderParts, 'cache' | 'snapshotter'>,
): Promise<readonly EarlierCopy[]> {
  const records = [cache.previous(slot), ...cache.earlier(action, 1)];
  const diffIds = new Set(records.flatMap((record) => record?.diffId ?? []));
  cache.hold([...diffIds]);
  const copies = await Promise.all(
    [...diffIds].map(async (diffId) => {
      const tree = (await snapshotter.stack(undefined, diffId))?.tree();
      const isSound = tree !== undefined && (await ifSound(() => tree.list(ROOT_PATH))) !== undefined;
      return isSound ? [{ diffId, tree }] : [];
    }),
  );
  return copies.flat();
}
