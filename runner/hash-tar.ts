import { asDigest, type DiffFolders, type HashTar, type TarPiece } from '../core/index.ts';
import { callNative, type OrderSink } from './native-program.ts';
import type { NativeServer } from './native-server.ts';
import { WireReader, WireWriter } from './native-wire.ts';

/** Orders are sent in pieces of about this size. */
const PIECE_BYTES = 128 * 1024;
const DIGEST_BYTES = 32;

/** {@link HashTar} by the native program: one process for a layer, with a thread that reads and one that hashes. */
export function createHashTar(native: NativeServer): HashTar {
  return async (folders, pieces, signal) => {
    const feed = (sink: OrderSink) => sendPieces(sink, folders, pieces);
    const reader = new WireReader(await callNative({ native, command: 'hash-tar', feed, signal }));
    if (reader.tag() !== 'D')
      throw new Error('the native program answered with something else than a digest');
    const digest = asDigest(`sha256:${reader.raw(DIGEST_BYTES).toString('hex')}`);
    return { digest, size: reader.i64() };
  };
}

async function sendPieces(
  sink: OrderSink,
  { folder, original }: DiffFolders,
  pieces: Iterable<TarPiece>,
): Promise<void> {
  const out = new WireWriter(2 * PIECE_BYTES);
  out.text(folder);
  out.text(original?.folder ?? '');
  for (const piece of pieces) {
    if (piece.kind === 'bytes') {
      out.tag('b');
      out.bytes(piece.bytes);
    } else {
      out.tag(original === undefined || original.own.has(piece.path) ? 'f' : 'o');
      out.text(piece.path);
      out.i64(piece.size);
    }
    if (out.length >= PIECE_BYTES) await sink.send(out.take());
  }
  out.tag('z');
  await sink.send(out.take());
}
