import { readFileSync } from 'node:fs';

const ALL_IDS = 4_294_967_295;

/** The mapping of this process's ids, range by range: inside, outside, how many (user_namespaces(7)). */
function ranges(): readonly (readonly number[])[] {
  try {
    const lines = readFileSync('/proc/self/uid_map', 'utf8').trim().split('\n');
    return lines.map((line) => line.trim().split(/\s+/).map(Number));
  } catch {
    return [[0, 0, ALL_IDS]];
  }
}

function firstRange(): readonly number[] {
  return ranges()[0] ?? [];
}

/** Whether root here is not the machine's root. */
export function isInUserNamespace(): boolean {
  const [inside, outside, count] = firstRange();
  return inside !== 0 || outside !== 0 || count !== ALL_IDS;
}

/** Whether the one id that there is, is the caller's: no file and no process can then have another. */
export function hasOneId(): boolean {
  return ranges().reduce((all, [, , count = 0]) => all + count, 0) === 1;
}

/** The user that this process works for: where `bin/varve` made it root of a user namespace, the one who called. */
export function callingUser(): number {
  const [, outside = 0] = firstRange();
  const uid = process.getuid?.() ?? 0;
  return uid === 0 ? outside : uid;
}
