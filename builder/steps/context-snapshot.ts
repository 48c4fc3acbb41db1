import { type Action, stepKey } from '../../cache/index.ts';
import {
  type CommittedSnapshot,
  type Entry,
  FOLDER_TIME,
  type ImagePath,
  type Snapshotter,
  type TreeOp,
  type TreeOps,
} from '../../core/index.ts';
import { ContextTree } from '../context.ts';
import type { BuilderParts } from '../contract.ts';
import { entryOp } from '../entry-op.ts';
import type { BindMount, RunStep } from '../graph.ts';
import { stop } from '../stop.ts';
import type { MountSource } from './mount-source.ts';

const ACTION_VERSION = 1;

export interface ContextSnapshotParts extends Pick<BuilderParts, 'cache' | 'packLayer' | 'now'> {
  readonly snapshotter: Snapshotter;
  readonly treeOps: TreeOps;
}

/**
 * What a mount takes of the build context, as a snapshot: a step shall see the files that were fingerprinted, whatever happens to the
 * folder while it runs. It is kept like the result of a COPY, so builds that mount the same files share it, and eviction takes it.
 *
 * @returns undefined where there is nothing to mount.
 */
export async function contextSnapshot(
  source: MountSource,
  {
    step,
    mount,
    parts,
  }: { readonly step: RunStep; readonly mount: BindMount; readonly parts: ContextSnapshotParts },
  signal: AbortSignal,
): Promise<CommittedSnapshot | undefined> {
  const { cache, snapshotter } = parts;
  const action: Action = { version: ACTION_VERSION, kind: 'COPY', definition: { mounted: source.path } };
  const input = { ...source.input, name: source.where };
  const query = { action, parent: undefined, inputs: [input], slot: `${step.slot}\nmount ${mount.target}` };
  const look = async () => {
    const found = await cache.lookup(query);
    if (found.kind === 'miss') return undefined;
    const { diffId } = found.record;
    if (diffId === undefined) return { snapshot: undefined };
    const snapshot = await snapshotter.stack(undefined, diffId);
    if (snapshot !== undefined) return { snapshot };
    cache.forget(found.record.key);
    return undefined;
  };
  const make = async () => {
    const known = await look();
    if (known !== undefined) return known.snapshot;
    const startedMs = parts.now();
    await using active = await snapshotter.prepare(undefined);
    await parts.treeOps.apply(active.root, operations(source), signal);
    await refuseChanges(source, mount);
    await using frozen = await active.freeze({ fixFolderTimes: true });
    const title = `mount ${JSON.stringify(source.path)} of ${source.where}`;
    const result = { durationMs: parts.now() - startedMs, standsOn: { diffs: [], base: 0 }, title };
    if (frozen.changes.length === 0) {
      await cache.record(query, result);
      return undefined;
    }
    const layer = await parts.packLayer(frozen, { signal });
    cache.hold([layer.diffId]);
    const committed = await frozen.commit(layer.diffId);
    await cache.record(query, { ...result, layer });
    return committed;
  };
  return cache.exclusively(stepKey(query), make, signal);
}

/** Lays the files where they lie in the context, in folders that nobody need be able to see. */
async function* operations({ tree, path, entry, inside }: MountSource): AsyncGenerator<TreeOp> {
  const lay = (one: Entry, at: ImagePath) => {
    const { mode, uid, gid } = one;
    const mtime = one.type === 'dir' ? FOLDER_TIME : one.mtime;
    const attributes = { mode, uid, gid, mtime };
    return entryOp(one, { path: at, attributes }, async () => ({
      kind: 'host',
      path: await tree.hostPath(one.path),
    }));
  };
  yield await lay(entry, path);
  for (const one of await inside()) yield await lay(one, one.path);
}

async function refuseChanges({ tree, entry, inside }: MountSource, mount: BindMount): Promise<void> {
  if (!(tree instanceof ContextTree)) return;
  for (const one of [entry, ...(await inside())]) {
    if (one.type !== 'file' || (await tree.isUnchanged(one.path))) continue;
    stop('context-changed', `${JSON.stringify(one.path)} changed while it was made ready to be mounted`, {
      range: mount.range,
      hint: 'Build again when nothing writes to the build context.',
    });
  }
}
