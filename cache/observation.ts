import { createHash, hash } from 'node:crypto';
import {
  type Digest,
  type Entry,
  encodePath,
  type ImagePath,
  type ObservedTree,
  type PathState,
  USE,
} from '../core/index.ts';
import { fieldText, TYPE_LETTERS } from './fact-text.ts';
import type { PathSet } from './path-set.ts';

export type PresentState = Extract<PathState, { kind: 'present' }>;

/** What is known of observed paths without reading a file. */
export interface Outline {
  readonly digest: Digest;
  /** The places in the set of the regular files whose content was used. Of others there is none: their type says it. */
  readonly files: readonly number[];
}

/** First lines of the hashed texts. Raised with every change of their format. */
const OUTLINE_FORMAT = 'varve outline 1';
const FINGERPRINT_FORMAT = 'varve observed 1';

/** Of one path. */
const MOST_NUMBERS = 7;

/** In the place of a digest that is on its way. */
const UNREAD = '' as Digest;

/** Files whose content is asked for at once. */
const READ_AT_ONCE = 32;

/** `-` nothing, `w` a whiteout, else the letter of the type. */
export function stateLetter(state: PathState): string {
  if (state.kind === 'absent') return '-';
  return state.kind === 'whiteout' ? 'w' : TYPE_LETTERS[state.entry.type];
}

/**
 * SHA-256 of everything that the paths of `set` say in `tree` but the content of files, which would have to be read:
 *
 *     "varve outline 1" NUL  digest of the set NUL  number of numbers NUL  number of paths NUL
 *     numbers: float64, little-endian
 *     text, UTF-8
 *
 * The digest of the set stands for paths and uses. Each path, in path order, adds a letter to the text: `-` where nothing lies, `w` for a
 * whiteout, else that of the type. Of what is there follows, by the uses:
 *
 *     METADATA:    numbers mode, uid, gid; of a folder "o" where it is opaque, else "-"; { text(name) NUL  hex value NUL }  NUL
 *     ATTRIBUTES:  numbers size, seconds, nanoseconds, links; text(hard link to) NUL  text(device) NUL       not of folders
 *     LISTING:     see {@link listingFact}                                                                  of folders
 *     TARGET:      text(link target) NUL                                                                    of symlinks
 *
 * `text` is {@link fieldText}. The size of a symlink is that of its target. Numbers stand apart since to print them took half
 * of the time of a look-up.
 */
export function outlineOf(set: PathSet, tree: ObservedTree): Outline {
  const { paths, uses } = set;
  const numbers = new Float64Array(paths.length * MOST_NUMBERS);
  const files: number[] = [];
  let count = 0;
  let text = '';
  for (let at = 0; at < paths.length; at += 1) {
    const path = paths[at];
    const used = uses[at];
    if (path === undefined || used === undefined) continue;
    const state = tree.state(path);
    text += stateLetter(state);
    if (state.kind !== 'present') continue;
    const { entry } = state;
    const { type } = entry;
    if ((used & USE.METADATA) !== 0) {
      numbers[count] = entry.mode;
      numbers[count + 1] = entry.uid;
      numbers[count + 2] = entry.gid;
      count += 3;
      text += metadataText(state);
    }
    if ((used & USE.ATTRIBUTES) !== 0 && type !== 'dir') {
      numbers[count] = sizeOf(entry);
      numbers[count + 1] = entry.mtime.sec;
      numbers[count + 2] = entry.mtime.nsec;
      numbers[count + 3] = state.links;
      count += 4;
      text += attributesText(entry);
    }
    if ((used & USE.LISTING) !== 0 && type === 'dir') text += listingFact(tree, path);
    if ((used & USE.TARGET) !== 0 && type === 'symlink') text += targetFact(entry);
    if ((used & USE.CONTENT) !== 0 && type === 'file') files.push(at);
  }
  const hash = createHash('sha256');
  hash.update(`${OUTLINE_FORMAT}\0${set.digest}\0${count}\0${paths.length}\0`);
  hash.update(numbers.subarray(0, count)).update(text, 'utf8');
  return { digest: `sha256:${hash.digest('hex')}` as Digest, files };
}

function metadataText({ entry, opaque }: PresentState): string {
  const mark = entry.type !== 'dir' ? '' : opaque ? 'o' : '-';
  if (entry.xattrs === undefined) return `${mark}\0`;
  let attributes = mark;
  for (const name of Object.keys(entry.xattrs).sort()) {
    attributes += `${fieldText(name)}\0${Buffer.from(entry.xattrs[name] ?? []).toString('hex')}\0`;
  }
  return `${attributes}\0`;
}

function attributesText({ hardlinkTo, device }: Entry): string {
  if (hardlinkTo === undefined && device === undefined) return '\0\0';
  return `${fieldText(hardlinkTo)}\0${device === undefined ? '' : `=${device.major}:${device.minor}`}\0`;
}

function sizeOf({ size, linkTarget }: Entry): number {
  return linkTarget === undefined ? size : encodePath(linkTarget).length;
}

/** What METADATA covers, as one text. */
export function metadataFact(state: PresentState): string {
  const { mode, uid, gid } = state.entry;
  return `${mode} ${uid} ${gid} ${metadataText(state)}`;
}

/** What ATTRIBUTES covers, as one text. */
export function attributesFact({ entry, links }: PresentState): string {
  const { sec, nsec } = entry.mtime;
  return `${sizeOf(entry)} ${sec} ${nsec} ${links} ${attributesText(entry)}`;
}

/**
 * The names in a folder: `=`, then a letter, the name and `/` for each, then `/`, since no name holds one; where there are lone
 * surrogates, `~` and the JSON form of that.
 */
export function listingFact(tree: ObservedTree, path: ImagePath): string {
  let text = '';
  for (const { name, type } of tree.list(path)) {
    text += `${type === 'whiteout' ? 'w' : TYPE_LETTERS[type]}${name}/`;
  }
  return text.isWellFormed() ? `=${text}/` : `~${JSON.stringify(text)}`;
}

/** What a symlink leads to. */
export function targetFact(entry: Entry): string {
  return `${fieldText(entry.linkTarget)}\0`;
}

/** The digests of the content that `outline` says was used, in its order. */
export async function contentsOf(
  set: PathSet,
  tree: ObservedTree,
  { files }: Outline,
): Promise<readonly Digest[]> {
  const digests: Digest[] = [];
  let reading: Promise<void>[] = [];
  for (const at of files) {
    const path = set.paths[at];
    if (path === undefined) continue;
    const place = digests.length;
    const found = tree.digest(path);
    if (typeof found === 'string') {
      digests.push(found);
      continue;
    }
    digests.push(UNREAD);
    reading.push(
      found.then((digest) => {
        digests[place] = digest;
      }),
    );
    if (reading.length < READ_AT_ONCE) continue;
    await Promise.all(reading);
    reading = [];
  }
  await Promise.all(reading);
  return digests;
}

/**
 * The fingerprint of everything observed, which alone decides a hit: SHA-256 of
 *
 *     "varve observed 1" NUL  outline NUL  { digest NUL }
 *
 * with the digests of content in path order. The outline says which paths they belong to.
 */
export function fingerprintOf(outline: Outline, contents: readonly Digest[]): Digest {
  const text = [FINGERPRINT_FORMAT, outline.digest, ...contents, ''].join('\0');
  return `sha256:${hash('sha256', text)}` as Digest;
}
