import { encodePath, type Time } from '../core/index.ts';

export const BLOCK_BYTES = 512;

/** Typeflag of a ustar header (POSIX.1-2017, pax, "ustar Interchange Format"). */
export const TYPEFLAG = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  dir: '5',
  fifo: '6',
  pax: 'x',
} as const;

export interface TarHeader {
  /** As {@link encodePath} takes it; folders end in `/`. */
  readonly name: string;
  readonly typeflag: (typeof TYPEFLAG)[keyof typeof TYPEFLAG];
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: Time;
  readonly linkName?: string;
  readonly device?: { readonly major: number; readonly minor: number };
  readonly xattrs?: Readonly<Record<string, Uint8Array>>;
}

const MAX_OCTAL_7 = 0o7777777;
const MAX_OCTAL_11 = 0o77777777777;
const ZERO = 0x30;
const SPACE = 0x20;
const ASCII = /^[\x01-\x7f]*$/;

/**
 * The blocks that stand before an entry's content: a pax extended header where ustar fields are too small, then the ustar
 * header. Owners are numbers only; what does not fit ustar (names beyond ASCII or 255 bytes, owners above 2097151, sizes from
 * 8 GiB, times with nanoseconds or before 1970, extended attributes) goes into pax records, sorted by key.
 *
 * Written by hand because layers carry bytes: tar-stream encodes names, link targets and pax values as UTF-8 text, which
 * damages file capabilities and names of other encodings, and wraps times after 2038.
 */
export function encodeTarHeader(header: TarHeader): Buffer {
  const split = splitName(header.name);
  const records = paxRecords(header, split !== undefined);
  let size = 0;
  for (const { length } of records) size += length;
  const front = size === 0 ? 0 : BLOCK_BYTES + size + paddingOf(size);
  // Out of the common pool: layers have a header for each of tens of thousands of files.
  const blocks = Buffer.allocUnsafe(front + BLOCK_BYTES);
  if (size > 0) {
    writeUstar(blocks, { ...EXTENDED, size }, 0);
    let at = BLOCK_BYTES;
    for (const record of records)
      at += typeof record === 'string' ? blocks.write(record, at, 'latin1') : record.copy(blocks, at);
    blocks.fill(0, at, front);
  }
  writeUstar(blocks, header, front, split);
  return blocks;
}

const EXTENDED = {
  name: 'PaxHeader',
  typeflag: TYPEFLAG.pax,
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: { sec: 0, nsec: 0 },
} as const;

