import {
  type Action,
  type Canonical,
  fingerprint,
  type Selection,
  type TreeInput,
} from '../../cache/index.ts';
import {
  digestOf,
  type Entry,
  encodePath,
  type HostPath,
  type ImagePath,
  imagePath,
  joinPath,
  MachineError,
  type Snapshotter,
  soon,
  type Tree,
  type TreeOp,
  type TreeOps,
  unreachable,
} from '../../core/index.ts';
import { archiveOps, isArchive } from '../archive.ts';
import { ContextTree } from '../context.ts';
import { type PlacedSource, type Placement, placeSources } from '../copy-placement.ts';
import {
  type SelectedRoot,
  type SelectionOptions,
  type SourcePlace,
  selectSources,
} from '../copy-selection.ts';
import type { EarlierCopy } from '../earlier-copies.ts';
import { EMPTY_TREE } from '../empty-tree.ts';
import { type ModeOf, parseMode } from '../file-mode.ts';
import type { CopySourcePlan, CopyStep, TreeRef } from '../graph.ts';
import { ignoreRulesOf } from '../ignore.ts';
import { RecordingTree } from '../recording-tree.ts';
import { type Standing, treeOf } from '../standing.ts';
import { stop } from '../stop.ts';
import { lookUpOwner } from '../users.ts';
import { ObservedOps } from './observed-ops.ts';
import { planPatch } from './patch-plan.ts';
import { type Executed, observingWholeTree, type PreparedStep, seenOfWholeTree } from './prepared-step.ts';
import {
  type Fetcher,
  type FoundRepository,
  type FoundRoot,
  findFile,
  findRepository,
} from './remote-sources.ts';
import { StickyTimes } from './sticky-times.ts';

/** 5: folders on the way take a mode in octal digits. */
const ACTION_VERSION = 5;
/** What of a mode mkdir(2) takes. */
const PERMISSIONS = 0o777;
const INLINE_MODE = 0o644;
/** Heredoc files carry no time of their own: the epoch, so that the layer is the same wherever it is made. */
const INLINE_TIME = { sec: 0, nsec: 0 };

export interface CopyParts {
  readonly snapshotter: Snapshotter;
  readonly treeOps: TreeOps;
  /** The diffs that this step, or one with the same words, came to before, each by itself. */
  readonly previous: (slot: string, action: Action) => Promise<readonly EarlierCopy[]>;
  /** SOURCE_DATE_EPOCH, seconds: the time of files of the context, which another checkout gives other times. */
  readonly sourceDateEpoch?: number;
  /** The files that a source's `from` means, and how to call them in messages. */
  readonly treeFor: (from: TreeRef) => Promise<{ readonly tree: Tree; readonly where: string }>;
  readonly fetcher: Fetcher;
}

interface InlineFile {
  readonly kind: 'inline';
  readonly name: string;
  readonly text: string;
}

/** A source found in its tree, a repository, or a heredoc's text. */
type FoundSource = FoundRoot | FoundRepository | InlineFile;

/** COPY and ADD: sources are found and fingerprinted before the step is looked up; the bytes move only on a miss. */
export async function prepareCopy(
  step: CopyStep,
  parts: CopyParts,
  signal: AbortSignal,
): Promise<PreparedStep> {
  const found = await findSources(step, parts);
  const inputs = await fingerprintSources(found, signal);
  const inline = found.flatMap((source) =>
    source.kind === 'inline' ? [{ name: source.name, digest: digestOf(encodePath(source.text)) }] : [],
  );
  const repositories = found.flatMap((source) => (source.kind === 'git' ? [source.key] : []));
  const definition: Record<string, Canonical | undefined> = {
    sources: step.sources.map(nameOf),
    git: repositories.length === 0 ? undefined : repositories,
    inline: inline.length === 0 ? undefined : inline,
    destination: step.destination,
    chown: step.chown,
    chmod: typeof step.chmod === 'number' ? step.chmod.toString(8) : step.chmod,
    link: step.link,
    parents: step.parents,
    exclude: step.exclude,
    unpack: step.unpack,
    hardLinks: hardLinks(found),
  };
  const action: Action = { version: ACTION_VERSION, kind: step.kind, definition };
  return {
    action,
    inputs,
    ...(step.link === true
      ? { standsApart: true }
      : observingWholeTree(step, { action, inputs }, parts.snapshotter)),
    execute: (on, executeSignal) => copy({ step, action, found, on, parts }, executeSignal),
  };
}

