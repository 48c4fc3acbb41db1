import { decodePath, type Time } from '../core/index.ts';
import { ByteSource, refused } from './byte-source.ts';
import type { UnpackLimits } from './contract.ts';
import { type PaxFields, paxFields } from './pax.ts';
import {
  blockParts,
  checkParts,
  type DataPart,
  filled,
  headerParts,
  type PaxSparse,
  partsInData,
} from './sparse.ts';
import { BLOCK_BYTES, checksum, paddingOf } from './tar-header.ts';

/** Content up to this size comes as one piece. */
const BYTES_AT_ONCE = 128 * 1024;

export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'char' | 'block' | 'dir' | 'fifo';

export interface TarEntry {
  /** As {@link decodePath} gives it; otherwise as the archive says it. */
  readonly name: string;
  readonly type: TarEntryType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  readonly size: number;
  readonly linkName: string;
  readonly device: { readonly major: number; readonly minor: number };
  readonly xattrs: Readonly<Record<string, Uint8Array>> | undefined;
  /** The content of a file; a stream is good until the next entry is asked for. */
  readonly content: Uint8Array | AsyncIterable<Uint8Array>;
}

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'dir',
  '6': 'fifo',
};

/** GNU tar's own type for files that are stored without their holes. */
const OLD_SPARSE = 'S';
const GNU_MAGIC = 'ustar  \0';

/** What came before a header to override its fields: pax records, GNU long names. */
interface Overrides {
  pax: PaxFields;
  longName: Uint8Array | undefined;
  longLink: Uint8Array | undefined;
  headerBytes: number;
}

/**
 * The entries of a tar in ustar, pax or GNU form, sparse files with their holes filled, read strictly: every field that does not parse, an unknown type, a header
 * over the limits or an archive that is cut short is refused with `layer-refused`. As Go's archive/tar has it: data after
 * the end-of-archive blocks is read and ignored, an end without these blocks is accepted, global pax headers are
 * ignored, and only regular files have content whatever their size fields say.
 *
 * A reader of our own, since tar-stream decodes names and pax values as UTF-8: capabilities (binary) and names in other
 * encodings would be lost, and two names could become one.
 */
export async function* readTar(
  tar: AsyncIterable<Uint8Array>,
  limits: UnpackLimits,
): AsyncGenerator<TarEntry> {
  const source = new ByteSource(tar, limits.maxBytes);
  let headers = 0;
  // Holes are not in the bytes that are read, and are written all the same.
  let filledBytes = 0;
  let overrides = noOverrides();
  try {
    for (;;) {
      const block = await source.read(BLOCK_BYTES);
      if (block === undefined || isZero(block)) {
        await finish(source, block, overrides);
        return;
      }
      headers += 1;
      if (headers > limits.maxEntries)
        throw refused(`the archive has more than ${limits.maxEntries} entries`);
      verifyChecksum(block);
      if (await readMeta(source, block, { overrides, limits })) continue;
      const header = entryOf(block, overrides);
      const stored = await storedForm({ source, block, header, limits }, overrides.pax.sparse);
      overrides = noOverrides();
      if (stored.parts === undefined) yield* withContent(source, header);
      else {
        filledBytes += stored.size;
        if (filledBytes > limits.maxBytes) {
          throw refused(`the archive has sparse files of more than ${limits.maxBytes} bytes`);
        }
        yield* withHoles(source, { ...header, size: stored.size }, stored.parts);
      }
    }
  } finally {
    await source.close();
  }
}

function noOverrides(): Overrides {
  return { pax: { xattrs: undefined }, longName: undefined, longLink: undefined, headerBytes: 0 };
}

/** Two zero blocks end an archive; a header that waits for its entry, or one zero block alone, does not. */
async function finish(
  source: ByteSource,
  block: Uint8Array | undefined,
  overrides: Overrides,
): Promise<void> {
  if (overrides.headerBytes > 0) throw refused('the archive ends after an extended header');
  if (block === undefined) return;
  const second = await source.read(BLOCK_BYTES);
  if (second !== undefined && !isZero(second))
    throw refused('the archive has an empty block between its entries');
  await source.drain();
}

