import type { TreeInput } from '../../cache/index.ts';
import {
  type BuildSession,
  decodePath,
  type HostPath,
  type Mount,
  ROOT_PATH,
  type RootMount,
  unreachable,
} from '../../core/index.ts';
import type { BuilderParts } from '../contract.ts';
import { entryOp } from '../entry-op.ts';
import type { AgentMount, BindMount, CacheMount, RunMount, RunStep, SecretMount } from '../graph.ts';
import { stop } from '../stop.ts';
import { forwardAgent } from './agent-socket.ts';
import type { BoundTrees } from './bound-trees.ts';
import { type ContextSnapshotParts, contextSnapshot } from './context-snapshot.ts';
import { findMountSource, type MountSource, pathInside, type SourceFor } from './mount-source.ts';

export interface MountParts extends ContextSnapshotParts, Pick<BuilderParts, 'cacheMounts'> {
  readonly temporary: HostPath;
  readonly sourceFor: SourceFor;
  readonly session: BuildSession;
}

/** What the mounts of a step take from beside its parent, found before the step is looked up. */
export interface FoundMounts {
  readonly inputs: readonly TreeInput[];
  readonly sources: ReadonlyMap<RunMount, MountSource>;
}

/** The mounts of a step that is about to run; disposal gives back what they need. */
export interface OpenMounts extends AsyncDisposable {
  readonly mounts: readonly Mount[];
  /** Variables that hold secrets. */
  readonly secrets: ReadonlyMap<string, string>;
}

export async function findMounts(
  step: RunStep,
  sourceFor: SourceFor,
  signal: AbortSignal,
): Promise<FoundMounts> {
  const sources = new Map<RunMount, MountSource>();
  for (const mount of step.mounts) {
    const reads = mount.type === 'bind' || (mount.type === 'cache' && hasFirstContent(mount));
    if (reads) sources.set(mount, await findMountSource(mount, sourceFor, signal));
  }
  return { inputs: [...sources.values()].map(({ input }) => input), sources };
}

function hasFirstContent({ from, source }: CacheMount): boolean {
  return from.kind !== 'scratch' || source !== ROOT_PATH;
}