/** How a source is called in the action. An address is not: what it gave is an input. */
function nameOf(source: CopySourcePlan): string {
  switch (source.kind) {
    case 'path':
      return source.pattern;
    case 'inline':
      return `<<${source.name}`;
    case 'http':
      return `http file ${source.name}`;
    case 'git':
      return 'git repository';
    default:
      return unreachable(source);
  }
}

interface CopyWork {
  readonly step: CopyStep;
  readonly action: Action;
  readonly found: readonly FoundSource[];
  readonly on: Standing;
  readonly parts: CopyParts;
}

async function copy(work: CopyWork, signal: AbortSignal): Promise<Executed> {
  const { step, action, found, on, parts } = work;
  const isApart = step.link === true;
  const parent = new RecordingTree(isApart ? EMPTY_TREE : treeOf(on));
  const previous = await parts.previous(step.slot, action);
  const patched = await copyAsPatch(work, { parent, previous }, signal);
  if (patched !== undefined) return patched;
  const times = new StickyTimes(previous.map(({ tree }) => tree));
  const ops = new ObservedOps(times.following(await operations(work, parent, times)), parent);
  await using active = await parts.snapshotter.prepare(isApart ? undefined : on.snapshot);
  await parts.treeOps.apply(active.root, ops, signal);
  await refuseChangedSources(step, found);
  return {
    // Where an archive wrote through its own symlinks, a name may hold other bytes than were copied there.
    frozen: await active.freeze({
      fixFolderTimes: true,
      ...(ops.isTraceable ? { digests: times.digests } : {}),
    }),
    seen: isApart ? { kind: 'unknown' } : seenBy(ops, parent, parts),
  };
}

/** The copy as a patch of an earlier one, of which all that is to be copied again as it is is taken; undefined where that cannot be. */
async function copyAsPatch(
  work: CopyWork,
  { parent, previous }: { readonly parent: RecordingTree; readonly previous: readonly EarlierCopy[] },
  signal: AbortSignal,
): Promise<Executed | undefined> {
  const { step, found, on, parts } = work;
  const { snapshotter } = parts;
  const [latest] = previous;
  // Who wants nothing of the cache wants all of it copied.
  if (latest === undefined || step.noCache || !(await arePlain(step, found))) return undefined;
  const original = await snapshotter.original(latest.diffId);
  if (original === undefined) return undefined;
  const isApart = step.link === true;
  const times = new StickyTimes(previous.map(({ tree }) => tree));
  const ops = new ObservedOps([], parent);
  const see = (op: TreeOp) => {
    times.follow(op);
    return ops.see(op);
  };
  const facts = { original, parent: isApart ? EMPTY_TREE : treeOf(on), see, digests: times.digests };
  const own = await planPatch(await operations(work, parent, times), facts);
  if (own === undefined || !ops.isTraceable) return undefined;
  const patch = { ops: own, digests: times.digests };
  const frozen = await snapshotter.patch(isApart ? undefined : on.snapshot, original, patch, signal);
  if (frozen === undefined) return undefined;
  const copied = own.flatMap((op) =>
    op.op === 'file' && op.content.kind === 'host' ? [op.content.path] : [],
  );
  try {
    await refuseChangedSources(step, found, copied);
  } catch (error) {
    await frozen[Symbol.asyncDispose]();
    throw error;
  }
  return { frozen, seen: isApart ? { kind: 'unknown' } : seenBy(ops, parent, parts) };
}

/** Whether all sources are files and folders of trees, no archives. */
async function arePlain(step: CopyStep, found: readonly FoundSource[]): Promise<boolean> {
  for (const source of found) {
    if (source.kind === 'git') return false;
    if ((await archivePath(step, source)) !== undefined) return false;
  }
  return true;
}

function seenBy(ops: ObservedOps, parent: RecordingTree, parts: CopyParts): Executed['seen'] {
  return ops.isTraceable
    ? seenOfWholeTree(parent, parts.snapshotter)
    : { kind: 'unknown', reason: 'it unpacked an archive through symlinks' };
}

