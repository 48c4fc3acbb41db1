const TAR_BLOCK = 512;
/** Magic numbers of gzip, bzip2, xz and zstd. */
const COMPRESSED = ['1f8b', '425a68', 'fd377a585a00', '28b52ffd'];

/** Does a stream begin like a tar (POSIX, GNU or v7, told by the header's checksum) or like a compressed file? */
export function isArchiveHead(head: Buffer): boolean {
  const hex = head.subarray(0, 6).toString('hex');
  if (COMPRESSED.some((magic) => hex.startsWith(magic))) return true;
  if (head.length < TAR_BLOCK) return false;
  const block = head.subarray(0, TAR_BLOCK);
  // An empty tar is two blocks of zeros.
  if (block.every((byte) => byte === 0)) return true;
  const stored = Number.parseInt(
    block
      .toString('latin1', 148, 156)
      .replace(/[\0 ]+$/, '')
      .trim(),
    8,
  );
  let sum = 8 * 0x20;
  for (const [index, byte] of block.entries()) if (index < 148 || index >= 156) sum += byte;
  return stored === sum;
}