async function* withContent(source: ByteSource, header: Omit<TarEntry, 'content'>): AsyncGenerator<TarEntry> {
  if (header.size <= BYTES_AT_ONCE) {
    const content = header.size === 0 ? new Uint8Array() : await source.read(header.size);
    if (content === undefined) throw refused(`the archive is cut short in ${JSON.stringify(header.name)}`);
    await source.skip(paddingOf(header.size));
    yield { ...header, content };
    return;
  }
  let taken = 0;
  let stale = false;
  async function* content(): AsyncGenerator<Uint8Array> {
    while (taken < header.size) {
      if (stale) throw new Error('the content of a tar entry was read after the next entry');
      const length = Math.min(header.size - taken, BYTES_AT_ONCE);
      const part = await source.read(length);
      if (part === undefined) throw refused(`the archive is cut short in ${JSON.stringify(header.name)}`);
      taken += length;
      yield part;
    }
  }
  yield { ...header, content: { [Symbol.asyncIterator]: content } };
  stale = true;
  await source.skip(header.size - taken + paddingOf(header.size));
}

interface HeaderPlace {
  readonly source: ByteSource;
  readonly block: Uint8Array;
  readonly header: Omit<TarEntry, 'content'>;
  readonly limits: UnpackLimits;
}

/** How a file's content is stored: whole, or as the parts of it that are no holes, whose map is read here. */
async function storedForm(
  { source, block, header, limits }: HeaderPlace,
  pax: PaxSparse | undefined,
): Promise<{ readonly size: number; readonly parts?: readonly DataPart[] }> {
  if (header.type !== 'file') return { size: header.size };
  const next = async (): Promise<Uint8Array> => {
    const read = await source.read(BLOCK_BYTES);
    if (read === undefined) throw refused(`the archive is cut short in ${JSON.stringify(header.name)}`);
    return read;
  };
  if (typeflag(block) === OLD_SPARSE) {
    if (magicOf(block) !== GNU_MAGIC)
      throw refused(`${JSON.stringify(header.name)} has the unknown type "S"`);
    const first = headerParts(block, (at) => numberAt(block, at, 12));
    const parts = [...first.parts];
    for (let goesOn = first.goesOn, bytes = 0; goesOn; bytes += BLOCK_BYTES) {
      if (bytes > limits.maxHeaderBytes) {
        throw refused(`the archive has a sparse map of more than ${limits.maxHeaderBytes} bytes`);
      }
      const more = await next();
      const read = blockParts(more, (at) => numberAt(more, at, 12));
      parts.push(...read.parts);
      goesOn = read.goesOn;
    }
    checkParts(parts, { size: first.size, stored: header.size });
    return { size: first.size, parts };
  }
  if (pax === undefined) return { size: header.size };
  const inData = pax.parts === undefined ? await partsInData(next, limits.maxHeaderBytes) : undefined;
  const parts = pax.parts ?? inData?.parts ?? [];
  checkParts(parts, { size: pax.size, stored: header.size - (inData?.bytes ?? 0) });
  return { size: pax.size, parts };
}

/** A sparse file with its holes filled. */
async function* withHoles(
  source: ByteSource,
  header: Omit<TarEntry, 'content'>,
  parts: readonly DataPart[],
): AsyncGenerator<TarEntry> {
  const stored = parts.reduce((sum, { length }) => sum + length, 0);
  let taken = 0;
  let stale = false;
  const read = async (most: number): Promise<Uint8Array> => {
    if (stale) throw new Error('the content of a tar entry was read after the next entry');
    const part = await source.read(Math.min(most, BYTES_AT_ONCE));
    if (part === undefined) throw refused(`the archive is cut short in ${JSON.stringify(header.name)}`);
    taken += part.byteLength;
    return part;
  };
  yield { ...header, content: filled(parts, header.size, read) };
  stale = true;
  await source.skip(stored - taken + paddingOf(stored));
}

/** Takes in a header that only describes the next one. False: the block is an entry of its own. */
async function readMeta(
  source: ByteSource,
  block: Uint8Array,
  { overrides, limits }: { readonly overrides: Overrides; readonly limits: UnpackLimits },
): Promise<boolean> {
  const flag = typeflag(block);
  if (flag !== 'x' && flag !== 'g' && flag !== 'L' && flag !== 'K') return false;
  const size = numberAt(block, 124, 12);
  overrides.headerBytes += BLOCK_BYTES + size;
  if (overrides.headerBytes > limits.maxHeaderBytes) {
    throw refused(`the archive has an extended header of more than ${limits.maxHeaderBytes} bytes`);
  }
  const body = size === 0 ? new Uint8Array() : await source.read(size);
  if (body === undefined) throw refused('the archive is cut short in an extended header');
  await source.skip(paddingOf(size));
  if (flag === 'x') overrides.pax = paxFields(body);
  if (flag === 'L') overrides.longName = untilZero(body);
  if (flag === 'K') overrides.longLink = untilZero(body);
  return true;
}

