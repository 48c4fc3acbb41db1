import type { BigIntStats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import {
  type Change,
  comparePaths,
  decodePath,
  deviceOf,
  type Entry,
  fileTypeOf,
  fsPath,
  type HostPath,
  type ImagePath,
  joinHost,
  joinPath,
  ROOT_PATH,
  timeOf,
} from '../core/index.ts';
import { readXattrs } from './xattr-tools.ts';

/** Every entry of a folder in path order, the folder itself first, on one file system. */
export async function scanEntries(folder: HostPath): Promise<Entry[]> {
  const xattrs = await readXattrs(folder);
  const root = await lstat(fsPath(folder), { bigint: true });
  const found: { readonly path: ImagePath; readonly stat: BigIntStats }[] = [{ path: ROOT_PATH, stat: root }];
  const todo: ImagePath[] = [ROOT_PATH];
  for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
    for (const name of await readdir(fsPath(joinHost(folder, at)), { encoding: 'buffer' })) {
      const path = joinPath(at, decodePath(name));
      const stat = await lstat(fsPath(joinHost(folder, path)), { bigint: true });
      found.push({ path, stat });
      if (stat.isDirectory() && stat.dev === root.dev) todo.push(path);
    }
  }
  found.sort((a, b) => comparePaths(a.path, b.path));
  const first = new Map<string, ImagePath>();
  const entries: Entry[] = [];
  for (const { path, stat } of found) {
    const file = joinHost(folder, path);
    const link = stat.isSymbolicLink() ? decodePath(await readlink(fsPath(file), 'buffer')) : undefined;
    const entry = entryOf(path, stat, { linkTarget: link, xattrs: xattrs.get(file) });
    const inode = `${stat.dev}:${stat.ino}`;
    const hardlinkTo = stat.isDirectory() || stat.nlink === 1n ? undefined : first.get(inode);
    if (hardlinkTo === undefined) first.set(inode, path);
    entries.push(hardlinkTo === undefined ? entry : { ...entry, hardlinkTo });
  }
  return entries;
}

function entryOf(
  path: ImagePath,
  stat: BigIntStats,
  more: { readonly linkTarget: string | undefined; readonly xattrs: Record<string, Uint8Array> | undefined },
): Entry {
  const type = fileTypeOf(stat);
  return {
    path,
    type,
    mode: Number(stat.mode & 0o7777n),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: type === 'file' ? Number(stat.size) : 0,
    mtime: timeOf(stat.mtimeNs),
    ...(more.linkTarget === undefined ? {} : { linkTarget: more.linkTarget }),
    ...(type === 'char' || type === 'block' ? { device: deviceOf(stat.rdev) } : {}),
    ...(more.xattrs === undefined ? {} : { xattrs: more.xattrs }),
  };
}

/** Entries of a folder in OverlayFS form, read as changes (the kernel's overlayfs.rst, "whiteouts and opaque directories"). */
export function changesOf(
  entries: readonly Entry[],
  { userXattrs }: { readonly userXattrs: boolean },
): Change[] {
  const prefix = userXattrs ? 'user.overlay.' : 'trusted.overlay.';
  const changes: Change[] = [];
  for (const entry of entries) {
    const { device, path } = entry;
    if (entry.type === 'char' && device?.major === 0 && device.minor === 0) {
      changes.push({ kind: 'whiteout', path });
      continue;
    }
    const { xattrs = {}, ...plain } = entry;
    const own = Object.entries(xattrs).filter(([name]) => !name.startsWith(prefix));
    const kept = own.length === 0 ? {} : { xattrs: Object.fromEntries(own) };
    changes.push({ kind: 'set', entry: { ...plain, ...kept } });
    if (Buffer.from(xattrs[`${prefix}opaque`] ?? []).toString() === 'y')
      changes.push({ kind: 'opaque', path });
  }
  return changes;
}
