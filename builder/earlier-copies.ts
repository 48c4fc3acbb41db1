import type { Action } from '../cache/index.ts';
import { ROOT_PATH, type Tree } from '../core/index.ts';
import type { BuilderParts } from './contract.ts';
import { ifSound } from './sound.ts';

/**
 * What a COPY came to before, each diff by itself: this very step's last one first, then the newest one with the same words, since in a
 * Dockerfile or folder that was never built before there is no other. Only times are taken from it, which are no part of
 * any key.
 */
export async function earlierCopies(
  slot: string,
  action: Action,
  { cache, snapshotter }: Pick<BuilderParts, 'cache' | 'snapshotter'>,
): Promise<readonly Tree[]> {
  const records = [cache.previous(slot), ...cache.earlier(action, 1)];
  const diffIds = new Set(records.flatMap((record) => record?.diffId ?? []));
  cache.hold([...diffIds]);
  const snapshots = await Promise.all([...diffIds].map((diffId) => snapshotter.stack(undefined, diffId)));
  const trees = snapshots.flatMap((snapshot) => snapshot?.tree() ?? []);
  const sound = await Promise.all(trees.map((tree) => ifSound(() => tree.list(ROOT_PATH))));
  return trees.filter((_, index) => sound[index] !== undefined);
}
