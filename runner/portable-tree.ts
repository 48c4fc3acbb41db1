import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import {
  chmod,
  type FileHandle,
  lchown,
  link,
  lstat,
  lutimes,
  mkdir,
  open,
  readdir,
  readlink,
  rm,
  symlink,
} from 'node:fs/promises';
import {
  type Attributes,
  baseName,
  decodePath,
  errnoOf,
  type FileContent,
  fsPath,
  type HostPath,
  hasNoRoom,
  type ImagePath,
  joinHost,
  joinPath,
  MachineError,
  parentPath,
  ROOT_PATH,
  type TreeOp,
  unreachable,
} from '../core/index.ts';
import { dropXattrs, writeXattrs } from './xattr-tools.ts';

type NodeOp = Extract<TreeOp, { op: 'node' }>;

/** The kernel's limit of symlinks on one look-up (path_resolution(7)). */
const MAX_SYMLINKS = 40;
const NODE_LETTERS = { char: 'c', block: 'b', fifo: 'p' } as const;
/** Bytes of a block that may become a hole. */
const PIECE = 4096;
const ZEROS = Buffer.alloc(PIECE);

/**
 * A folder that operations are applied to with Node's own calls, one after the other. Nobody else may change it meanwhile: a
 * path is resolved by looking at its parts, inside the folder as if that were `/`.
 */
export class PortableTree {
  readonly #root: HostPath;
  readonly #made = new Set<ImagePath>();
  readonly #folders = new Map<ImagePath, Attributes>();
  readonly #xattrs = new Map<string, Readonly<Record<string, Uint8Array>>>();
  /** Folders that were there before and take new attributes: extended ones that these do not name go. */
  readonly #kept = new Set<string>();
  /** Folders as paths were resolved to; forgotten when something is replaced. */
  readonly #resolved = new Map<ImagePath, ImagePath>();

  constructor(root: HostPath) {
    this.#root = root;
  }

  /** @throws MachineError `disk-full`, `tree-io` with the path and the error's name. */
  async apply(op: TreeOp): Promise<void> {
    try {
      await this.#apply(op);
    } catch (error) {
      throw treeError(error, op.path);
    }
  }