/** Which copied names are one file: the facts of an input tell each name's content, not whether it is shared. */
function hardLinks(found: readonly FoundSource[]): Readonly<Record<string, string>> | undefined {
  const links: Record<string, string> = {};
  for (const source of found) {
    if (source.kind !== 'root') continue;
    for (const { path, entry } of source.root.inside) {
      if (entry.hardlinkTo !== undefined) links[joinPath(source.root.path, path)] = entry.hardlinkTo;
    }
  }
  return Object.keys(links).length === 0 ? undefined : links;
}

async function findSources(step: CopyStep, parts: CopyParts): Promise<readonly FoundSource[]> {
  const found: FoundSource[] = [];
  const exclude = step.exclude === undefined ? undefined : ignoreRulesOf(step.exclude);
  const options: SelectionOptions = {
    ...(exclude?.ok === true ? { exclude: exclude.value } : {}),
    ...(step.parents === true ? { parents: true } : {}),
  };
  for (const source of step.sources) {
    if (source.kind === 'inline') found.push(source);
    else if (source.kind === 'http') found.push(...(await findFile(source, parts.fetcher, options)));
    else if (source.kind === 'git') found.push(await findRepository(source, parts.fetcher, options));
    else {
      const { tree, where } = await parts.treeFor(source.from);
      const place: SourcePlace = {
        range: source.range,
        where,
        ...(tree instanceof ContextTree ? { leavesOut: (path) => tree.leavesOut(path) } : {}),
      };
      const roots = await selectSources(tree, source.pattern, place, options);
      for (const root of roots) found.push({ kind: 'root', tree, where, root: linked(root, tree) });
    }
  }
  return found;
}

/**
 * A folder of a context with its hard links told. A context cannot tell them by itself: whether the other name of a file is copied
 * too is for the step to know, and links to what is not copied must not move its key.
 */
function linked(root: SelectedRoot, tree: Tree): SelectedRoot {
  if (!(tree instanceof ContextTree) || !tree.sharesFiles) return root;
  const firsts = new Map<string, ImagePath>();
  const inside = root.inside.map((one) => {
    const file = tree.sharedFile(one.entry.path);
    if (file === undefined) return one;
    const first = firsts.get(file);
    firsts.set(file, first ?? one.entry.path);
    return first === undefined ? one : { ...one, entry: { ...one.entry, hardlinkTo: first } };
  });
  return firsts.size === 0 ? root : { ...root, inside };
}

/** One input for each tree that is read, so that a miss can say whose file changed. */
async function fingerprintSources(
  found: readonly FoundSource[],
  signal: AbortSignal,
): Promise<readonly TreeInput[]> {
  const byTree = new Map<string, Selection[]>();
  for (const source of found) {
    if (source.kind !== 'root') continue;
    const selections = byTree.get(source.where) ?? [];
    byTree.set(source.where, selections);
    const { root, tree } = source;
    selections.push({ tree, from: root.resolved, to: root.path });
    for (const { path, entry } of root.inside) {
      const selection = { tree, from: entry.path, to: joinPath(root.path, path) };
      // Links among the files of a context were told here: they are no facts of the files.
      const isOwn = entry.hardlinkTo !== undefined && tree instanceof ContextTree;
      selections.push(isOwn ? selection : { ...selection, entry });
    }
  }
  return Promise.all([...byTree].map(([where, selections]) => fingerprint(where, selections, { signal })));
}

async function operations(
  { step, found, parts }: CopyWork,
  parent: Tree,
  times: StickyTimes,
): Promise<AsyncIterable<readonly TreeOp[]>> {
  const owner = step.chown === undefined ? undefined : await ownerOf(step, step.chown, parent);
  const mode = step.chmod === undefined ? undefined : modeOf(step.chmod);
  const placement: Placement = {
    kind: step.kind,
    destination: step.destination,
    range: step.info.range,
    ...(owner === undefined ? {} : { owner }),
    ...(mode === undefined ? {} : { mode }),
    ...(typeof step.chmod === 'number' ? { folderMode: step.chmod & PERMISSIONS } : {}),
  };
  const placed: PlacedSource[] = [];
  for (const source of await opened(found)) {
    const archive = await archivePath(step, source);
    if (archive === undefined && source.kind === 'root') {
      const { tree, root } = source;
      await times.learn(tree, [root.entry, ...root.inside.map(({ entry }) => entry)]);
    }
    placed.push(
      archive === undefined
        ? placedSource(source, times, parts.sourceDateEpoch)
        : {
            kind: 'archive',
            ops: () => unpacked(archive, source.kind === 'root' ? source.root.path : source.name, step),
          },
    );
  }
  return placeSources(parent, placed, placement);
}

