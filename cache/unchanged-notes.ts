import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { errnoOf, type HostPath, joinHost } from '../core/index.ts';
import { decodeNoteHead, encodeNote, type NoteHead, type UnchangedNote } from './unchanged-note.ts';

/** Notes that are kept, and their bytes; the least recently used go first. */
const MOST_NOTES = 64;
const MOST_BYTES = 64 * 1024 * 1024;

const NAME = /^[0-9a-f]{64}$/;

/** A note that told that nothing had changed, since it was written. */
export interface NoteUse {
  readonly head: NoteHead;
  /** The last time, ms since 1970. */
  readonly usedAtMs: number;
}

/**
 * Notes of builds in which nothing had to be done, in `unchanged/` below the store's folder: one for each call, named by its digest.
 * The native program reads them before Node starts, and gives a note that it used the time of that.
 */
export class UnchangedNotes {
  readonly #folder: HostPath;

  constructor(root: HostPath) {
    this.#folder = joinHost(root, 'unchanged');
  }

  /** @param temporary a folder of this process on the store's file system */
  write(note: UnchangedNote, temporary: HostPath): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const name = Buffer.from(note.call).toString('hex');
    const temp = joinHost(temporary, `unchanged-${name}`);
    writeFileSync(temp, encodeNote(note), { mode: 0o600 });
    const at = note.head.notedAtMs / 1000;
    utimesSync(temp, at, at);
    renameSync(temp, joinHost(this.#folder, name));
    this.#removeOldest();
  }

  /** Notes that were used after `sinceMs`, and after they were written: the first use first. */
  uses(sinceMs: number): readonly NoteUse[] {
    return this.#files()
      .filter(({ mtimeMs }) => mtimeMs > sinceMs)
      .flatMap(({ file, mtimeMs }) => {
        const head = readHead(file);
        return head === undefined || mtimeMs <= head.notedAtMs + 1 ? [] : [{ head, usedAtMs: mtimeMs }];
      })
      .sort((a, b) => a.usedAtMs - b.usedAtMs);
  }

  /** Removes all. */
  clear(): void {
    for (const { file } of this.#files()) rmSync(file, { force: true });
  }

  #files(): readonly { readonly file: HostPath; readonly mtimeMs: number; readonly size: number }[] {
    return namesIn(this.#folder).flatMap((name) => {
      const file = joinHost(this.#folder, name);
      const stat = statSync(file, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ file, mtimeMs: stat.mtimeMs, size: stat.size }];
    });
  }

  #removeOldest(): void {
    let count = 0;
    let bytes = 0;
    for (const { file, size } of this.#files().toSorted((a, b) => b.mtimeMs - a.mtimeMs)) {
      count += 1;
      bytes += size;
      if (count > 1 && (count > MOST_NOTES || bytes > MOST_BYTES)) rmSync(file, { force: true });
    }
  }
}

function namesIn(folder: HostPath): readonly string[] {
  try {
    return readdirSync(folder).filter((name) => NAME.test(name));
  } catch {
    return [];
  }
}

/** Undefined where the note is gone, or is none. */
function readHead(file: HostPath): NoteHead | undefined {
  try {
    return decodeNoteHead(readFileSync(file));
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
