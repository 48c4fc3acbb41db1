import { type Action, stepKey } from '../../cache/index.ts';
import {
  type CommittedSnapshot,
  type Entry,
  FOLDER_TIME,
  type ImagePath,
  type Snapshotter,
  shownMode,
  type Time,
  type Tree,
  type TreeOp,
  type TreeOps,
} from '../../core/index.ts';
import { ContextTree } from '../context.ts';
import type { BuilderParts } from '../contract.ts';
import { earlierCopies } from '../earlier-copies.ts';
import { entryOp } from '../entry-op.ts';
import type { BindMount, RunStep } from '../graph.ts';
import { stop } from '../stop.ts';
import type { MountSource } from './mount-source.ts';
import { StickyTimes } from './sticky-times.ts';

const ACTION_VERSION = 1;

export interface ContextSnapshotParts extends Pick<BuilderParts, 'cache' | 'packLayer' | 'now'> {
  readonly snapshotter: Snapshotter;
  readonly treeOps: TreeOps;
}

/** A mount of files of the build context. */
interface ContextMount {
  readonly step: RunStep;
  readonly mount: BindMount;
  readonly parts: ContextSnapshotParts;
}

function queryOf(source: MountSource, { step, mount }: ContextMount) {
  const action: Action = { version: ACTION_VERSION, kind: 'COPY', definition: { mounted: source.path } };
  const input = { ...source.input, name: source.where };
  return { action, parent: undefined, inputs: [input], slot: `${step.slot}\nmount ${mount.target}` };
}

/**
 * The entries that a snapshot of `source` would hold, in path order, if it were made now. A file that the last one has too keeps the time
 * that it has there, as copied files do.
 */
export async function entriesToLay(source: MountSource, place: ContextMount): Promise<readonly Entry[]> {
  const { action, slot } = queryOf(source, place);
  const times = new StickyTimes((await earlierCopies(slot, action, place.parts)).map(({ tree }) => tree));
  const lay = async (entry: Entry, path: ImagePath): Promise<Entry> => {
    const { type, uid, gid, size, linkTarget, device } = entry;
    return {
      path,
      type,
      mode: shownMode(entry),
      uid,
      gid,
      size,
      mtime: await timeOf(entry, { path, tree: source.tree, times }),
      ...(linkTarget === undefined ? {} : { linkTarget }),
      ...(device === undefined ? {} : { device }),
    };
  };
  const entries = [await lay(source.entry, source.path)];
  for (const one of await source.inside()) entries.push(await lay(one, one.path));
  return entries;
}

/** Folders are such that nobody need be able to see them. */
async function timeOf(
  entry: Entry,
  { path, tree, times }: { readonly path: ImagePath; readonly tree: Tree; readonly times: StickyTimes },
): Promise<Time> {
  return entry.type === 'dir' ? FOLDER_TIME : times.timeOf({ entry, tree, target: path });
}

/**
 * What a mount takes of the build context, as a snapshot: a step shall see the files that were fingerprinted, whatever happens to the
 * folder while it runs. It is kept like the result of a COPY, so builds that mount the same files share it, and eviction takes it.
 *
 * @returns undefined where there is nothing to mount.
 */
export async function contextSnapshot(
  source: MountSource,
  place: ContextMount,
  signal: AbortSignal,
): Promise<CommittedSnapshot | undefined> {
  const { mount, parts } = place;
  const { cache, snapshotter } = parts;
  const query = queryOf(source, place);
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
    const entries = await entriesToLay(source, place);
    await parts.treeOps.apply(active.root, operations(source, entries), signal);
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

/** Lays the files where they lie in the context. */
async function* operations({ tree }: MountSource, entries: readonly Entry[]): AsyncGenerator<TreeOp> {
  for (const entry of entries) {
    const { path, mode, uid, gid, mtime } = entry;
    yield await entryOp(entry, { path, attributes: { mode, uid, gid, mtime } }, async () => ({
      kind: 'host',
      path: await tree.hostPath(path),
    }));
  }
}

async function refuseChanges({ tree, entry, inside }: MountSource, mount: BindMount): Promise<void> {
  if (!(tree instanceof ContextTree)) return;
  const files = [entry, ...(await inside())].filter(({ type }) => type === 'file');
  const changed = await tree.firstChanged(files.map(({ path }) => path));
  if (changed === undefined) return;
  stop('context-changed', `${JSON.stringify(changed)} changed while it was made ready to be mounted`, {
    range: mount.range,
    hint: 'Build again when nothing writes to the build context.',
  });
}