/** Zero bytes that fill the last block of `size` bytes. */
export function paddingOf(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** Records by key; those of text alone as the text whose characters are the bytes. */
function paxRecords(header: TarHeader, fitsName: boolean): readonly (string | Buffer)[] {
  const values: [key: string, value: string | Uint8Array][] = [];
  if (header.gid > MAX_OCTAL_7) values.push(['gid', String(header.gid)]);
  if (header.linkName !== undefined && !fitsField(header.linkName)) {
    values.push(['linkpath', encodePath(header.linkName)]);
  }
  if (!fitsTime(header.mtime)) values.push(['mtime', decimalTime(header.mtime)]);
  if (!fitsName) values.push(['path', encodePath(header.name)]);
  if (header.size > MAX_OCTAL_11) values.push(['size', String(header.size)]);
  if (header.uid > MAX_OCTAL_7) values.push(['uid', String(header.uid)]);
  if (header.xattrs === undefined) return values.map(([key, value]) => paxRecord(key, value));
  for (const [name, value] of Object.entries(header.xattrs)) values.push([`SCHILY.xattr.${name}`, value]);
  return values
    .map(([key, value]) => ({ key, bytes: encodePath(key), value }))
    .sort((a, b) => Buffer.compare(a.bytes, b.bytes))
    .map(({ key, value }) => paxRecord(key, value));
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts its own digits too. */
function paxRecord(key: string, value: string | Uint8Array): string | Buffer {
  if (typeof value === 'string') return `${recordLength(key, value)} ${key}=${value}\n`;
  const name = encodePath(key);
  const length = Buffer.from(`${recordLength(name, value)} `);
  return Buffer.concat([length, name, Buffer.from('='), value, Buffer.from('\n')]);
}

function recordLength(key: { readonly length: number }, value: { readonly length: number }): number {
  const rest = 1 + key.length + 1 + value.length + 1;
  const length = rest + String(rest).length;
  return rest + String(length).length;
}

function fitsField(text: string): boolean {
  return text.length <= 100 && ASCII.test(text);
}

function fitsTime(time: Time): boolean {
  return time.nsec === 0 && time.sec >= 0 && time.sec <= MAX_OCTAL_11;
}

/** Exact decimal seconds; `{sec: -2, nsec: 500_000_000}` is `-1.5`. */
function decimalTime({ sec, nsec }: Time): string {
  if (nsec === 0) return String(sec);
  const negative = sec < 0;
  const whole = negative ? -(sec + 1) : sec;
  const fraction = String(negative ? 1_000_000_000 - nsec : nsec)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${negative ? '-' : ''}${whole}.${fraction}`;
}

/** `name` and `prefix` of a ustar header; undefined where the path needs a pax record. */
function splitName(path: string): { readonly name: string; readonly prefix: string } | undefined {
  if (!ASCII.test(path)) return undefined;
  if (path.length <= 100) return { name: path, prefix: '' };
  if (path.length > 256) return undefined;
  const end = path.endsWith('/') ? path.length - 2 : path.length - 1;
  const slash = path.lastIndexOf('/', Math.min(end, 155));
  const name = path.slice(slash + 1);
  if (slash <= 0 || name.length > 100) return undefined;
  return { name, prefix: path.slice(0, slash) };
}

/** A header in which all that {@link writeUstar} does not write has its value. */
const BLANK = Buffer.alloc(BLOCK_BYTES);
BLANK.write('ustar\x0000', 257, 'latin1');
writeOctal(BLANK, 0, { at: 329, digits: 7 });
writeOctal(BLANK, 0, { at: 337, digits: 7 });
BLANK[155] = SPACE;

const BLANK_SUM = checksum(BLANK);
const ZEROS_SUM = 7 * ZERO;

/** Writes the header block that begins at `from`, with the checksum counted on the way. */
function writeUstar(blocks: Buffer, header: TarHeader, from: number, split = splitName(header.name)): void {
  const { mtime, device, linkName = '' } = header;
  BLANK.copy(blocks, from);
  const octal = (value: number, at: number, digits: number) =>
    writeOctal(blocks, value, { at: from + at, digits });
  let sum = BLANK_SUM + writeText(blocks, split?.name ?? fallbackName(header.name), from);
  sum += octal(header.mode, 100, 7);
  sum += octal(header.uid > MAX_OCTAL_7 ? 0 : header.uid, 108, 7);
  sum += octal(header.gid > MAX_OCTAL_7 ? 0 : header.gid, 116, 7);
  sum += octal(header.size > MAX_OCTAL_11 ? 0 : header.size, 124, 11);
  sum += octal(mtime.sec >= 0 && mtime.sec <= MAX_OCTAL_11 ? mtime.sec : 0, 136, 11);
  sum += writeText(blocks, header.typeflag, from + 156);
  sum += writeText(blocks, fitsField(linkName) ? linkName : fallbackName(linkName), from + 157);
  if (device !== undefined) sum += octal(device.major, 329, 7) + octal(device.minor, 337, 7) - 2 * ZEROS_SUM;
  sum += writeText(blocks, split?.prefix ?? '', from + 345);
  octal(sum, 148, 6);
}

/** Writes ASCII, of which there is little in each field. @returns the sum of the bytes. */
function writeText(block: Buffer, text: string, from: number): number {
  let sum = 0;
  for (let at = 0; at < text.length; at += 1) {
    const byte = text.charCodeAt(at);
    block[from + at] = byte;
    sum += byte;
  }
  return sum;
}

/** What a reader that knows no pax sees: the first 100 ASCII characters. */
function fallbackName(path: string): string {
  return path.replace(/[^\x01-\x7f]+/g, '').slice(0, 100);
}

/** @returns the sum of the digits as bytes. */
function writeOctal(
  block: Buffer,
  value: number,
  { at, digits }: { readonly at: number; readonly digits: number },
): number {
  let rest = value;
  let sum = 0;
  for (let digit = at + digits - 1; digit >= at; digit -= 1) {
    const higher = Math.floor(rest / 8);
    const byte = ZERO + rest - higher * 8;
    block[digit] = byte;
    sum += byte;
    rest = higher;
  }
  return sum;
}

/** Sum of all bytes of a header block, the checksum field itself counted as spaces. */
export function checksum(block: Uint8Array): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < 148; at += 1) sum += block[at] ?? 0;
  for (let at = 156; at < BLOCK_BYTES; at += 1) sum += block[at] ?? 0;
  return sum;
}
