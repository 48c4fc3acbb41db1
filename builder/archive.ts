import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { fsPath, type HostPath, MachineError, type TreeOp } from '../core/index.ts';
import { archiveCompressionOf, decompressArchive, unpackLayer } from '../image/index.ts';

const BLOCK = 512;

/**
 * Does ADD unpack this file: is it a tar, plain or compressed with gzip, bzip2, xz or zstd? Judged by content, as Docker does.
 *
 * @throws MachineError `program-missing` where the program that knows its compression is not installed.
 */
export async function isArchive(path: HostPath): Promise<boolean> {
  const head = await readHead(path);
  return isTarHeader(archiveCompressionOf(head) === 'none' ? head : await decompressedHead(path));
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
    for await (const chunk of decompressArchive(createReadStream(fsPath(path)))) {
      parts.push(chunk);
      size += chunk.byteLength;
      if (size >= BLOCK) break;
    }
  } catch (error) {
    if (error instanceof MachineError && error.code !== 'layer-refused') throw error;
    return Buffer.alloc(BLOCK);
  }
  return Buffer.concat([...parts, Buffer.alloc(BLOCK)]).subarray(0, BLOCK);
}

/**
 * A tar begins with a header whose sum of bytes, the sum's own field read as blanks, it states (POSIX pax, "ustar Interchange
 * Format"). Old programs summed signed bytes.
 */
function isTarHeader(block: Buffer): boolean {
  const stated = Number.parseInt(block.toString('latin1', 148, 156).replace(/\0.*$/s, '').trim(), 8);
  const copy = Buffer.from(block).fill(0x20, 148, 156);
  if (!Number.isInteger(stated) || block[0] === 0) return false;
  const unsigned = copy.reduce((sum, byte) => sum + byte, 0);
  const high = copy.reduce((count, byte) => count + (byte >> 7), 0);
  return stated === unsigned || stated === unsigned - 256 * high;
}

/** What is in `archive`, by the paths that it states, with the owners that it states. */
export function archiveOps(archive: HostPath): AsyncGenerator<TreeOp> {
  return unpackLayer(decompressArchive(createReadStream(fsPath(archive))), { whiteouts: false });
}
