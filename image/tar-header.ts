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
  const records = paxRecords(header);
  const size = records.reduce((sum, { length }) => sum + length, 0);
  const front = size === 0 ? 0 : BLOCK_BYTES + size + paddingOf(size);
  // Out of the common pool: layers have a header for each of tens of thousands of files.
  const blocks = Buffer.allocUnsafe(front + BLOCK_BYTES).fill(0);
  if (size > 0) writeUstar(blocks.subarray(0, BLOCK_BYTES), { ...EXTENDED, size });
  let at = BLOCK_BYTES;
  for (const record of records) at += record.copy(blocks, at);
  writeUstar(blocks.subarray(front), header);
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

function paxRecords(header: TarHeader): Buffer[] {
  const values: [key: string, value: string | Uint8Array][] = [];
  if (header.gid > MAX_OCTAL_7) values.push(['gid', String(header.gid)]);
  if (header.linkName !== undefined && !fitsField(header.linkName)) {
    values.push(['linkpath', encodePath(header.linkName)]);
  }
  if (!fitsTime(header.mtime)) values.push(['mtime', decimalTime(header.mtime)]);
  if (splitName(header.name) === undefined) values.push(['path', encodePath(header.name)]);
  if (header.size > MAX_OCTAL_11) values.push(['size', String(header.size)]);
  if (header.uid > MAX_OCTAL_7) values.push(['uid', String(header.uid)]);
  for (const [name, value] of Object.entries(header.xattrs ?? {}))
    values.push([`SCHILY.xattr.${name}`, value]);
  return values
    .map(([key, value]) => ({ key: encodePath(key), value }))
    .sort((a, b) => Buffer.compare(a.key, b.key))
    .map(({ key, value }) => paxRecord(key, value));
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts its own digits too. */
function paxRecord(key: Buffer, value: string | Uint8Array): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
  const rest = 1 + key.length + 1 + bytes.length + 1;
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} `), key, Buffer.from('='), bytes, Buffer.from('\n')]);
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

/** Fills a block of zeros. */
function writeUstar(block: Buffer, header: TarHeader): void {
  const split = splitName(header.name) ?? { name: fallbackName(header.name), prefix: '' };
  block.write(split.name, 0, 100, 'latin1');
  writeOctal(block, header.mode, 100, 7);
  writeOctal(block, header.uid > MAX_OCTAL_7 ? 0 : header.uid, 108, 7);
  writeOctal(block, header.gid > MAX_OCTAL_7 ? 0 : header.gid, 116, 7);
  writeOctal(block, header.size > MAX_OCTAL_11 ? 0 : header.size, 124, 11);
  const inRange = header.mtime.sec >= 0 && header.mtime.sec <= MAX_OCTAL_11;
  writeOctal(block, inRange ? header.mtime.sec : 0, 136, 11);
  block.write(header.typeflag, 156, 'latin1');
  const linkName = header.linkName ?? '';
  block.write(fitsField(linkName) ? linkName : fallbackName(linkName), 157, 100, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  writeOctal(block, header.device?.major ?? 0, 329, 7);
  writeOctal(block, header.device?.minor ?? 0, 337, 7);
  block.write(split.prefix, 345, 155, 'latin1');
  writeOctal(block, checksum(block), 148, 6);
  block[155] = SPACE;
}

/** What a reader that knows no pax sees: the first 100 ASCII characters. */
function fallbackName(path: string): string {
  return path.replace(/[^\x01-\x7f]+/g, '').slice(0, 100);
}

function writeOctal(block: Buffer, value: number, at: number, digits: number): void {
  let rest = value;
  for (let digit = at + digits - 1; digit >= at; digit -= 1) {
    const higher = Math.floor(rest / 8);
    block[digit] = ZERO + rest - higher * 8;
    rest = higher;
  }
}

/** Sum of all bytes of a header block, the checksum field itself counted as spaces. */
export function checksum(block: Uint8Array): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < 148; at += 1) sum += block[at] ?? 0;
  for (let at = 156; at < BLOCK_BYTES; at += 1) sum += block[at] ?? 0;
  return sum;
}
