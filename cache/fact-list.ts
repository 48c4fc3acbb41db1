import { createHash } from 'node:crypto';
import { type Digest, type FileType, type ImagePath, ROOT_PATH } from '../core/index.ts';
import type { FileFact } from './contract.ts';
import { fieldText, TYPE_LETTERS, textOfField } from './fact-text.ts';

/** First line of the hashed text. Raised with every change of the format. */
const FORMAT = Buffer.from('varve tree 1\0');
const DIGEST_LENGTH = 'sha256:'.length + 64;
const CHUNK_CHARACTERS = 65_536;
/** Of a line, before the extended attributes. */
const FIXED_FIELDS = 6;

const TYPES: ReadonlyMap<string, FileType> = new Map(
  Object.entries(TYPE_LETTERS).map(([type, letter]) => [letter, type as FileType]),
);

/** The bytes of one fact: `chunk` from `from` to `end`. */
export interface FactLine {
  readonly chunk: Buffer;
  readonly from: number;
  readonly end: number;
}

/**
 * Facts as the text that their digest is the SHA-256 of, in a compact form that is unambiguous: every field ends with NUL, and no field
 * holds one. There may be hundreds of thousands: each is made anew when it is asked for.
 *
 *     "varve tree 1" NUL, then for each fact:
 *     text(path) NUL  letter mode(octal) " " uid " " gid NUL  digest NUL  text(link target) NUL  text(device) NUL  text(hard link to) NUL
 *     { text(name) NUL text(value) NUL }   extended attributes, by name in code unit order
 *     NUL
 *
 * `text` is {@link fieldText}.
 */
export class FactList implements Iterable<FileFact> {
  readonly digest: Digest;
  /** Bytes of all facts. */
  readonly size: number;
  /** What stands behind the first line; none of them ends within a fact. */
  readonly #chunks: readonly Buffer[];

  constructor(chunks: readonly Buffer[]) {
    const hash = createHash('sha256').update(FORMAT);
    for (const chunk of chunks) hash.update(chunk);
    this.digest = `sha256:${hash.digest('hex')}` as Digest;
    this.size = chunks.reduce((sum, { length }) => sum + length, 0);
    this.#chunks = chunks;
  }

  static of(facts: Iterable<FileFact>): FactList {
    const writer = new FactWriter();
    for (const fact of facts) writer.add(fact);
    return writer.end();
  }

  /** The list whose text `bytes` is; undefined where they are in another form. */
  static read(bytes: Buffer): FactList | undefined {
    if (!bytes.subarray(0, FORMAT.length).equals(FORMAT)) return undefined;
    return new FactList([bytes.subarray(FORMAT.length)]);
  }

  /** The text. */
  bytes(): Buffer {
    return Buffer.concat([FORMAT, ...this.#chunks]);
  }

  /**
   * The lines of two lists without most of those that both begin with, and of those that both end with: what is left holds every difference.
   * The second list gives the steps, so it is best one that was written in this process.
   */
  static differing(a: FactList, b: FactList): readonly [Iterable<FactLine>, Iterable<FactLine>] {
    const before = Buffer.concat(a.#chunks);
    const chunks = [...b.#chunks];
    let start = 0;
    let end = before.length;
    for (let chunk = chunks[0]; chunk !== undefined; chunk = chunks[0]) {
      if (!before.subarray(start, end).subarray(0, chunk.length).equals(chunk)) break;
      start += chunk.length;
      chunks.shift();
    }
    const rest = [...chunks];
    for (let chunk = chunks.at(-1); chunk !== undefined; chunk = chunks.at(-1)) {
      if (end - chunk.length < start || !before.subarray(end - chunk.length, end).equals(chunk)) break;
      end -= chunk.length;
      chunks.pop();
    }
    // The same bytes may stand there in the midst of another fact.
    if (isLineEnd(before, start, end)) return [linesIn(before.subarray(start, end)), linesOf(chunks)];
    return [linesIn(before.subarray(start)), linesOf(rest)];
  }

  *[Symbol.iterator](): Generator<FileFact> {
    for (const line of linesOf(this.#chunks)) yield factIn(line);
  }
}

export class FactWriter {
  readonly #chunks: Buffer[] = [];
  #text = '';

  add(fact: FileFact): void {
    this.#text += textOf(fact);
    if (this.#text.length > CHUNK_CHARACTERS) this.#flush();
  }

  end(): FactList {
    this.#flush();
    return new FactList(this.#chunks);
  }

  #flush(): void {
    if (this.#text !== '') this.#chunks.push(Buffer.from(this.#text, 'utf8'));
    this.#text = '';
  }
}

/** Of inputs that are taken as a whole. */
export const NO_FACTS = FactList.of([]);

export function sameLine(a: FactLine, b: FactLine): boolean {
  return a.end - a.from === b.end - b.from && a.chunk.compare(b.chunk, b.from, b.end, a.from, a.end) === 0;
}

function* linesOf(chunks: readonly Buffer[]): Generator<FactLine> {
  for (const chunk of chunks) yield* linesIn(chunk);
}

function* linesIn(chunk: Buffer): Generator<FactLine> {
  for (let from = 0; from < chunk.length; ) {
    const end = lineEnd(chunk, from);
    yield { chunk, from, end };
    from = end;
  }
}

/** Whether a fact ends at `end`, where one begins at `start`. */
function isLineEnd(text: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end) at = lineEnd(text, at);
  return at === end;
}

/** The fact of a line that {@link FactList} wrote. */
export function factIn({ chunk, from, end }: FactLine): FileFact {
  const [path = '', head = '', digest, linkTarget, device, hardlinkTo, ...pairs] = chunk
    .toString('utf8', from, end - 1)
    .split('\0');
  const [mode = '', uid, gid] = head.slice(1).split(' ');
  // A last NUL ends the last pair.
  const names = pairs.slice(0, -1);
  const xattrs = names.flatMap((name, at) =>
    at % 2 === 0 ? [[textOfField(name) ?? '', textOfField(names[at + 1] ?? '') ?? ''] as const] : [],
  );
  const known = {
    linkTarget: textOfField(linkTarget ?? ''),
    device: textOfField(device ?? ''),
    hardlinkTo: textOfField(hardlinkTo ?? '') as ImagePath | undefined,
  };
  return {
    path: (textOfField(path) ?? ROOT_PATH) as ImagePath,
    type: TYPES.get(head.slice(0, 1)) ?? 'file',
    mode: Number.parseInt(mode, 8),
    uid: Number(uid),
    gid: Number(gid),
    ...(digest === undefined || digest === '' ? {} : { digest: digest as Digest }),
    ...(known.linkTarget === undefined ? {} : { linkTarget: known.linkTarget }),
    ...(known.hardlinkTo === undefined ? {} : { hardlinkTo: known.hardlinkTo }),
    ...(xattrs.length === 0 ? {} : { xattrs: Object.fromEntries(xattrs) }),
    ...(known.device === undefined ? {} : { device: known.device }),
  };
}

/** Where the fact ends that begins at `from`; the end of the chunk where that is torn. */
function lineEnd(chunk: Buffer, from: number): number {
  const behindField = (at: number): number => {
    const end = chunk.indexOf(0, at);
    return end === -1 ? chunk.length : end + 1;
  };
  let at = from;
  for (let field = 0; field < FIXED_FIELDS; field += 1) at = behindField(at);
  while (at < chunk.length && chunk[at] !== 0) at = behindField(behindField(at));
  return Math.min(at + 1, chunk.length);
}

function textOf(fact: FileFact): string {
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