/** Makes everything ready. Cache mounts come last and in a fixed order, since steps wait for each other there. */
export async function openMounts(
  { step, found, bound, parts }: Pick<Work, 'step' | 'found' | 'bound' | 'parts'>,
  signal: AbortSignal,
): Promise<OpenMounts> {
  await using cleanup = new AsyncDisposableStack();
  const secrets = new Map<string, string>();
  const opened = new Map<RunMount, Mount>();
  const work: Work = { step, found, bound, parts, signal, cleanup, secrets };
  for (const mount of step.mounts) {
    const one = mount.type === 'cache' ? undefined : await openMount(mount, work);
    if (one !== undefined) opened.set(mount, one);
  }
  for (const [mount, one] of await openCaches(work)) opened.set(mount, one);
  const mounts = step.mounts.flatMap((mount) => opened.get(mount) ?? []);
  const kept = cleanup.move();
  return { mounts, secrets, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

interface Work {
  readonly step: RunStep;
  readonly found: FoundMounts;
  /** Of which mounts reading is to be told; absent: of none. */
  readonly bound: BoundTrees | undefined;
  readonly parts: MountParts;
  readonly signal: AbortSignal;
  readonly cleanup: AsyncDisposableStack;
  readonly secrets: Map<string, string>;
}

/** Undefined where there is nothing to mount. */
async function openMount(mount: Exclude<RunMount, CacheMount>, work: Work): Promise<Mount | undefined> {
  switch (mount.type) {
    case 'tmpfs':
      return { ...mount, devices: true };
    case 'bind':
      return openBind(mount, work);
    case 'secret':
      return openSecret(mount, work);
    case 'ssh':
      return openAgent(mount, work);
    default:
      return unreachable(mount);
  }
}

function sourceOf(mount: RunMount, { found }: Work): MountSource {
  const source = found.sources.get(mount);
  if (source === undefined) throw new Error('a mount whose source was not looked for');
  return source;
}

async function openBind(mount: BindMount, work: Work): Promise<Mount> {
  const { step, bound, parts, signal, cleanup } = work;
  const { snapshotter } = parts;
  const source = sourceOf(mount, work);
  const snapshot =
    source.standing === undefined
      ? await contextSnapshot(source, { step, mount, parts }, signal)
      : source.standing.snapshot;
  const { target, readonly } = mount;
  const traced = bound?.has(mount) === true;
  if (traced && snapshot !== undefined) bound.mounts(mount, snapshot);
  // What is written goes into a layer of its own, which nobody takes up.
  const opened: AsyncDisposable & { readonly root: RootMount } =
    readonly && snapshot !== undefined
      ? await snapshotter.mountable(snapshot, { traced })
      : await snapshotter.prepare(snapshot);
  cleanup.use(opened);
  const inside = source.path === ROOT_PATH ? {} : { source: source.path };
  return { type: 'tree', root: opened.root, target, readonly, ...inside };
}

async function openSecret(mount: SecretMount, { parts, secrets }: Work): Promise<Mount | undefined> {
  const { id, target, env, mode, uid, gid } = mount;
  const value = await parts.session.secret(id);
  if (value === undefined) {
    if (!mount.required) return undefined;
    stop('secret-missing', `secret ${id}: not found`, {
      range: mount.range,
      hint: `Give it with --secret id=${id},src=FILE or --secret id=${id},env=NAME.`,
    });
  }
  if (env !== undefined) {
    if (value.includes(0)) {
      stop('secret-not-text', `secret ${id} holds a NUL byte, and no variable can`, {
        range: mount.range,
        hint: 'Mount it as a file.',
      });
    }
    secrets.set(env, decodePath(value));
  }
  return target === undefined ? undefined : { type: 'file', target, content: value, mode, uid, gid };
}

async function openAgent(mount: AgentMount, { parts, cleanup }: Work): Promise<Mount | undefined> {
  const agent = await parts.session.agent(mount.id);
  if (agent === undefined) {
    if (!mount.required) return undefined;
    stop('agent-missing', `no SSH key ${JSON.stringify(mount.id)} was forwarded`, {
      range: mount.range,
      hint: `Give an agent or a key with --ssh ${mount.id === 'default' ? 'default' : `${mount.id}=SOCKET|KEY`}.`,
    });
  }
  const { path } = cleanup.use(await forwardAgent(agent, parts.temporary, mount));
  return { type: 'bind', source: path, target: mount.target, readonly: false };
}

const STRICTNESS = { shared: 0, private: 1, locked: 2 } as const;

/** Mounts of the same cache in one step are one; the strictest word on sharing counts. */
async function openCaches(work: Work): Promise<readonly (readonly [CacheMount, Mount])[]> {
  const groups = new Map<string, CacheMount[]>();
  for (const mount of work.step.mounts) {
    if (mount.type !== 'cache') continue;
    const key = JSON.stringify(cacheName(mount, work));
    groups.set(key, [...(groups.get(key) ?? []), mount]);
  }
  const opened: (readonly [CacheMount, Mount])[] = [];
  for (const key of [...groups.keys()].sort()) {
    const mounts = groups.get(key) ?? [];
    const [strictest] = mounts.toSorted((a, b) => STRICTNESS[b.sharing] - STRICTNESS[a.sharing]);
    if (strictest === undefined) continue;
    const folder = await openCache(strictest, work);
    for (const mount of mounts) {
      const { target, readonly } = mount;
      opened.push([mount, { type: 'bind', source: folder, target, readonly }]);
    }
  }
  return opened;
}

function cacheName(mount: CacheMount, { found }: Work) {
  const { id, mode, uid, gid } = mount;
  const base = found.sources.get(mount)?.input.digest;
  return { id, mode, uid, gid, ...(base === undefined ? {} : { base }) };
}

async function openCache(mount: CacheMount, work: Work): Promise<HostPath> {
  const { parts, signal, cleanup, found } = work;
  const source = found.sources.get(mount);
  const fill =
    source === undefined
      ? {}
      : {
          fill: async (path: HostPath) => {
            const root: RootMount = { type: 'directory', path, readonly: false };
            await parts.treeOps.apply(root, firstContent(source, mount), signal);
          },
        };
  const request = { name: cacheName(mount, work), sharing: mount.sharing, ...fill };
  return cleanup.use(await parts.cacheMounts.acquire(request, signal)).folder;
}

async function* firstContent(source: MountSource, mount: CacheMount) {
  const { tree, entry } = source;
  if (entry.type !== 'dir') {
    stop('cache-source-not-folder', `${JSON.stringify(mount.source)} is no folder: a cache mount is one`, {
      range: mount.range,
    });
  }
  for (const one of [entry, ...(await source.inside())]) {
    const { mode, uid, gid, mtime, xattrs } = one;
    const attributes = { mode, uid, gid, mtime, ...(xattrs === undefined ? {} : { xattrs }) };
    const path = one === entry ? ROOT_PATH : pathInside(source, one);
    yield await entryOp(one, { path, attributes }, async () => ({
      kind: 'host',
      path: await tree.hostPath(one.path),
    }));
  }
}
