import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fsync as fsyncCallback,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { errnoOf, type HostPath, hasNoRoom, MachineError } from '../core/index.ts';

/**
 * What a failed system call means to the person: `disk-full` for ENOSPC and EDQUOT, `store-io` for any other errno;
 * errors that come from no system call are given back as they are.
 */
export function diskError(error: unknown, doing: string): unknown {
  const errno = errnoOf(error);
  if (errno === undefined) return error;
  if (hasNoRoom(error)) {
    return new MachineError('disk-full', `no space left on the disk while ${doing}`, {
      hint: 'free some space, for instance with `varve cache prune`, or choose another folder with --root',
      cause: error,
    });
  }
  const reason = error instanceof Error ? error.message : errno;
  return new MachineError('store-io', `${doing}: ${reason}`, { cause: error });
}

const fsync = promisify(fsyncCallback);

/** Makes the names in `folder` survive a power cut (fsync(2): the entry in the folder needs its own sync). */
export async function syncFolder(folder: string): Promise<void> {
  const descriptor = openSync(folder, 'r');
  try {
    await fsync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Makes `file`, which nobody has yet, with few bytes in it that survive a power cut. Only the sync, which waits for the disk, is left to
 * another thread: to hand the other calls over takes longer than they do.
 */
export async function writeSmall(file: string, bytes: string | Uint8Array, mode = 0o644): Promise<void> {
  const descriptor = openSync(file, 'wx', mode);
  try {
    writeFileSync(descriptor, bytes);
    await fsync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Whether `file` holds these bytes; what cannot be read does not. */
function holds(file: string, bytes: string | Uint8Array): boolean {
  try {
    return readFileSync(file).equals(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
  } catch {
    return false;
  }
}

/** A name beside final names that no other process and no other call takes. */
export function temporaryName(): string {
  return `tmp-${process.pid}-${randomUUID()}`;
}

/** The process that made a {@link temporaryName}; undefined for other names. */
export function writerOf(name: string): number | undefined {
  const pid = /^tmp-([0-9]+)-/.exec(name)?.[1];
  return pid === undefined ? undefined : Number(pid);
}

/** Removes what {@link writeWhole} left in `folder` where its process died. */
export async function sweepTemporary(folder: HostPath, isAlive: (pid: number) => boolean): Promise<void> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw diskError(error, `reading the folder ${folder}`);
  });
  for (const name of names) {
    const pid = name.startsWith('.') ? writerOf(name.slice(1)) : undefined;
    if (pid !== undefined && !isAlive(pid)) await rm(`${folder}/${name}`, { force: true });
  }
}

/**
 * Replaces `file`, which is small, as a whole: another process sees the old bytes or the new ones. `mode` is kept from the first byte on.
 */
export async function writeWhole(file: HostPath, bytes: string | Uint8Array, mode = 0o644): Promise<void> {
  const folder = dirname(file);
  const temporary = `${folder}/.${temporaryName()}`;
  try {
    mkdirSync(folder, { recursive: true });
    await writeSmall(temporary, bytes, mode);
    renameSync(temporary, file);
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { force: true });
    throw diskError(error, `writing ${file}`);
  }
}

/** As {@link writeWhole}; a file that holds the same already stays. It was synced before it had its name, which may not be yet. */
export async function keepWhole(file: HostPath, bytes: string | Uint8Array): Promise<void> {
  if (!holds(file, bytes)) return writeWhole(file, bytes);
  try {
    await syncFolder(dirname(file));
  } catch (error) {
    throw diskError(error, `writing ${file}`);
  }
}
