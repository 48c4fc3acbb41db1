import { decodePath, type Time } from '../core/index.ts';
import { refused } from './byte-source.ts';
import { type PaxSparse, paxSparse } from './sparse.ts';

/** What the pax records of one entry say; absent: the ustar header holds. */
export interface PaxFields {
  readonly path?: Uint8Array;
  readonly linkPath?: Uint8Array;
  readonly size?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: Time;
  readonly sparse?: PaxSparse;
  readonly xattrs: Readonly<Record<string, Uint8Array>> | undefined;
}

/** Version 0.0 of sparse files repeats these two, one after the other. */
const PAIR = ['GNU.sparse.offset', 'GNU.sparse.numbytes'];
const XATTR_PREFIX = 'SCHILY.xattr.';
const DIGITS = /^(?:0|[1-9][0-9]{0,15})$/;
const TIME = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/;

/**
 * Reads the records `LENGTH KEY=VALUE\n` of an extended header (POSIX.1-2017, pax). Values are bytes. A record with an empty
 * value takes its key back. @throws MachineError `layer-refused` for anything malformed.
 */
export function paxFields(body: Uint8Array): PaxFields {
  const values = new Map<string, Uint8Array>();
  const pairs: string[] = [];
  let at = 0;
  while (at < body.byteLength) {
    const { key, value, end } = recordAt(body, at);
    values.set(key, value);
    if (key === PAIR[pairs.length % 2]) pairs.push(text(value));
    else if (PAIR.includes(key)) throw refused('the archive has a malformed sparse map');
    at = end;
  }
  const sparse = paxSparse(values, pairs);
  const found = (key: string): Uint8Array | undefined => {
    const value = values.get(key);
    return value === undefined || value.byteLength === 0 ? undefined : value;
  };
  const path = name(found('path'));
  const linkPath = name(found('linkpath'));
  const size = integer(found('size'));
  const uid = integer(found('uid'));
  const gid = integer(found('gid'));
  const mtime = time(found('mtime'));
  return {
    ...(path === undefined ? {} : { path }),
    ...(linkPath === undefined ? {} : { linkPath }),
    ...(size === undefined ? {} : { size }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(mtime === undefined ? {} : { mtime }),
    ...(sparse === undefined ? {} : { sparse }),
    xattrs: xattrsOf(values),
  };
}

function recordAt(
  body: Uint8Array,
  at: number,
): { readonly key: string; readonly value: Uint8Array; readonly end: number } {
  const space = body.indexOf(0x20, at);
  const digits = space === -1 ? '' : text(body.subarray(at, Math.min(space, at + 20)));
  const end = at + Number(digits);
  const equals = body.indexOf(0x3d, space + 1);
  const whole = DIGITS.test(digits) && end <= body.byteLength && body[end - 1] === 0x0a;
  if (!whole || equals === -1 || equals >= end || equals === space + 1) {
    throw refused('the archive has a malformed extended header');
  }
  return {
    key: decodePath(body.subarray(space + 1, equals)),
    value: body.subarray(equals + 1, end - 1),
    end,
  };
}

function xattrsOf(values: ReadonlyMap<string, Uint8Array>): Readonly<Record<string, Uint8Array>> | undefined {
  const found: [string, Uint8Array][] = [];
  for (const [key, value] of values) {
    if (!key.startsWith(XATTR_PREFIX)) continue;
    const attribute = key.slice(XATTR_PREFIX.length);
    if (attribute === '' || attribute.includes('\0'))
      throw refused('the archive has a malformed extended attribute');
    if (value.byteLength > 64 * 1024)
      throw refused(`the extended attribute ${attribute} is larger than Linux allows`);
    found.push([attribute, Uint8Array.from(value)]);
  }
  return found.length === 0 ? undefined : Object.fromEntries(found);
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}

function name(value: Uint8Array | undefined): Uint8Array | undefined {
  if (value?.includes(0)) throw refused('the archive has a name with a zero byte');
  return value;
}

function integer(value: Uint8Array | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(text(value));
  if (!DIGITS.test(text(value)) || !Number.isSafeInteger(number)) {
    throw refused(
      `the archive has an extended header with the bad number ${JSON.stringify(text(value).slice(0, 40))}`,
    );
  }
  return number;
}

/** Decimal seconds, exact to the nanosecond; further digits are cut off towards the past. */
function time(value: Uint8Array | undefined): Time | undefined {
  if (value === undefined) return undefined;
  const [, sign, seconds = '', fraction = ''] = TIME.exec(text(value)) ?? [];
  if (sign === undefined) throw refused('the archive has an extended header with a bad time');
  const sec = Number(seconds);
  const nsec = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (sign === '') return { sec, nsec };
  return nsec === 0 ? { sec: sec === 0 ? 0 : -sec, nsec } : { sec: -sec - 1, nsec: 1_000_000_000 - nsec };
}