function entryOf(block: Uint8Array, { pax, longName, longLink }: Overrides): Omit<TarEntry, 'content'> {
  const flag = typeflag(block);
  const name = decodePath(pax.sparse?.name ?? pax.path ?? longName ?? ustarName(block));
  const type = TYPES[flag];
  if (type === undefined)
    throw refused(`${JSON.stringify(name)} has the unknown type ${JSON.stringify(flag)}`);
  const oldFolder = type === 'file' && flag !== '7' && name.endsWith('/');
  const isFile = type === 'file' && !oldFolder;
  const device = type === 'char' || type === 'block';
  return {
    name,
    type: oldFolder ? 'dir' : type,
    mode: numberAt(block, 100, 8) & 0o7777,
    uid: ownerId(pax.uid ?? numberAt(block, 108, 8)),
    gid: ownerId(pax.gid ?? numberAt(block, 116, 8)),
    mtime: pax.mtime ?? { sec: numberAt(block, 136, 12, true), nsec: 0 },
    size: isFile ? (pax.size ?? numberAt(block, 124, 12)) : 0,
    linkName: decodePath(pax.linkPath ?? longLink ?? untilZero(block.subarray(157, 257))),
    device: { major: device ? numberAt(block, 329, 8) : 0, minor: device ? numberAt(block, 337, 8) : 0 },
    xattrs: pax.xattrs,
  };
}

function typeflag(block: Uint8Array): string {
  return String.fromCharCode(block[156] ?? 0);
}

/** `prefix/name`; the prefix field is one only where the magic is `ustar\0` (GNU uses the place for other things). */
function ustarName(block: Uint8Array): Uint8Array {
  const name = untilZero(block.subarray(0, 100));
  const prefix = magicOf(block).startsWith('ustar\0')
    ? untilZero(block.subarray(345, 500))
    : new Uint8Array();
  return prefix.byteLength === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]);
}

function magicOf(block: Uint8Array): string {
  return Buffer.from(block.subarray(257, 265)).toString('latin1');
}

function untilZero(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end === -1 ? bytes : bytes.subarray(0, end);
}

function isZero(block: Uint8Array): boolean {
  return block[0] === 0 && block.every((byte) => byte === 0);
}

/** Historic writers summed signed bytes; both sums are accepted, as by GNU tar. */
function verifyChecksum(block: Uint8Array): void {
  const stored = numberAt(block, 148, 8);
  const unsigned = checksum(block);
  if (stored === unsigned) return;
  let high = 0;
  for (let at = 0; at < BLOCK_BYTES; at += 1) {
    if ((at < 148 || at >= 156) && (block[at] ?? 0) >= 0x80) high += 1;
  }
  if (stored !== unsigned - 256 * high) throw refused('the archive has a header with a wrong checksum');
}

function ownerId(id: number): number {
  if (id > 0xffff_fffe) throw refused(`the archive has the owner ${id}, which no file can have`);
  return id;
}

/** An octal or base-256 number field; negative ones only where `signed`. */
function numberAt(block: Uint8Array, at: number, length: number, signed = false): number {
  const field = block.subarray(at, at + length);
  const value = ((field[0] ?? 0) & 0x80) !== 0 ? base256(field) : octal(field);
  if (value < 0 && !signed) throw refused(`the archive has a header with the negative number ${value}`);
  return value;
}

function octal(field: Uint8Array): number {
  const text = Buffer.from(field)
    .toString('latin1')
    .replace(/^[ \0]+|[ \0]+$/g, '');
  if (!/^[0-7]*$/.test(text))
    throw refused(`the archive has a header with the bad number ${JSON.stringify(text)}`);
  return text === '' ? 0 : Number.parseInt(text, 8);
}

/** GNU's two's complement, big-endian; the top bit of the first byte only marks the form. */
function base256(field: Uint8Array): number {
  const negative = ((field[0] ?? 0) & 0x40) !== 0;
  let value = negative ? -1n : 0n;
  for (const [at, byte] of field.entries())
    value = (value << 8n) | BigInt(at === 0 && !negative ? byte & 0x7f : byte);
  const number = Number(value);
  if (!Number.isSafeInteger(number))
    throw refused('the archive has a header with a number that is too large');
  return number;
}