  async #apply(op: TreeOp): Promise<void> {
    switch (op.op) {
      case 'dir':
        return this.#makeFolder(op.path, op.attributes);
      case 'ensureDir':
        return this.#ensureFolder(op.path, op.attributes);
      case 'file':
        return this.#makeFile(op);
      case 'symlink': {
        const at = await this.#clearedPlace(op.path);
        await symlink(fsPath(op.target), fsPath(this.#host(at)));
        return this.#give(at, op.attributes);
      }
      case 'hardlink': {
        const target = await this.#place(op.target);
        const at = await this.#clearedPlace(op.path);
        await link(fsPath(this.#host(target)), fsPath(this.#host(at)));
        this.#made.add(at);
        return;
      }
      case 'node':
        return this.#makeNode(op);
      case 'remove':
        return this.#ifThere(op.path, (at) => this.#remove(at));
      case 'clear':
        return this.#ifThere(op.path, (at) => this.#clear(at));
      default:
        return unreachable(op);
    }
  }

  /** What can be set only when everything is in its place: extended attributes, then the times of folders. */
  async finish(): Promise<void> {
    await dropXattrs(this.#root, this.#kept, this.#xattrs);
    await writeXattrs(this.#xattrs);
    for (const [path, { mtime }] of [...this.#folders].reverse()) {
      if (mtime !== undefined) await setTime(this.#host(path), mtime);
    }
  }

  #host(path: ImagePath): HostPath {
    return joinHost(this.#root, path);
  }

  /** `path` with all symlinks before its last part resolved; folders that are missing on the way are made. */
  async #place(path: ImagePath): Promise<ImagePath> {
    const at = await this.#find(path, { make: true });
    if (at === undefined) throw new Error(`no place for ${path}, though folders were to be made`);
    return at;
  }

  /** Does `work` on what `path` means, unless a folder on the way is missing: then there is nothing to do it on. */
  async #ifThere(path: ImagePath, work: (at: ImagePath) => Promise<void>): Promise<void> {
    const at = await this.#find(path, { make: false });
    if (at !== undefined) await work(at);
  }

  async #find(path: ImagePath, how: { readonly make: boolean }): Promise<ImagePath | undefined> {
    if (path === ROOT_PATH) return path;
    const last = baseName(path);
    if (last === '' || last === '.' || last === '..') throw errno('EINVAL');
    const folder = await this.#resolveFolder(parentPath(path), how);
    return folder === undefined ? undefined : joinPath(folder, last);
  }

  async #resolveFolder(
    path: ImagePath,
    { make }: { readonly make: boolean },
  ): Promise<ImagePath | undefined> {
    const known = this.#resolved.get(path);
    if (known !== undefined) return known;
    let todo = path === '' ? [] : path.split('/');
    let at = ROOT_PATH;
    let links = 0;
    for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        at = parentPath(at);
        continue;
      }
      const next = joinPath(at, part);
      const stat = await lstatIfThere(this.#host(next));
      if (stat === undefined) {
        if (!make) return undefined;
        await this.#makeMissing(next);
      } else if (stat.isSymbolicLink()) {
        links += 1;
        if (links > MAX_SYMLINKS) throw errno('ELOOP');
        const target = decodePath(await readlink(fsPath(this.#host(next)), 'buffer'));
        if (target.startsWith('/')) at = ROOT_PATH;
        todo = [...target.split('/'), ...todo];
        continue;
      } else if (!stat.isDirectory()) {
        if (!make) return undefined;
        throw errno('ENOTDIR');
      }
      at = next;
    }
    this.#resolved.set(path, at);
    return at;
  }

  async #makeMissing(at: ImagePath): Promise<void> {
    await mkdir(fsPath(this.#host(at)));
    await chmod(fsPath(this.#host(at)), 0o755);
    this.#made.add(at);
  }

  async #makeFolder(path: ImagePath, attributes: Attributes): Promise<void> {
    const at = await this.#place(path);
    const stat = await lstatIfThere(this.#host(at));
    if (stat?.isDirectory() === true) this.#kept.add(this.#host(at));
    else {
      if (stat !== undefined) await this.#remove(at);
      await mkdir(fsPath(this.#host(at)));
    }
    await this.#give(at, attributes);
    this.#folders.delete(at);
    this.#folders.set(at, attributes);
  }

  async #ensureFolder(path: ImagePath, attributes: Attributes): Promise<void> {
    const at = await this.#place(path);
    if ((await lstatIfThere(this.#host(at))) === undefined) await this.#makeFolder(at, attributes);
  }

  async #makeFile({ path, attributes, content }: Extract<TreeOp, { op: 'file' }>): Promise<void> {
    const at = await this.#clearedPlace(path);
    await writeContent(this.#host(at), content);
    await this.#give(at, attributes);
  }

  async #makeNode({ path, attributes, type, device }: NodeOp): Promise<void> {
    if (type === 'socket') {
      throw new MachineError('tree-io', `a socket cannot be made without the native program: ${path}`);
    }
    const at = await this.#clearedPlace(path);
    const numbers = type === 'fifo' ? [] : [String(device.major), String(device.minor)];
    await makeNode([this.#host(at), NODE_LETTERS[type], ...numbers]);
    await this.#give(at, attributes);
  }

  /** A place where nothing lies any more. */
  async #clearedPlace(path: ImagePath): Promise<ImagePath> {
    const at = await this.#place(path);
    if (at === ROOT_PATH) throw errno('EISDIR');
    if ((await lstatIfThere(this.#host(at))) !== undefined) await this.#remove(at);
    return at;
  }

  async #remove(at: ImagePath): Promise<void> {
    if (at === ROOT_PATH) throw errno('EBUSY');
    await rm(fsPath(this.#host(at)), { recursive: true, force: true });
    this.#forget(at);
  }

  #forget(at: ImagePath): void {
    const isBelow = (path: string) => path === at || path.startsWith(`${at}/`);
    this.#resolved.clear();
    for (const path of this.#made) if (isBelow(path)) this.#made.delete(path);
    for (const path of this.#folders.keys()) if (isBelow(path)) this.#folders.delete(path);
    const host = this.#host(at);
    for (const file of this.#xattrs.keys()) {
      if (file === host || file.startsWith(`${host}/`)) this.#xattrs.delete(file);
    }
  }

  /** Removes what this tree did not make; a folder stays where something that was made lies in it. */
  async #clear(at: ImagePath): Promise<void> {
    const stat = await lstatIfThere(this.#host(at));
    if (stat?.isDirectory() !== true) return;
    for (const bytes of await readdir(fsPath(this.#host(at)), { encoding: 'buffer' })) {
      const child = joinPath(at, decodePath(bytes));
      const holdsMade = [...this.#made].some((path) => path.startsWith(`${child}/`));
      if (holdsMade) await this.#clear(child);
      else if (!this.#made.has(child)) await this.#remove(child);
      else await this.#clear(child);
    }
  }

  /** Owner before mode, since a change of owner takes set-id bits away (chown(2)). */
  async #give(at: ImagePath, attributes: Attributes): Promise<void> {
    const host = this.#host(at);
    this.#made.add(at);
    await lchown(fsPath(host), attributes.uid, attributes.gid);
    const stat = await lstat(fsPath(host));
    if (!stat.isSymbolicLink()) await chmod(fsPath(host), attributes.mode);
    if (attributes.xattrs !== undefined) this.#xattrs.set(host, attributes.xattrs);
    if (attributes.mtime !== undefined) await setTime(host, attributes.mtime);
  }
}

async function lstatIfThere(path: HostPath) {
  try {
    return await lstat(fsPath(path));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Node takes seconds as a double: of the nanoseconds, the last two or three digits are lost. */
async function setTime(path: HostPath, { sec, nsec }: NonNullable<Attributes['mtime']>): Promise<void> {
  const seconds = sec + nsec / 1e9;
  await lutimes(fsPath(path), seconds, seconds);
}

async function writeContent(path: HostPath, content: FileContent): Promise<void> {
  await using file = await open(fsPath(path), 'wx');
  let size = 0;
  for await (const chunk of chunksOf(content)) {
    await writeSparse(file, chunk, size);
    size += chunk.byteLength;
  }
  if (content.kind === 'stream' && size !== content.size) {
    throw new MachineError('tree-io', `${size} bytes came for a file of ${content.size}: ${path}`);
  }
  await file.truncate(size);
}

async function* chunksOf(content: FileContent): AsyncGenerator<Uint8Array> {
  if (content.kind === 'bytes') yield content.bytes;
  else if (content.kind === 'stream') yield* content.chunks;
  else {
    const source = await open(fsPath(content.path), constants.O_RDONLY | constants.O_NOFOLLOW);
    yield* source.createReadStream({ highWaterMark: 256 * 1024 });
  }
}

/** Leaves out pieces of zeros, so that they become holes. */
async function writeSparse(file: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  let from = 0;
  for (let at = 0; at <= chunk.byteLength; at += PIECE) {
    const piece = chunk.subarray(at, at + PIECE);
    const isHole = piece.byteLength === PIECE && ZEROS.equals(piece);
    if (!isHole && at + PIECE < chunk.byteLength) continue;
    const end = isHole ? at : chunk.byteLength;
    while (from < end) from += (await file.write(chunk, from, end - from, position + from)).bytesWritten;
    from = at + PIECE;
  }
}

/** mknod(1): Node has no such call. */
async function makeNode(args: readonly string[]): Promise<void> {
  const child = spawn('mknod', ['--', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const log: Buffer[] = [];
  child.stderr.on('data', (chunk: Buffer) => log.push(chunk));
  const [code]: unknown[] = await once(child, 'close');
  if (code !== 0) throw new MachineError('tree-io', `mknod failed: ${Buffer.concat(log).toString().trim()}`);
}

/** An error as the kernel would give it. */
function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** An error of the file system as the contract of TreeOps has it; others as they are. */
export function treeError(error: unknown, path: string): unknown {
  const code = errnoOf(error);
  if (code === undefined) return error;
  if (hasNoRoom(error)) {
    const hint = 'free some space, or let `varve cache prune` do it';
    return new MachineError('disk-full', `no space for ${path}: ${code}`, { hint, cause: error });
  }
  return new MachineError('tree-io', `cannot change ${path}: ${code}`, { cause: error });
}
