import xxhash, { type XXHashAPI } from 'xxhash-wasm';
import { type Digest, type ImagePath, type ObservedTree, USE } from '../core/index.ts';
import type { MissReason } from './contract.ts';
import {
  attributesFact,
  listingFact,
  metadataFact,
  type Outline,
  type PresentState,
  stateLetter,
  targetFact,
} from './observation.ts';
import type { PathSet } from './path-set.ts';

type Change = Extract<MissReason, { reason: 'observed-changed' }>['change'];

/**
 * What the paths of a set said, short: to tell later which of them changed and in what. Marks are xxh32 of the facts that a
 * fingerprint is taken of; they decide nothing. 0: not used of this path, or not known.
 */
export interface ObservedMarks {
  /** One letter for each path: what lay there. */
  readonly letters: Uint8Array;
  readonly metadata: Uint32Array;
  readonly attributes: Uint32Array;
  /** Of a file its content, of a folder its listing, of a symlink its target. */
  readonly payload: Uint32Array;
}

export interface ObservedChange {
  /** The place of the first path that differs. */
  readonly at: number;
  readonly change: Change;
  /** How many more paths differ. */
  readonly others: number;
}

const ABSENT = '-'.charCodeAt(0);
const WHITEOUT = 'w'.charCodeAt(0);
const DIRECTORY = 'd'.charCodeAt(0);
const SYMLINK = 'l'.charCodeAt(0);
const ROW_BYTES = 1 + 3 * 4;

/** Marks of what `set` says in `tree`; without digests none of content. */
export async function marksOf(
  set: PathSet,
  tree: ObservedTree,
  { outline, contents }: { readonly outline: Outline; readonly contents?: readonly Digest[] | undefined },
): Promise<ObservedMarks> {
  const hash = await xxhash();
  const count = set.paths.length;
  const marks: ObservedMarks = {
    letters: new Uint8Array(count),
    metadata: new Uint32Array(count),
    attributes: new Uint32Array(count),
    payload: new Uint32Array(count),
  };
  // Mode and owner of most files are those of the file before.
  let last = { fact: '', mark: 0 };
  const metadataMark = (fact: string): number => {
    if (fact !== last.fact) last = { fact, mark: markOf(hash, fact) };
    return last.mark;
  };
  for (const [at, path] of set.paths.entries()) {
    const uses = set.uses[at] ?? 0;
    const state = tree.state(path);
    marks.letters[at] = stateLetter(state).charCodeAt(0);
    if (state.kind !== 'present') continue;
    if ((uses & USE.METADATA) !== 0) marks.metadata[at] = metadataMark(metadataFact(state));
    const attributes = (uses & USE.ATTRIBUTES) !== 0 && state.entry.type !== 'dir';
    if (attributes) marks.attributes[at] = markOf(hash, attributesFact(state));
    marks.payload[at] = markOf(hash, payloadFact(tree, { path, uses, state }));
  }
  for (const [place, digest] of (contents ?? []).entries()) {
    marks.payload[outline.files[place] ?? -1] = markOf(hash, digest);
  }
  return marks;
}

/** What a folder lists or a symlink leads to, where that was used. */
function payloadFact(
  tree: ObservedTree,
  { path, uses, state }: { readonly path: ImagePath; readonly uses: number; readonly state: PresentState },
): string | undefined {
  const { entry } = state;
  if (entry.type === 'dir' && (uses & USE.LISTING) !== 0) return listingFact(tree, path);
  return entry.type === 'symlink' && (uses & USE.TARGET) !== 0 ? targetFact(entry) : undefined;
}

function markOf(hash: XXHashAPI, fact: string | undefined): number {
  // Facts may hold lone surrogates only in their JSON form, so the text is what is hashed.
  return fact === undefined ? 0 : hash.h32(fact) || 1;
}

/** The first place at which `before` and `now`, marks of the same set, differ. Undefined where none does. */
export function firstChange(before: ObservedMarks, now: ObservedMarks): ObservedChange | undefined {
  let first: { readonly at: number; readonly change: Change } | undefined;
  let count = 0;
  for (let at = 0; at < now.letters.length; at += 1) {
    const change = changeAt(at, before, now);
    if (change === undefined) continue;
    count += 1;
    first ??= { at, change };
  }
  return first === undefined ? undefined : { ...first, others: count - 1 };
}

function changeAt(at: number, before: ObservedMarks, now: ObservedMarks): Change | undefined {
  const was = before.letters[at] ?? ABSENT;
  const is = now.letters[at] ?? ABSENT;
  if (was !== is) return letterChange(was, is);
  const known = before.payload[at] !== 0 && now.payload[at] !== 0;
  if (known && before.payload[at] !== now.payload[at]) {
    return is === DIRECTORY ? 'listing' : is === SYMLINK ? 'link-target' : 'content';
  }
  if (before.metadata[at] !== now.metadata[at]) return 'metadata';
  return before.attributes[at] !== now.attributes[at] ? 'attributes' : undefined;
}

function letterChange(was: number, is: number): Change {
  // A whiteout takes away what lies below: that nothing hides it any more brings it back.
  if (is === WHITEOUT || (is === ABSENT && was !== WHITEOUT)) return 'removed';
  return is === ABSENT || was === ABSENT || was === WHITEOUT ? 'added' : 'type';
}

/**
 * As {@link firstChange}, with the content of the first path looked at, where it was used and not known: a file with another time
 * most often holds something else too.
 */
export async function firstChangeRead(
  set: PathSet,
  tree: ObservedTree,
  marks: { readonly before: ObservedMarks; readonly now: ObservedMarks },
): Promise<ObservedChange | undefined> {
  const { before, now } = marks;
  const first = firstChange(before, now);
  if (first === undefined || now.payload[first.at] !== 0 || before.payload[first.at] === 0) return first;
  const path = set.paths[first.at];
  if (
    path === undefined ||
    first.change === 'added' ||
    first.change === 'removed' ||
    first.change === 'type'
  ) {
    return first;
  }
  const mark = markOf(await xxhash(), await tree.digest(path));
  return mark === before.payload[first.at] ? first : { ...first, change: 'content' };
}

/** Marks as bytes: all letters, then all of each kind of mark as u32 (little-endian). */
export function encodeMarks({ letters, metadata, attributes, payload }: ObservedMarks): Buffer {
  const bytes = Buffer.alloc(letters.length * ROW_BYTES);
  bytes.set(letters);
  let place = letters.length;
  for (const marks of [metadata, attributes, payload]) {
    for (const mark of marks) place = bytes.writeUInt32LE(mark, place);
  }
  return bytes;
}

/** Reads what {@link encodeMarks} wrote for `count` paths; undefined for anything else. */
export function decodeMarks(bytes: Buffer, count: number): ObservedMarks | undefined {
  if (bytes.length !== count * ROW_BYTES) return undefined;
  const column = (nth: number): Uint32Array => {
    const from = count + nth * count * 4;
    return Uint32Array.from({ length: count }, (_, at) => bytes.readUInt32LE(from + at * 4));
  };
  return {
    letters: new Uint8Array(bytes.subarray(0, count)),
    metadata: column(0),
    attributes: column(1),
    payload: column(2),
  };
}
