import { hash } from 'node:crypto';
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

/** First lines of the hashed texts. Raised with every change of their format. */
const OUTLINE_FORMAT = 'varve outline 1';
const FINGERPRINT_FORMAT = 'varve observed 1';

/** Files whose content is asked for at once. */
const READ_AT_ONCE = 32;

/** `-` nothing, `w` a whiteout, else the letter of the type. */
export function stateLetter(state: PathState): string {
  if (state.kind === 'absent') return '-';
  return state.kind === 'whiteout' ? 'w' : TYPE_LETTERS[state.entry.type];
}

/**
 * SHA-256 of everything that the paths of `set` say in `tree` but the content of files, which would have to be read. The text
 * begins with the digest of the set, which stands for paths and uses; facts follow in path order. Every field ends with
 * NUL, and no field holds one:
 *
 *     "varve outline 1" NUL  digest of the set NUL, then for each path:
 *     letter
 *     METADATA:    mode(octal) " " uid " " gid [ " o" ] NUL  { text(name) NUL  hex value NUL }  NUL
 *     ATTRIBUTES:  size " " seconds " " nanoseconds " " links NUL  text(hard link to) NUL  text(device) NUL     not of folders
 *     LISTING:     { text(name) NUL  letter NUL }  NUL                                                         of folders
 *     TARGET:      text(link target) NUL                                                                       of symlinks
 *
 * `letter` is `-` where nothing lies, `w` for a whiteout, which both end a fact, else that of the type; ` o` says that a folder is
 * opaque; `text` is {@link fieldText}. The size of a symlink is that of its target.
 */
export function outlineOf(set: PathSet, tree: ObservedTree): Digest {
  const { paths, uses, digest } = set;
  let text = `${OUTLINE_FORMAT}\0${digest}\0`;
  for (let at = 0; at < paths.length; at += 1) {
    const path = paths[at];
    const used = uses[at];
    if (path !== undefined && used !== undefined) text += outlineFact(tree, path, used);
  }
  return `sha256:${hash('sha256', text)}` as Digest;
}

function outlineFact(tree: ObservedTree, path: ImagePath, uses: number): string {
  const state = tree.state(path);
  if (state.kind !== 'present') return state.kind === 'absent' ? '-' : 'w';
  const { type } = state.entry;
  let text = TYPE_LETTERS[type];
  if ((uses & USE.METADATA) !== 0) text += metadataFact(state);
  if (type === 'dir') return (uses & USE.LISTING) === 0 ? text : text + listingFact(tree, path);
  if ((uses & USE.ATTRIBUTES) !== 0) text += attributesFact(state);
  return type === 'symlink' && (uses & USE.TARGET) !== 0 ? text + targetFact(state.entry) : text;
}

export function metadataFact({ entry, opaque }: PresentState): string {
  const { mode, uid, gid, xattrs } = entry;
  const head = `${mode.toString(8)} ${uid} ${gid}${opaque && entry.type === 'dir' ? ' o' : ''}\0`;
  if (xattrs === undefined) return `${head}\0`;
  let attributes = '';
  for (const name of Object.keys(xattrs).sort()) {
    attributes += `${fieldText(name)}\0${Buffer.from(xattrs[name] ?? []).toString('hex')}\0`;
  }
  return `${head}${attributes}\0`;
}

export function attributesFact({ entry, links }: PresentState): string {
  const { mtime, hardlinkTo, device, linkTarget } = entry;
  const size = linkTarget === undefined ? entry.size : encodePath(linkTarget).length;
  const numbers = device === undefined ? '' : `=${device.major}:${device.minor}`;
  return `${size} ${mtime.sec} ${mtime.nsec} ${links}\0${fieldText(hardlinkTo)}\0${numbers}\0`;
}

export function listingFact(tree: ObservedTree, path: ImagePath): string {
  let text = '';
  for (const { name, type } of tree.list(path)) {
    text += `${fieldText(name)}\0${type === 'whiteout' ? 'w' : TYPE_LETTERS[type]}\0`;
  }
  return `${text}\0`;
}

export function targetFact(entry: Entry): string {
  return `${fieldText(entry.linkTarget)}\0`;
}

/**
 * The digests of the files in `tree` whose content was used, by the places of their paths in `set`. Others than regular files have
 * none: their type says it.
 */
export async function contentsOf(set: PathSet, tree: ObservedTree): Promise<ReadonlyMap<number, Digest>> {
  const { paths, uses } = set;
  const wanted: { readonly at: number; readonly path: ImagePath }[] = [];
  for (const [at, path] of paths.entries()) {
    if (((uses[at] ?? 0) & USE.CONTENT) !== 0 && isFile(tree.state(path))) wanted.push({ at, path });
  }
  const digests = new Map<number, Digest>();
  for (let from = 0; from < wanted.length; from += READ_AT_ONCE) {
    const some = wanted.slice(from, from + READ_AT_ONCE);
    const found = await Promise.all(some.map(({ path }) => tree.digest(path)));
    for (const [place, digest] of found.entries()) digests.set(some[place]?.at ?? -1, digest);
  }
  return digests;
}

export function isFile(state: PathState): boolean {
  return state.kind === 'present' && state.entry.type === 'file';
}

/**
 * The fingerprint of everything observed, which alone decides a hit: SHA-256 of
 *
 *     "varve observed 1" NUL  outline NUL  { digest NUL }
 *
 * with the digests of content in path order. The outline says which paths they belong to.
 */
export function fingerprintOf(outline: Digest, contents: ReadonlyMap<number, Digest>): Digest {
  let text = `${FINGERPRINT_FORMAT}\0${outline}\0`;
  for (const digest of contents.values()) text += `${digest}\0`;
  return `sha256:${hash('sha256', text)}` as Digest;
}
