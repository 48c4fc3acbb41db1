import { createHash } from 'node:crypto';
import {
  comparePaths,
  type Digest,
  type Entry,
  type ImagePath,
  isDigest,
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

/** First line of the hashed text. Raised with every change of the format. */
const FORMAT = 'varve tree 1';

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
  const facts: FileFact[] = new Array(selections.length);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < selections.length) {
      options.signal?.throwIfAborted();
      const at = next++;
      const selection = selections[at];
      if (selection !== undefined) facts[at] = await factOf(selection, options);
    }
  };
  const workers = Math.min(options.concurrency ?? DEFAULT_CONCURRENCY, selections.length);
  try {
    await Promise.all(Array.from({ length: workers }, work));
  } finally {
    // After a failure, workers that still run take no further file.
    next = selections.length;
  }
  facts.sort((a, b) => comparePaths(a.path, b.path));
  return { name, digest: factsDigest(facts), facts };
}

async function factOf(selection: Selection, options: FingerprintOptions): Promise<FileFact> {
  const { tree, from, to } = selection;
  const entry = await tree.lstat(from);
  if (entry === undefined) {
    throw new MachineError('file-vanished', `${JSON.stringify(from)} was removed while it was being read`, {
      hint: 'Build again when nothing else changes these files.',
    });
  }
  return entryFact(entry, to, {
    owner: options.owner ?? entry,
    ...(entry.type === 'file' ? { digest: await tree.digest(from) } : {}),
  });
}

function entryFact(
  entry: Entry,
  path: ImagePath,
  known: { readonly owner: { readonly uid: number; readonly gid: number }; readonly digest?: Digest },
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
  if (digest !== undefined && !isDigest(digest)) throw new Error(`not a digest: ${digest}`);
  const head = `${fieldText(path)}\0${TYPE_LETTERS[type]}${mode.toString(8)} ${uid} ${gid}\0${digest ?? ''}\0`;
  const tail = `${fieldText(fact.linkTarget)}\0${fieldText(fact.device)}\0${fieldText(fact.hardlinkTo)}\0`;
  if (xattrs === undefined) return `${head}${tail}\0`;
  let attributes = '';
  for (const name of Object.keys(xattrs).sort())
    attributes += `${fieldText(name)}\0${fieldText(xattrs[name])}\0`;
  return `${head}${tail}${attributes}\0`;
}
