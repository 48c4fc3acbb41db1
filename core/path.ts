import type { Brand } from './brand.ts';

/** An absolute path on the machine that varve runs on. Never part of a key or a record. */
export type HostPath = Brand<string, 'HostPath'>;

/**
 * A path inside an image or a build context, relative to its root: no leading slash, no `.` or `..` parts, no
 * trailing slash; the root itself is `''`. File names are bytes on Linux: bytes that are not valid UTF-8 are kept
 * as lone surrogates U+DC80..U+DCFF (Python's "surrogateescape", PEP 383), so every name survives as a string.
 */
export type ImagePath = Brand<string, 'ImagePath'>;

export const ROOT_PATH = '' as ImagePath;

const REPLACEMENT = '�';

/**
 * Bytes of a file name or path, or of a text that may hold such bytes too, to a string that {@link encodePath} turns back
 * into the same bytes.
 */
export function decodePath(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = buffer.toString('utf8');
  if (!text.includes(REPLACEMENT)) return text;
  return decodeEscaping(buffer);
}

/** Reads `bytes` one UTF-8 sequence at a time; each byte that starts no valid sequence becomes one surrogate. */
function decodeEscaping(bytes: Buffer): string {
  let out = '';
  let at = 0;
  while (at < bytes.length) {
    const first = bytes[at] ?? 0;
    if (first < 0x80) {
      const start = at;
      while (at < bytes.length && (bytes[at] ?? 0) < 0x80) at += 1;
      out += bytes.toString('latin1', start, at);
      continue;
    }
    const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    const sequence = bytes.subarray(at, at + length);
    const text = sequence.toString('utf8');
    const valid = length > 0 && sequence.length === length && Buffer.from(text, 'utf8').equals(sequence);
    out += valid ? text : String.fromCharCode(0xdc00 + first);
    at += valid ? length : 1;
  }
  return out;
}

/** The bytes of a string made by {@link decodePath}. */
export function encodePath(path: string): Buffer {
  if (path.isWellFormed()) return Buffer.from(path, 'utf8');
  const parts: Buffer[] = [];
  let run = '';
  for (const char of path) {
    const code = char.charCodeAt(0);
    if (char.length === 1 && code >= 0xdc80 && code <= 0xdcff) {
      parts.push(Buffer.from(run, 'utf8'), Buffer.of(code - 0xdc00));
      run = '';
    } else run += char;
  }
  parts.push(Buffer.from(run, 'utf8'));
  return Buffer.concat(parts);
}

/** What Node's `fs` takes for `path`: the string itself where it is plain text, else its bytes. */
export function fsPath(path: string): string | Buffer {
  return path.isWellFormed() ? path : encodePath(path);
}

/** Order of paths by their bytes: the same on every machine and in every locale. */
export function comparePaths(a: string, b: string): number {
  if (a === b) return 0;
  // UTF-16 order and UTF-8 order differ only where surrogates meet U+E000..U+FFFF.
  const plain = !/[\ud800-\uffff]/.test(a) && !/[\ud800-\uffff]/.test(b);
  if (plain) return a < b ? -1 : 1;
  return Buffer.compare(encodePath(a), encodePath(b));
}

/** A part that is empty, `.` or `..`. */
const UNUSUAL_PART = /(?:^|\/)\.{0,2}(?:\/|$)/;

/**
 * Brings `path` to the form of {@link ImagePath} by words alone: joins it to `base` unless it is absolute, drops
 * empty and `.` parts, resolves `..` and stops at the root. Symlinks are not looked at.
 */
export function imagePath(path: string, base: ImagePath = ROOT_PATH): ImagePath {
  // Most are in that form already.
  if (base === '' && path !== '' && !UNUSUAL_PART.test(path)) return path as ImagePath;
  const parts: string[] = path.startsWith('/') || base === '' ? [] : base.split('/');
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return parts.join('/') as ImagePath;
}

export function joinPath(dir: ImagePath, name: string): ImagePath {
  return (dir === '' ? name : `${dir}/${name}`) as ImagePath;
}

/** The folder that holds `path`; the root's parent is the root. */
export function parentPath(path: ImagePath): ImagePath {
  const slash = path.lastIndexOf('/');
  return (slash === -1 ? '' : path.slice(0, slash)) as ImagePath;
}

export function baseName(path: ImagePath): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function joinHost(dir: HostPath, ...parts: readonly string[]): HostPath {
  const tail = parts.filter((part) => part !== '').join('/');
  return (tail === '' ? dir : `${dir === '/' ? '' : dir}/${tail}`) as HostPath;
}
