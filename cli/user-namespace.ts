import { readFileSync } from 'node:fs';

const ALL_IDS = 4_294_967_295;

/** The mapping of this process's ids: inside, outside, how many (user_namespaces(7)). */
function firstRange(): readonly number[] {
  try {
    const [line = ''] = readFileSync('/proc/self/uid_map', 'utf8').split('\n');
    return line.trim().split(/\s+/).map(Number);
  } catch {
    return [0, 0, ALL_IDS];
  }
}

/** Whether root here is not the machine's root. */
export function isInUserNamespace(): boolean {
  const [inside, outside, count] = firstRange();
  return inside !== 0 || outside !== 0 || count !== ALL_IDS;
}

/** The user that this process works for: where `bin/varve` made it root of a user namespace, the one who called. */
export function callingUser(): number {
  const [, outside = 0] = firstRange();
  const uid = process.getuid?.() ?? 0;
  return uid === 0 ? outside : uid;
}