/** What an archive holds; ends the build where it cannot be taken. */
async function* unpacked(archive: HostPath, name: string, { info }: CopyStep): AsyncGenerator<TreeOp> {
  try {
    yield* archiveOps(archive);
  } catch (error) {
    if (!(error instanceof MachineError) || error.code !== 'layer-refused') throw error;
    stop('archive-refused', `cannot unpack ${JSON.stringify(name)}: ${error.message}`, {
      range: info.range,
      hint: 'The archive is damaged, or made to do harm: make it anew, or add it as it is with --unpack=false.',
    });
  }
}

/** Sources with their files at hand. */
async function opened(found: readonly FoundSource[]): Promise<readonly (FoundRoot | InlineFile)[]> {
  const sources: (FoundRoot | InlineFile)[] = [];
  for (const source of found) {
    if (source.kind === 'git') sources.push(...(await source.open()));
    else sources.push(source);
  }
  return sources;
}

async function ownerOf(
  step: CopyStep,
  chown: string,
  parent: Tree,
): Promise<{ readonly uid: number; readonly gid: number }> {
  const owner = await lookUpOwner(parent, chown);
  if (owner.ok) return owner.value;
  return stop('unknown-user', owner.error, {
    range: step.info.range,
    ...(step.link === true
      ? { hint: 'With --link there is no passwd or group to look into: give numbers.' }
      : {}),
  });
}

function modeOf(chmod: number | string): ModeOf {
  if (typeof chmod === 'number') return () => chmod;
  const mode = parseMode(chmod);
  if (!mode.ok) throw new Error(`the plan let a mode through: ${mode.error}`);
  return mode.value;
}

/** Where a source lies that ADD unpacks: a tar, plain or compressed. */
async function archivePath(step: CopyStep, source: FoundRoot | InlineFile): Promise<HostPath | undefined> {
  if (step.kind === 'COPY' || step.unpack === false) return undefined;
  if (source.kind === 'inline' || source.root.entry.type !== 'file') return undefined;
  if (source.isRemote === true && step.unpack !== true) return undefined;
  const path = await source.tree.hostPath(source.root.resolved);
  return (await isArchive(path)) ? path : undefined;
}

function placedSource(
  source: FoundRoot | InlineFile,
  times: StickyTimes,
  sourceDateEpoch: number | undefined,
): PlacedSource {
  if (source.kind === 'root') {
    const { root, tree } = source;
    return {
      kind: 'root',
      root,
      contentOf: (path) => soon(tree.hostPath(path), (host) => ({ kind: 'host', path: host })),
      timeOf:
        sourceDateEpoch !== undefined && tree instanceof ContextTree
          ? () => ({ sec: sourceDateEpoch, nsec: 0 })
          : (entry, target) => times.timeOf({ entry, tree, target }),
    };
  }
  const bytes = encodePath(source.text);
  const path = imagePath(source.name);
  const entry: Entry = {
    path,
    type: 'file',
    mode: INLINE_MODE,
    uid: 0,
    gid: 0,
    size: bytes.length,
    mtime: INLINE_TIME,
  };
  return {
    kind: 'root',
    root: { path, resolved: path, entry, inside: [] },
    contentOf: () => ({ kind: 'bytes', bytes }),
    timeOf: () => INLINE_TIME,
  };
}

/**
 * What was copied must be what was fingerprinted: a file that changed meanwhile would make a wrong record.
 *
 * @param copied where the files lie that were read; absent: all were.
 */
async function refuseChangedSources(
  step: CopyStep,
  found: readonly FoundSource[],
  copied?: readonly HostPath[],
): Promise<void> {
  for (const source of found) {
    if (source.kind !== 'root' || !(source.tree instanceof ContextTree)) continue;
    const entries: readonly Entry[] = [
      source.root.entry,
      ...source.root.inside.map((inside) => inside.entry),
    ];
    const files = entries.filter(({ type }) => type === 'file').map(({ path }) => path);
    const { tree } = source;
    const read = copied === undefined ? files : copied.flatMap((place) => tree.pathAt(place) ?? []);
    const changed = await tree.firstChanged(read);
    if (changed === undefined) continue;
    stop('context-changed', `${JSON.stringify(changed)} changed while it was copied`, {
      range: step.info.range,
      hint: 'Build again when nothing writes to the build context.',
    });
  }
}
