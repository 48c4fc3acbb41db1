import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import {
  err,
  fsPath,
  type ImagePath,
  imagePath,
  MachineError,
  ok,
  type Result,
  resolvePath,
  type Tree,
  type UserIds,
} from '../core/index.ts';

interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface Group {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/** A user as the image's files know it. */
export interface ImageUser extends UserIds {
  readonly home: string;
}

const MAX_ID = 2 ** 31 - 1;
/** Up to this size a file is read in this thread: to have another one do so takes longer, and every RUN waits for it. */
const SMALL_FILE_BYTES = 64 * 1024;
/** Files of accounts larger than this are refused: they are read whole. */
const MAX_ACCOUNT_FILE_BYTES = 16 * 1024 * 1024;

/**
 * Looks up `USER`'s `name|uid[:group|gid]` in the image's /etc/passwd and /etc/group, as Docker does: a number needs no entry;
 * a name does. The empty text is root. Additional groups are the user's own, as in
 * every container, and those that list the user, unless a group is given.
 *
 * @returns the ids, or a message.
 */
export async function lookUpUser(tree: Tree, text: string): Promise<Result<ImageUser, string>> {
  const [userPart = '', groupPart] = text.split(':');
  const accounts = await readAccounts(tree);
  const groups = await readGroups(tree);
  const wanted = userPart === '' ? '0' : userPart;
  const id = numericId(wanted);
  const account =
    accounts.find((entry) => entry.name === wanted) ?? accounts.find((entry) => entry.uid === id);
  if (account === undefined && id === undefined) {
    return err(`unable to find user ${wanted}: no matching entries in passwd file`);
  }
  const uid = account?.uid ?? id ?? 0;
  const home = account?.home ?? '/';
  if (groupPart !== undefined && groupPart !== '') {
    const gid = groupId(groups, groupPart);
    if (gid === undefined) return err(`unable to find group ${groupPart}: no matching entries in group file`);
    return ok({ uid, gid, additionalGids: [gid], home });
  }
  const gid = account?.gid ?? 0;
  const additionalGids = groups
    .filter((group) => account !== undefined && group.members.includes(account.name))
    .map((group) => group.gid);
  return ok({ uid, gid, additionalGids: [...new Set([gid, ...additionalGids])], home });
}

/**
 * Ids for `--chown=user[:group]`: as {@link lookUpUser}, and a user without a group owns with the group of the same number.
 * `root` is 0 without any entry, as in BuildKit.
 */
export async function lookUpOwner(
  tree: Tree,
  text: string,
): Promise<Result<{ uid: number; gid: number }, string>> {
  const colon = text.indexOf(':');
  const parts = colon === -1 ? [text] : [text.slice(0, colon), text.slice(colon + 1)];
  const [userPart = '', groupPart] = parts.map((part) => (part === 'root' ? '0' : part));
  const id = numericId(userPart);
  const named = groupPart === undefined || groupPart === '' ? (userPart === '' ? '0' : userPart) : groupPart;
  const accounts = id === undefined && userPart !== '' ? await readAccounts(tree) : [];
  const account = accounts.find((entry) => entry.name === userPart);
  if (userPart !== '' && id === undefined && account === undefined) {
    return err(`unable to convert uid/gid chown string to host mapping: can't find uid for user ${userPart}`);
  }
  const uid = id ?? account?.uid ?? 0;
  const groupGiven = groupPart !== undefined && groupPart !== '';
  if (!groupGiven && account !== undefined) return ok({ uid, gid: account.gid });
  const gid = numericId(named) ?? groupId(await readGroups(tree), named);
  if (gid === undefined)
    return err(`unable to convert uid/gid chown string to host mapping: can't find gid for group ${named}`);
  return ok({ uid, gid });
}

function groupId(groups: readonly Group[], name: string): number | undefined {
  return groups.find((group) => group.name === name)?.gid ?? numericId(name);
}

function numericId(text: string): number | undefined {
  if (!/^[0-9]+$/.test(text)) return undefined;
  const id = Number(text);
  return id <= MAX_ID ? id : undefined;
}

async function readAccounts(tree: Tree): Promise<readonly Account[]> {
  const lines = await readLines(tree, imagePath('etc/passwd'));
  return lines.flatMap(([name = '', , uid = '', gid = '', , home = '/']) => {
    const ids = { uid: numericId(uid), gid: numericId(gid) };
    if (name === '' || ids.uid === undefined || ids.gid === undefined) return [];
    return [{ name, uid: ids.uid, gid: ids.gid, home }];
  });
}

async function readGroups(tree: Tree): Promise<readonly Group[]> {
  const lines = await readLines(tree, imagePath('etc/group'));
  return lines.flatMap(([name = '', , gid = '', members = '']) => {
    const id = numericId(gid);
    if (name === '' || id === undefined) return [];
    return [{ name, gid: id, members: members.split(',').filter((member) => member !== '') }];
  });
}

async function readLines(tree: Tree, name: ImagePath): Promise<readonly (readonly string[])[]> {
  const found = await resolvePath(tree, name, { followLast: true });
  if (found?.entry?.type !== 'file') return [];
  if (found.entry.size > MAX_ACCOUNT_FILE_BYTES) {
    throw new MachineError('account-file-too-large', `/${name} of the image has ${found.entry.size} bytes`, {
      hint: 'Use a numeric user, or a base image with an ordinary passwd file.',
    });
  }
  const path = fsPath(await tree.hostPath(found.path));
  const text =
    found.entry.size > SMALL_FILE_BYTES ? await readFile(path, 'utf8') : readFileSync(path, 'utf8');
  return text.split('\n').map((line) => line.trim().split(':'));
}
