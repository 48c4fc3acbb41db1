import { crc32 } from 'node:zlib';
import {
  encodePath,
  type HostFact,
  type LookedTree,
  rowBytes,
  STAT_TUPLE_BYTES,
  type StatRow,
  type StepKey,
  type StoreFact,
} from '../core/index.ts';
import type { BuildReport } from './contract.ts';

/** What a build wrote to one of its streams, in parts that are put together when it is written again. */
export interface NotedOutput {
  readonly fd: 1 | 2;
  readonly pieces: readonly OutputPiece[];
}

export type OutputPiece =
  | { readonly kind: 'text'; readonly text: string }
  /** How long ago a step ran, as {@link explainHit} says it. */
  | { readonly kind: 'ago'; readonly atMs: number }
  /** How long the answer took. */
  | { readonly kind: 'elapsed' };

/** Which build left a note, which records it used and for which slots: what varve itself reads of a note. */
export interface NoteHead {
  /** When it was written, ms since 1970. The time of the file is later where the note was used since. */
  readonly notedAtMs: number;
  readonly report: BuildReport;
  readonly uses: readonly { readonly key: StepKey; readonly slot: string }[];
}

/** A build in which nothing had to be done: what it rested on, and what it wrote. */
export interface UnchangedNote {
  readonly head: NoteHead;
  /** SHA-256 of how varve was called. */
  readonly call: Uint8Array;
  /** Of the machine's start (random(4)). */
  readonly boot: string;
  readonly generation: string;
  /** The database: its path from the store's folder, and its bytes, which do not get fewer. */
  readonly database: { readonly path: string; readonly bytes: number };
  readonly store: readonly StoreFact[];
  readonly host: readonly HostFact[];
  readonly output: readonly NotedOutput[];
  /** When the output may be written: what of it tells of ages is right then. Absent: always. */
  readonly during?: TimeSpan | undefined;
}

/** From a moment on, and before another one, ms since 1970. */
export interface TimeSpan {
  readonly fromMs: number;
  readonly untilMs: number;
}

const MAGIC = 'varvsame';
const VERSION = 2;
const HEAD_AT = MAGIC.length + 4 + 4;
const CHECKSUM_BYTES = 4;

/** The note as bytes: see docs/on-disk-format.md. */
export function encodeNote(note: UnchangedNote): Buffer {
  const out = new NoteWriter();
  out.put(Buffer.from(MAGIC, 'latin1'));
  out.u32(VERSION);
  out.block(Buffer.from(JSON.stringify(note.head)));
  out.put(note.call);
  out.block(Buffer.from(note.boot));
  out.block(Buffer.from(note.generation));
  out.tag('q');
  out.text(note.database.path);
  out.u64(BigInt(note.database.bytes));
  if (note.during !== undefined) {
    out.tag('u');
    out.u64(BigInt(Math.floor(note.during.fromMs)));
    out.u64(BigInt(Math.floor(note.during.untilMs)));
  }
  // What differs most often comes first: until then nothing else need have been looked at.
  for (const fact of note.host) putHostFact(out, fact);
  for (const fact of note.store) putStoreFact(out, fact);
  out.tag('o');
  for (const { fd, pieces } of note.output) {
    out.put(Buffer.of(fd));
    out.u32(pieces.length);
    for (const piece of pieces) putPiece(out, piece);
  }
  return out.sealed();
}

/** The head of a note; undefined where the bytes are no whole note of this version. */
export function decodeNoteHead(note: Buffer): NoteHead | undefined {
  if (note.length < HEAD_AT + CHECKSUM_BYTES || note.toString('latin1', 0, MAGIC.length) !== MAGIC)
    return undefined;
  if (note.readUInt32LE(MAGIC.length) !== VERSION) return undefined;
  const body = note.subarray(0, -CHECKSUM_BYTES);
  if (crc32(body) !== note.readUInt32LE(body.length)) return undefined;
  const end = HEAD_AT + note.readUInt32LE(HEAD_AT - 4);
  return JSON.parse(note.toString('utf8', HEAD_AT, end)) as NoteHead;
}

class NoteWriter {
  readonly #parts: Uint8Array[] = [];

  put(bytes: Uint8Array): void {
    this.#parts.push(bytes);
  }

  tag(letter: string): void {
    this.put(Buffer.from(letter, 'latin1'));
  }

  u32(value: number): void {
    const raw = Buffer.allocUnsafe(4);
    raw.writeUInt32LE(value);
    this.put(raw);
  }

  u64(value: bigint): void {
    const raw = Buffer.allocUnsafe(8);
    raw.writeBigUInt64LE(BigInt.asUintN(64, value));
    this.put(raw);
  }

  block(bytes: Uint8Array): void {
    this.u32(bytes.length);
    this.put(bytes);
  }

  /** A path: its bytes and a NUL byte. */
  text(path: string): void {
    this.block(encodePath(`${path}\0`));
  }

  sealed(): Buffer {
    const checksum = Buffer.allocUnsafe(4);
    const all = Buffer.concat([...this.#parts, checksum]);
    all.writeUInt32LE(crc32(all.subarray(0, -4)), all.length - 4);
    return all;
  }
}

/** The tuple of a row. */
function putRow(out: NoteWriter, row: StatRow): void {
  out.put(rowBytes(row).subarray(0, STAT_TUPLE_BYTES));
}

function putHostFact(out: NoteWriter, fact: HostFact): void {
  switch (fact.kind) {
    case 'file':
      out.tag('f');
      out.text(fact.path);
      putRow(out, fact.row);
      return;
    case 'absent':
      out.tag('a');
      out.text(fact.path);
      return;
    case 'tree':
      putTree(out, fact);
      return;
  }
}

function putStoreFact(out: NoteWriter, fact: StoreFact): void {
  switch (fact.kind) {
    case 'content':
      out.tag('c');
      out.text(fact.path);
      out.block(fact.bytes);
      return;
    case 'link':
      out.tag('l');
      out.text(fact.path);
      out.text(fact.target);
      return;
    case 'stored':
      out.tag('s');
      out.text(fact.path);
      putRow(out, fact.row);
      return;
  }
}

function putPiece(out: NoteWriter, piece: OutputPiece): void {
  switch (piece.kind) {
    case 'text':
      out.put(Buffer.of(0));
      out.block(Buffer.from(piece.text));
      return;
    case 'ago':
      out.put(Buffer.of(1));
      out.u64(BigInt(Math.floor(piece.atMs)));
      return;
    case 'elapsed':
      out.put(Buffer.of(2));
      return;
  }
}

/** A folder after the other: itself, and what lies in it. */
function putTree(out: NoteWriter, { path, real, folders }: LookedTree): void {
  out.tag('t');
  out.text(path);
  out.text(real);
  out.u32(folders.length);
  for (const folder of folders) {
    out.text(folder.path === '' ? '.' : folder.path);
    putRow(out, folder.row);
    out.u32(folder.names.length);
    out.put(folder.rows);
    out.block(encodePath(folder.names.map((name) => `${name}\0`).join('')));
  }
}
