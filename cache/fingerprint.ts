import {
  comparePaths,
  type Digest,
  type Entry,
  type ImagePath,
  MachineError,
  shownMode,
} from '../core/index.ts';
import type { FileFact, Selection, TreeInput } from './contract.ts';
import { FactWriter } from './fact-list.ts';

export interface FingerprintOptions {
  /** The owner that every file is given where it lands, whatever it has in its tree (a COPY from a build context: 0:0). */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Files looked at and read at once; 16 where nothing is said. */
  readonly concurrency?: number;
  readonly signal?: AbortSignal;
}

const DEFAULT_CONCURRENCY = 16;
/** Files that are taken together: the most of which more than their facts is in memory. */
const BATCH = 8192;

/**
 * Looks at every selected name (folders are not entered: the caller selects what is in them) and sums it up as one
 * input. Facts come in the order of the destination paths; names that land on the same path keep the order of their
 * selection. Time stamps are left out.
 *
 * @throws MachineError `file-vanished` where a selected name is not there any more, and what the trees throw.
 */
export async function fingerprint(
  name: string,
  selections: readonly Selection[],
  options: FingerprintOptions = {},
): Promise<TreeInput> {
  const sorted = inPathOrder(selections);
  const facts = new FactWriter();
  for (let from = 0; from < sorted.length; from += BATCH) {
    for (const fact of await factsOf(sorted.slice(from, from + BATCH), options)) facts.add(fact);
  }
  const list = facts.end();
  return { name, digest: list.digest, facts: list };
}

/** A surrogate, or what comes behind them: only where these meet does the order of strings differ from that of their bytes. */
const UNUSUAL = /[\ud800-\uffff]/;

function inPathOrder(selections: readonly Selection[]): readonly Selection[] {
  if (selections.some(({ to }) => UNUSUAL.test(to)))
    return selections.toSorted((a, b) => comparePaths(a.to, b.to));
  return selections.toSorted((a, b) => (a.to === b.to ? 0 : a.to < b.to ? -1 : 1));
}

async function factsOf(
  selections: readonly Selection[],
  options: FingerprintOptions,
): Promise<readonly FileFact[]> {
  const entries = await entriesOf(selections, options);
  const files = selections.filter((_, at) => entries[at]?.type === 'file');
  const digests = await digestsOf(files, options);
  let next = 0;
  return entries.map((entry, at) =>
    entryFact(entry, selections[at]?.to ?? entry.path, {
      owner: options.owner ?? entry,
      digest: entry.type === 'file' ? digests[next++] : undefined,
    }),
  );
}

async function entriesOf(
  selections: readonly Selection[],
  options: FingerprintOptions,
): Promise<readonly Entry[]> {
  const known = selections.flatMap(({ entry }) => entry ?? []);
  if (known.length === selections.length) return known;
  return eachOf(selections, options, async ({ tree, from, entry }) => {
    const found = entry ?? (await tree.lstat(from));
    if (found !== undefined) return found;
    throw new MachineError('file-vanished', `${JSON.stringify(from)} was removed while it was being read`, {
      hint: 'Build again when nothing else changes these files.',
    });
  });
}

async function digestsOf(
  files: readonly Selection[],
  options: FingerprintOptions,
): Promise<readonly Digest[]> {
  const tree = files[0]?.tree;
  if (tree?.digests !== undefined && files.every((file) => file.tree === tree))
    return tree.digests(files.map(({ from }) => from));
  return eachOf(files, options, (file) => file.tree.digest(file.from));
}

/** What `work` makes of each of `items`, of which some are worked on at once. */
async function eachOf<T, Made>(
  items: readonly T[],
  { concurrency = DEFAULT_CONCURRENCY, signal }: FingerprintOptions,
  work: (item: T) => Promise<Made>,
): Promise<Made[]> {
  const made: Made[] = new Array(items.length);
  const queue = items.entries();
  let failed = false;
  const worker = async (): Promise<void> => {
    for (const [at, item] of queue) {
      signal?.throwIfAborted();
      // After a failure, workers that still run take no further item.
      if (failed) return;
      made[at] = await work(item);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker));
  } finally {
    failed = true;
  }
  return made;
}

function entryFact(
  entry: Entry,
  path: ImagePath,
  known: {
    readonly owner: { readonly uid: number; readonly gid: number };
    readonly digest: Digest | undefined;
  },
): FileFact {
  const { uid, gid } = known.owner;
  return {
    path,
    type: entry.type,
    mode: shownMode(entry),
    uid,
    gid,
    ...(known.digest === undefined ? {} : { digest: known.digest }),
    ...(entry.linkTarget === undefined ? {} : { linkTarget: entry.linkTarget }),
    ...(entry.hardlinkTo === undefined ? {} : { hardlinkTo: entry.hardlinkTo }),
    ...(entry.xattrs === undefined ? {} : { xattrs: hexXattrs(entry.xattrs) }),
    ...(entry.device === undefined ? {} : { device: `${entry.device.major}:${entry.device.minor}` }),
  };
}

function hexXattrs(xattrs: Readonly<Record<string, Uint8Array>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(xattrs).map(([name, value]) => [name, Buffer.from(value).toString('hex')]),
  );
}
