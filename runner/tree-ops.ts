import {
  type Attributes,
  type Change,
  decodePath,
  type Entry,
  type FileContent,
  type HostPath,
  type ImagePath,
  MachineError,
  type RootMount,
  type TreeOp,
  type TreeOps,
  typeOfMode,
  unreachable,
} from '../core/index.ts';
import { callNative, locateNative, type OrderSink } from './native-program.ts';
import { NativeServer } from './native-server.ts';
import { WireReader, WireWriter, writeRootMount } from './native-wire.ts';

export interface TreeOpsOptions {
  /** Path of the native program; absent: where the installation put it. */
  readonly nativeProgram?: string;
  /** A server of that program to share; absent: one of its own. */
  readonly native?: NativeServer;
}

/** Operations are sent in pieces of about this size. */
const PIECE_BYTES = 128 * 1024;

const NODE_BITS = { char: 0o020000, block: 0o060000, fifo: 0o010000, socket: 0o140000 } as const;
const NO_LINK = 0xffffffff;

/**
 * The native program as {@link TreeOps}: one process per call, orders streamed to it, results read in bulk.
 *
 * @throws MachineError `native-missing` at the first call where the program is not installed.
 */
export function createTreeOps(options: TreeOpsOptions = {}): TreeOps {
  const native = options.native ?? new NativeServer(() => locateNative(options.nativeProgram));
  return {
    async apply(root, ops, signal) {
      const feed = (sink: OrderSink) => sendOps(sink, root, ops);
      await callNative({ native, command: 'apply', feed, signal });
    },
    async scanDiff(folder, { userXattrs }, signal) {
      const feed = (sink: OrderSink) => sendScan(sink, folder, userXattrs);
      return readChanges(await callNative({ native, command: 'scan-diff', feed, signal }));
    },
    async scanTree(folder, signal) {
      const feed = (sink: OrderSink) => sendScan(sink, folder, false);
      return readEntries(await callNative({ native, command: 'scan-tree', feed, signal }));
    },
    async removeAll(folders) {
      if (folders.length === 0) return;
      const feed = async (sink: OrderSink) => {
        const out = new WireWriter();
        for (const folder of folders) out.text(folder);
        await sink.send(out.take());
      };
      await callNative({ native, command: 'remove', feed });
    },
  };
}

async function sendScan(sink: OrderSink, folder: HostPath, userXattrs: boolean): Promise<void> {
  const out = new WireWriter();
  out.text(folder);
  out.flag(userXattrs);
  await sink.send(out.take());
}

async function sendOps(
  sink: OrderSink,
  root: RootMount,
  ops: Iterable<TreeOp> | AsyncIterable<TreeOp>,
): Promise<void> {
  const out = new WireWriter(2 * PIECE_BYTES);
  writeRootMount(out, root);
  for await (const op of ops) {
    writeOp(out, op);
    if (op.op === 'file' && op.content.kind === 'stream') await sendContent(sink, out, op.path, op.content);
    if (out.length >= PIECE_BYTES) await sink.send(out.take());
  }
  out.tag('z');
  await sink.send(out.take());
}

/** Sends the bytes of a streamed file; exactly `size` of them, or the tree would be filled with what follows. */
async function sendContent(
  sink: OrderSink,
  out: WireWriter,
  path: ImagePath,
  content: Extract<FileContent, { kind: 'stream' }>,
): Promise<void> {
  let left = content.size;
  for await (const chunk of content.chunks) {
    left -= chunk.length;
    if (left < 0)
      throw new MachineError('tree-io', `${path}: more content than the ${content.size} bytes announced`);
    if (chunk.length < PIECE_BYTES) out.raw(chunk);
    else {
      await sink.send(out.take());
      await sink.send(chunk);
    }
    if (out.length >= PIECE_BYTES) await sink.send(out.take());
  }
  if (left > 0)
    throw new MachineError('tree-io', `${path}: ${left} of ${content.size} bytes of content are missing`);
}

function writeOp(out: WireWriter, op: TreeOp): void {
  switch (op.op) {
    case 'dir':
    case 'ensureDir':
      out.tag(op.op === 'dir' ? 'd' : 'e');
      out.text(op.path);
      writeAttributes(out, op.attributes);
      return;
    case 'file':
      out.tag('f');
      out.text(op.path);
      writeAttributes(out, op.attributes);
      writeContent(out, op.content);
      return;
    case 'symlink':
      out.tag('l');
      out.text(op.path);
      writeAttributes(out, op.attributes);
      out.text(op.target);
      return;
    case 'hardlink':
      out.tag('h');
      out.text(op.path);
      out.text(op.target);
      return;
    case 'node':
      out.tag('n');
      out.text(op.path);
      writeAttributes(out, op.attributes);
      out.u32(NODE_BITS[op.type]);
      out.u32(op.device.major);
      out.u32(op.device.minor);
      return;
    case 'remove':
    case 'clear':
      out.tag(op.op === 'remove' ? 'r' : 'c');
      out.text(op.path);
      return;
    default:
      unreachable(op);
  }
}

