import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMap } from 'node:util';
import { decodePath, MachineError, STORE_CHANGED_HINT, UNMAPPED_ID_HINT } from '../core/index.ts';
import { collectEnd, type NativeEnd, type NativeServer } from './native-server.ts';
import { WireReader } from './native-wire.ts';

/** Where the native program lies, seen from this file in the sources and in the bundle. */
const PLACES = ['../dist/native/', './native/'].map((folder) => `${folder}varve-native-${process.arch}`);

/** What to do where the program is missing. */
export const GET_NATIVE =
  'install gcc and libc6-dev, then run npm rebuild varve (in a checkout: npm run build)';

/**
 * Path of the native program.
 *
 * @param override a path to use instead (`VARVE_NATIVE`).
 * @throws MachineError `native-missing` where there is none.
 */
export function locateNative(override?: string): string {
  const candidates = override
    ? [override]
    : PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url)));
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new MachineError(
    'native-missing',
    `varve's native program is missing (looked for ${candidates.join(' and ')})`,
    { hint: GET_NATIVE },
  );
}

/** Is the native program there? `override` as for {@link locateNative}. */
export function hasNativeProgram(override?: string): boolean {
  try {
    locateNative(override);
    return true;
  } catch (error) {
    if (error instanceof MachineError) return false;
    throw error;
  }
}

/** Thrown into a feed when the program no longer takes orders: its own report tells why. */
class OrdersRefused extends Error {}

/** Sends orders to a native process and waits whenever it is behind. */
export interface OrderSink {
  /** Takes over `bytes`. Rejects when the process has ended; feeds let that pass. */
  send(bytes: Uint8Array): Promise<void>;
}

export interface NativeCall {
  readonly native: NativeServer;
  readonly command: 'apply' | 'scan-diff' | 'scan-tree' | 'remove' | 'hash-tar';
  /** Sends all orders; the stream is ended behind it. */
  readonly feed: (sink: OrderSink) => Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs one native process and returns all that it wrote to its result stream.
 *
 * @throws MachineError with the code that the program reported, or `native-failed` where it ended without a report;
 *   whatever `feed` throws; the signal's reason when it was aborted. The process is gone, or killed, in each case.
 */
export async function callNative(call: NativeCall): Promise<Buffer> {
  call.signal?.throwIfAborted();
  const [stream] = await call.native.start(call.command, [0]);
  if (stream === undefined) throw new Error('a native process without a stream');
  // The server kills a process whose stream nobody holds.
  const kill = () => stream.destroy();
  call.signal?.addEventListener('abort', kill, { once: true });
  const ended = collectEnd(stream);
  // `apply` says nothing before its end but that it failed.
  let isRefused = false;
  if (call.command === 'apply') {
    stream.once('data', () => {
      isRefused = true;
    });
  }
  try {
    call.signal?.throwIfAborted();
    await feedOrders(stream, call.feed, () => isRefused);
    const end = await ended;
    call.signal?.throwIfAborted();
    return readReport(call, end);
  } catch (error) {
    kill();
    await ended;
    call.signal?.throwIfAborted();
    throw error;
  } finally {
    call.signal?.removeEventListener('abort', kill);
  }
}

async function feedOrders(stream: Socket, feed: NativeCall['feed'], isRefused: () => boolean): Promise<void> {
  const send = async (bytes: Uint8Array): Promise<void> => {
    if (stream.destroyed || isRefused()) throw new OrdersRefused();
    if (stream.write(bytes)) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        stream.off('drain', done).off('close', done);
        resolve();
      };
      stream.on('drain', done).on('close', done);
    });
    if (stream.destroyed) throw new OrdersRefused();
  };
  try {
    await feed({ send });
  } catch (error) {
    if (!(error instanceof OrdersRefused)) throw error;
  }
  stream.end();
}

function errnoName(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`;
}

const HINTS: Readonly<Record<string, string>> = {
  'disk-full': 'free some space, or let `varve cache prune` do it',
  'layer-source-changed': STORE_CHANGED_HINT,
  'unmapped-id': UNMAPPED_ID_HINT,
  'mount-failed': 'mounting needs root, or a kernel that lets users mount overlays (Linux 5.11)',
};

/** Turns the record that `runner/native/failure.h` states into an error. */
function readReport({ command, native }: NativeCall, { output, status }: NativeEnd): Buffer {
  if (output.at(-1) === 'Z'.charCodeAt(0) && status === 0) return output;
  if (output.at(0) !== 'F'.charCodeAt(0)) {
    const { log } = native;
    const ending = status === undefined ? 'its server' : `wait status ${status}`;
    throw new MachineError(
      'native-failed',
      `varve's native program ended ${command} with ${ending}${log === '' ? '' : `: ${log}`}`,
    );
  }
  const reader = new WireReader(output.subarray(1));
  const errno = reader.u32();
  const code = reader.bytes().toString();
  const path = decodePath(reader.bytes());
  const message = reader.bytes().toString();
  const parts = [message, path === '' ? '' : path, errno === 0 ? '' : errnoName(errno)];
  const hint = HINTS[code];
  throw new MachineError(
    code,
    parts.filter((part) => part !== '').join(': '),
    hint === undefined ? {} : { hint },
  );
}
