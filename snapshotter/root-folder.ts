import { chmodSync, chownSync, utimesSync } from 'node:fs';
import { type Entry, type HostPath, ROOT_PATH, type TreeOps } from '../core/index.ts';

/**
 * The root folder of an empty snapshot: 0755, fixed time, and the owner that the machine's own files have: 0:0 where
 * varve runs as root, else the user whom a user namespace shows as 0:0.
 */
export function emptyRoot(): Entry {
  return {
    path: ROOT_PATH,
    type: 'dir',
    mode: 0o755,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    size: 0,
    mtime: { sec: 0, nsec: 0 },
  };
}

/** Gives a folder of this machine, which has no extended attributes but those, all attributes of `entry`. */
export async function giveAttributes(tree: TreeOps, folder: HostPath, entry: Entry): Promise<void> {
  const { mode, uid, gid, mtime, xattrs } = entry;
  if (xattrs === undefined && mtime.nsec === 0) {
    // The usual case needs nothing that Node cannot do, and saves a process.
    chownSync(folder, uid, gid);
    chmodSync(folder, mode);
    utimesSync(folder, mtime.sec, mtime.sec);
    return;
  }
  const attributes = { mode, uid, gid, mtime, ...(xattrs === undefined ? {} : { xattrs }) };
  await tree.apply({ type: 'directory', path: folder, readonly: false }, [
    { op: 'dir', path: ROOT_PATH, attributes },
  ]);
}

/** Whether two root folders differ in more than their time: every step that makes a name in `/` moves that. */
export function rootChanged(before: Entry, after: Entry): boolean {
  if (before.mode !== after.mode || before.uid !== after.uid || before.gid !== after.gid) return true;
  return !sameXattrs(before, after);
}

export function sameXattrs(a: Entry, b: Entry): boolean {
  const left = Object.entries(a.xattrs ?? {});
  const right = b.xattrs ?? {};
  if (left.length !== Object.keys(right).length) return false;
  return left.every(([name, value]) => {
    const other = right[name];
    return other !== undefined && Buffer.compare(value, other) === 0;
  });
}