function writeAttributes(out: WireWriter, attributes: Attributes): void {
  out.u32(attributes.mode & 0o7777);
  out.u32(attributes.uid);
  out.u32(attributes.gid);
  out.flag(attributes.mtime !== undefined);
  if (attributes.mtime !== undefined) {
    out.i64(attributes.mtime.sec);
    out.u32(attributes.mtime.nsec);
  }
  const xattrs = attributes.xattrs === undefined ? [] : Object.entries(attributes.xattrs);
  out.u16(xattrs.length);
  for (const [name, value] of xattrs) {
    out.text(name);
    out.bytes(value);
  }
}

function writeContent(out: WireWriter, content: FileContent): void {
  if (content.kind === 'host') {
    out.tag('h');
    out.text(content.path);
    return;
  }
  out.tag('b');
  if (content.kind === 'stream') {
    out.i64(content.size);
    return;
  }
  out.i64(content.bytes.length);
  out.raw(content.bytes);
}

/** What `scan-diff` answered. */
export function readChanges(result: Buffer): Change[] {
  const changes: Change[] = [];
  const paths: ImagePath[] = [];
  readList(result, (kind, path, reader) => {
    paths.push(path);
    if (kind === 'w') {
      changes.push({ kind: 'whiteout', path });
      return;
    }
    changes.push({ kind: 'set', entry: readEntry(path, reader, paths) });
    if (kind === 'o') changes.push({ kind: 'opaque', path });
  });
  return changes;
}

function readEntries(result: Buffer): Entry[] {
  const entries: Entry[] = [];
  const paths: ImagePath[] = [];
  readList(result, (_kind, path, reader) => {
    paths.push(path);
    entries.push(readEntry(path, reader, paths));
  });
  return entries;
}

type OnRecord = (kind: string, path: ImagePath, reader: WireReader) => void;

/** Walks the records that `runner/native/tree_scan.c` states. */
function readList(result: Buffer, onRecord: OnRecord): void {
  const reader = new WireReader(result);
  if (reader.tag() !== 'L') throw new Error('the native program answered a scan with something else');
  const count = reader.u32();
  for (let i = 0; i < count; i++) {
    const kind = reader.tag();
    onRecord(kind, decodePath(reader.bytes()) as ImagePath, reader);
  }
}

/** One record's fields behind its path; `paths` are those of all records up to this one. */
function readEntry(path: ImagePath, reader: WireReader, paths: readonly ImagePath[]): Entry {
  const bits = reader.u32();
  const type = typeOfMode(bits);
  if (type === undefined) throw new Error(`a file of unknown type: ${bits.toString(8)}`);
  const uid = reader.u32();
  const gid = reader.u32();
  const sec = reader.i64();
  const mtime = { sec, nsec: reader.u32() };
  const size = type === 'file' ? reader.i64() : 0;
  const link = type === 'dir' ? NO_LINK : reader.u32();
  const hardlinkTo = link === NO_LINK ? undefined : paths[link];
  const linkTarget = type === 'symlink' ? decodePath(reader.bytes()) : undefined;
  const device =
    type === 'char' || type === 'block' ? { major: reader.u32(), minor: reader.u32() } : undefined;
  const xattrs = readXattrs(reader);
  return {
    path,
    type,
    mode: bits & 0o7777,
    uid,
    gid,
    size,
    mtime,
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(hardlinkTo === undefined ? {} : { hardlinkTo }),
    ...(device === undefined ? {} : { device }),
    ...(xattrs === undefined ? {} : { xattrs }),
  };
}

function readXattrs(reader: WireReader): Record<string, Uint8Array> | undefined {
  const count = reader.u16();
  if (count === 0) return undefined;
  const pairs: [string, Uint8Array][] = [];
  for (let i = 0; i < count; i++) {
    const name = decodePath(reader.bytes());
    // Copied: a view would keep the whole result alive.
    pairs.push([name, Uint8Array.from(reader.bytes())]);
  }
  pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(pairs);
}
