import { refused } from './byte-source.ts';
import { BLOCK_BYTES } from './tar-header.ts';

/** `length` bytes of a file's data at `offset`. What no part covers is zeros. */
export interface DataPart {
  readonly offset: number;
  readonly length: number;
}

/** What pax records say of a file that is archived without its holes (GNU tar manual, "Storing Sparse Files"). */
export interface PaxSparse {
  /** Absent: the file's own name. */
  readonly name?: Uint8Array;
  /** Of the file with its holes. */
  readonly size: number;
  /** Absent: the parts stand in front of the data (version 1.0). */
  readonly parts?: readonly DataPart[];
}

const PARTS_IN_HEADER = 4;
const PARTS_IN_BLOCK = 21;
const PART_BYTES = 24;
const DECIMAL = /^[0-9]{1,15}$/;

/**
 * Reads the records `GNU.sparse.*` of versions 0.0, 0.1 and 1.0.
 *
 * @param pairs the values of `GNU.sparse.offset` and `GNU.sparse.numbytes` in their order, which version 0.0 repeats.
 * @returns undefined where there are none. @throws MachineError `layer-refused` where they do not fit together
 */
export function paxSparse(
  values: ReadonlyMap<string, Uint8Array>,
  pairs: readonly string[],
): PaxSparse | undefined {
  const text = (key: string): string => Buffer.from(values.get(`GNU.sparse.${key}`) ?? []).toString('latin1');
  const version = `${text('major')}.${text('minor')}`;
  const map = pairs.length > 0 ? pairs : text('map') === '' ? [] : text('map').split(',');
  const isInData = version === '1.0';
  if (!isInData && version !== '0.0' && version !== '0.1' && version !== '.') throw malformed();
  if (!isInData && map.length === 0 && version === '.') {
    if (text('size') === '' && text('numblocks') === '') return undefined;
  }
  const name = values.get('GNU.sparse.name');
  return {
    size: decimal(text('size') === '' ? text('realsize') : text('size')),
    ...(name === undefined || name.byteLength === 0 ? {} : { name }),
    ...(isInData ? {} : { parts: partsOf(map.map(decimal)) }),
  };
}

/** The parts that an old GNU header (type `S`) has room for. @param numberAt reads a number of the block */
export function headerParts(
  block: Uint8Array,
  numberAt: (at: number) => number,
): { readonly size: number; readonly parts: readonly DataPart[]; readonly goesOn: boolean } {
  return {
    size: numberAt(483),
    parts: gnuParts(386, PARTS_IN_HEADER, numberAt),
    goesOn: block[482] !== 0,
  };
}

/** The parts of a block behind such a header. */
export function blockParts(
  block: Uint8Array,
  numberAt: (at: number) => number,
): { readonly parts: readonly DataPart[]; readonly goesOn: boolean } {
  return { parts: gnuParts(0, PARTS_IN_BLOCK, numberAt), goesOn: block[504] !== 0 };
}

function gnuParts(at: number, count: number, numberAt: (at: number) => number): readonly DataPart[] {
  const parts: DataPart[] = [];
  for (let index = 0; index < count; index += 1) {
    const from = at + index * PART_BYTES;
    const part = { offset: numberAt(from), length: numberAt(from + PART_BYTES / 2) };
    if (part.offset !== 0 || part.length !== 0) parts.push(part);
  }
  return parts;
}

/**
 * Reads the map in front of the data: decimal numbers, a line each: how many parts, then offset and length of each.
 *
 * @param read the next block of the data. @returns the parts, and how many bytes they took
 */
export async function partsInData(
  read: () => Promise<Uint8Array>,
  maxBytes: number,
): Promise<{ readonly parts: readonly DataPart[]; readonly bytes: number }> {
  let text = '';
  let bytes = 0;
  for (;;) {
    bytes += BLOCK_BYTES;
    if (bytes > maxBytes) throw refused(`the archive has a sparse map of more than ${maxBytes} bytes`);
    text += Buffer.from(await read()).toString('latin1');
    const end = text.lastIndexOf('\n');
    const lines = text.slice(0, Math.max(end, 0)).split('\n');
    const [count = ''] = lines;
    if (end === -1) {
      if (text.length > 20) throw malformed();
      continue;
    }
    const wanted = 1 + 2 * decimal(count);
    if (lines.length >= wanted) return { parts: partsOf(lines.slice(1, wanted).map(decimal)), bytes };
  }
}

/** Parts in order, apart from each other and within the file, whose data is all that is stored. */
export function checkParts(
  parts: readonly DataPart[],
  { size, stored }: { readonly size: number; readonly stored: number },
): void {
  let end = 0;
  let data = 0;
  for (const { offset, length } of parts) {
    if (offset < end) throw malformed();
    end = offset + length;
    data += length;
  }
  if (end > size || data !== stored) throw malformed();
}

/** The file with its holes filled. @param read brings the next bytes of the data */
export async function* filled(
  parts: readonly DataPart[],
  size: number,
  read: (most: number) => Promise<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const { offset, length } of [...parts, { offset: size, length: 0 }]) {
    for (; at < offset; at += Math.min(offset - at, ZEROS.length)) yield ZEROS.subarray(0, offset - at);
    for (const end = offset + length; at < end; ) {
      const bytes = await read(end - at);
      at += bytes.byteLength;
      yield bytes;
    }
  }
}

const ZEROS = new Uint8Array(128 * 1024);

function partsOf(numbers: readonly number[]): readonly DataPart[] {
  if (numbers.length % 2 !== 0) throw malformed();
  const parts: DataPart[] = [];
  for (let at = 0; at < numbers.length; at += 2) {
    parts.push({ offset: numbers[at] ?? 0, length: numbers[at + 1] ?? 0 });
  }
  return parts;
}

function decimal(text: string): number {
  if (!DECIMAL.test(text)) throw malformed();
  return Number(text);
}

function malformed(): Error {
  return refused('the archive has a malformed sparse map');
}
