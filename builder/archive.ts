import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import {
  FOLDER_TIME,
  fsPath,
  type HostPath,
  type ImagePath,
  imagePath,
  joinPath,
  resolvePath,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import { decompress, unpackLayer } from '../image/index.ts';
import type { Placement } from './copy-placement.ts';
import { stop } from './stop.ts';

const BLOCK = 512;
const LATER_COMPRESSIONS: readonly (readonly [string, Buffer])[] = [
  ['bzip2', Buffer.from('BZh')],
  ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
];

/** Does ADD unpack this file: is it a tar, plain or compressed with gzip or zstd? Judged by content, as Docker does. */
export async function isArchive(path: HostPath): Promise<boolean> {
  const head = await readHead(path);
  const later = LATER_COMPRESSIONS.find(([, magic]) => head.subarray(0, magic.length).equals(magic));
  if (later !== undefined) {
    stop('unsupported-archive', `ADD of ${later[0]} archives is not supported yet`, {
      hint: 'Use gzip or zstd, or COPY the archive and unpack it in a RUN.',
    });
  }
  const compressed = (head[0] === 0x1f && head[1] === 0x8b) || head.readUInt32BE(0) === 0x28b52ffd;
  return isTarHeader(compressed ? await decompressedHead(path) : head);
}

async function readHead(path: HostPath): Promise<Buffer> {
  await using file = await open(fsPath(path), 'r');
  const { buffer } = await file.read(Buffer.alloc(BLOCK), 0, BLOCK, 0);
  return buffer;
}

async function decompressedHead(path: HostPath): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of decompress(createReadStream(fsPath(path)))) {
      parts.push(chunk);
      size += chunk.byteLength;
      if (size >= BLOCK) break;
    }
  } catch {
    return Buffer.alloc(BLOCK);
  }
  return Buffer.concat([...parts, Buffer.alloc(BLOCK)]).subarray(0, BLOCK);
}

/** A tar begins with a header whose sum of bytes, the sum's own field read as blanks, it states (POSIX pax, "ustar Interchange Format"). */
function isTarHeader(block: Buffer): boolean {
  const stated = Number.parseInt(block.toString('latin1', 148, 156).replace(/\0.*$/s, '').trim(), 8);
  const copy = Buffer.from(block).fill(0x20, 148, 156);
  return Number.isInteger(stated) && block[0] !== 0 && copy.reduce((sum, byte) => sum + byte, 0) === stated;
}

/** What is in `archive`, laid into the destination folder with the owners that the archive states. */
export async function* archiveOps(
  parent: Tree,
  archive: HostPath,
  placement: Placement,
): AsyncGenerator<TreeOp> {
  const resolved = await resolvePath(parent, imagePath(placement.destination), { followLast: true });
  if (resolved === undefined || (resolved.entry !== undefined && resolved.entry.type !== 'dir')) {
    stop('copy-destination-not-folder', `cannot unpack into non-directory: ${placement.destination}`, {
      range: placement.range,
    });
  }
  const folder = resolved.path;
  const owner = placement.owner ?? { uid: 0, gid: 0 };
  if (folder !== '')
    yield { op: 'ensureDir', path: folder, attributes: { mode: 0o755, ...owner, mtime: FOLDER_TIME } };
  const inFolder = (path: ImagePath): ImagePath =>
    path === '' ? folder : folder === '' ? path : joinPath(folder, path);
  for await (const op of unpackLayer(decompress(createReadStream(fsPath(archive))), {
    whiteouts: false,
  })) {
    if (op.path === '') continue;
    if (op.op === 'hardlink') yield { ...op, path: inFolder(op.path), target: inFolder(op.target) };
    else yield { ...op, path: inFolder(op.path) };
  }
}
