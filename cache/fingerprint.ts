import { createHash } from 'node:crypto';
import {
  comparePaths,
  type Digest,
  type Entry,
  type ImagePath,
  MachineError,
  shownMode,
} from '../core/index.ts';
import type { FileFact, Selection, TreeInput } from './contract.ts';
import { fieldText, TYPE_LETTERS } from './fact-text.ts';

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

/** First line of the hashed text. Raised with every change of the format. */
const FORMAT = 'varve tree 1';
const DIGEST_LENGTH = 'sha256:'.length + 64;

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
  const facts: FileFact[] = [];
  for (let from = 0; from < selections.length; from += BATCH) {
    for (const fact of await factsOf(selections.slice(from, from + BATCH), options)) facts.push(fact);
  }
  sortByPath(facts);
  return { name, digest: factsDigest(facts), facts };
}

/** A surrogate, or what comes behind them: only where these meet does the order of strings differ from that of their bytes. */
const UNUSUAL = /[\ud800-\uffff]/;

function sortByPath(facts: FileFact[]): void {
  if (facts.some(({ path }) => UNUSUAL.test(path))) facts.sort((a, b) => comparePaths(a.path, b.path));
  else facts.sort((a, b) => (a.path === b.path ? 0 : a.path < b.path ? -1 : 1));
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

/**
 * SHA-256 over `facts`, in the order given, in a compact form that is unambiguous: every field ends with NUL, and no field
 * holds one.
 *
 *     "varve tree 1" NUL, then for each fact:
 *     text(path) NUL  letter mode(octal) " " uid " " gid NUL  digest NUL  text(link target) NUL  text(device) NUL  text(hard link to) NUL
 *     { text(name) NUL text(value) NUL }   extended attributes, by name in code unit order
 *     NUL
 *
 * `text` is {@link fieldText}.
 */
export function factsDigest(facts: readonly FileFact[]): Digest {
  const hash = createHash('sha256');
  let buffered = `${FORMAT}\0`;
  for (const fact of facts) {
    buffered += factLine(fact);
    if (buffered.length > 65_536) {
      hash.update(buffered, 'utf8');
      buffered = '';
    }
  }
  hash.update(buffered, 'utf8');
  return `sha256:${hash.digest('hex')}` as Digest;
}

function factLine(fact: FileFact): string {
  const { path, type, mode, uid, gid, digest, xattrs } = fact;
  if (digest !== undefined && (digest.length !== DIGEST_LENGTH || digest.includes('\0')))
    throw new Error(`not a digest: ${digest}`);
  const head = `${fieldText(path)}\0${TYPE_LETTERS[type]}${mode.toString(8)} ${uid} ${gid}\0${digest ?? ''}\0`;
  const tail = `${fieldText(fact.linkTarget)}\0${fieldText(fact.device)}\0${fieldText(fact.hardlinkTo)}\0`;
  if (xattrs === undefined) return `${head}${tail}\0`;
  let attributes = '';
  for (const name of Object.keys(xattrs).sort())
    attributes += `${fieldText(name)}\0${fieldText(xattrs[name])}\0`;
  return `${head}${tail}${attributes}\0`;
}
