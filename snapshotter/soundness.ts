import { readFileSync } from 'node:fs';
import { lstat, writeFile } from 'node:fs/promises';
import {
  type Change,
  changePath,
  type DiffFiles,
  type DiffId,
  type HostPath,
  hasNoRoom,
  type ImagePath,
  joinHost,
  type TreeOps,
} from '../core/index.ts';
import { type Manifest, sameChanges } from './manifest.ts';
import { patched } from './patch.ts';
import { ignoreAbsent, readNow } from './store-folders.ts';

/**
 * Whether a diff is as it was committed. Nothing is forced to the disk at a commit; instead the first use after a restart of the machine
 * looks at all of it, once: a power cut leaves files short, without what was written into them, or missing.
 */

/** In the place of a boot id: the diff was looked at after a restart, so all of it is on the disk. */
const CHECKED = 'checked';

export interface Judges {
  readonly tree: Pick<TreeOps, 'scanDiff'>;
  readonly userXattrs: boolean;
  /** Whether these files still make the layer of this digest. Absent: their content is taken on trust. */
  readonly makesLayer?: ((diffId: DiffId, files: DiffFiles) => Promise<boolean>) | undefined;
}

export interface Suspect {
  /** The diff's folder. */
  readonly home: HostPath;
  /** Of its layer; undefined where the layer came from elsewhere, as a tar that its files do not make again. */
  readonly diffId: DiffId | undefined;
  readonly manifest: Manifest;
  /** Of a patch: the folder of its original. */
  readonly original?: HostPath | undefined;
}

/** Was the diff in `home` made, or looked at, since the machine's last start, `boot`? Where the mark is lost, it was not. */
export function wasChecked(home: HostPath, boot: string): boolean {
  const mark = readNow(() => readFileSync(joinHost(home, 'boot'), 'utf8'));
  return mark === CHECKED || mark === boot;
}

/** Compares a diff's files with its manifest, and their content with the layer's digest. One that fits is marked. */
export async function check(suspect: Suspect, judges: Judges): Promise<boolean> {
  const { home, diffId, manifest, original } = suspect;
  const { makesLayer } = judges;
  const { changes, own = new Set<ImagePath>() } = manifest;
  const folder = joinHost(home, 'fs');
  const found = await scan(folder, judges);
  if (found === undefined) return false;
  if (original === undefined) {
    if (!sameChanges(changes, found)) return false;
  } else {
    const isOwn = (change: Change) => own.has(changePath(change));
    const below = await scan(original, judges);
    if (below === undefined || !sameChanges(changes.filter(isOwn), found)) return false;
    if (!sameChanges(changes, patched(below, found))) return false;
  }
  const files =
    original === undefined ? { changes, folder } : { changes, folder, original: { folder: original, own } };
  if (diffId !== undefined && makesLayer !== undefined && !(await makesLayer(diffId, files))) return false;
  try {
    await writeFile(joinHost(home, 'boot'), CHECKED);
  } catch (error) {
    // Without room the mark is short, and the diff is looked at again.
    if (!hasNoRoom(error)) throw error;
  }
  return true;
}

async function scan(folder: HostPath, { tree, userXattrs }: Judges): Promise<readonly Change[] | undefined> {
  if ((await lstat(folder).catch(ignoreAbsent)) === undefined) return undefined;
  return tree.scanDiff(folder, { userXattrs });
}
