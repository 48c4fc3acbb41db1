import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Controllers that varve uses, by the names of cgroups(7). */
export type Controller = 'memory' | 'cpu' | 'cpuset' | 'pids' | 'devices';

/** Where this machine keeps cgroups. A controller is in one place only: a version 1 hierarchy, or version 2. */
export interface CgroupHost {
  /** Version 1: the folder of this process's own cgroup in the controller's hierarchy. */
  readonly v1: ReadonlyMap<Controller, string>;
  /** Version 2: where it is mounted, and what it controls there. */
  readonly v2: { readonly folder: string; readonly controllers: ReadonlySet<string> } | undefined;
}

const CONTROLLERS: readonly Controller[] = ['memory', 'cpu', 'cpuset', 'pids', 'devices'];

interface CgroupMount {
  readonly root: string;
  readonly point: string;
  readonly type: string;
  readonly options: readonly string[];
}

/**
 * Reads `/proc/self/mountinfo` and `/proc/self/cgroup` (proc(5), cgroups(7)).
 *
 * @param read gives the text of a file; tests give texts of other machines.
 */
export function findCgroups(
  read: (path: string) => string = (path) => readFileSync(path, 'utf8'),
): CgroupHost {
  const mounts = read('/proc/self/mountinfo').split('\n').flatMap(parseMount);
  const own = ownCgroups(read('/proc/self/cgroup'));
  const v1 = new Map<Controller, string>();
  for (const controller of CONTROLLERS) {
    const mount = mounts.find(({ type, options }) => type === 'cgroup' && options.includes(controller));
    const path = own.get(controller);
    if (mount !== undefined && path !== undefined) v1.set(controller, folderOf(mount, path));
  }
  const unified = mounts.find(({ type }) => type === 'cgroup2');
  if (unified === undefined) return { v1, v2: undefined };
  const controllers = read(join(unified.point, 'cgroup.controllers')).trim().split(' ');
  return { v1, v2: { folder: unified.point, controllers: new Set(controllers) } };
}

/** `36 35 98:0 /root /point rw - type source options`, with optional fields before the dash. */
function parseMount(line: string): CgroupMount[] {
  const [before = '', after] = line.split(' - ');
  if (after === undefined) return [];
  const [, , , root = '', point = ''] = before.split(' ');
  const [type = '', , options = ''] = after.split(' ');
  return [{ root: unescapeOctal(root), point: unescapeOctal(point), type, options: options.split(',') }];
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** `4:memory:/path`, several controllers with commas between them. */
function ownCgroups(text: string): ReadonlyMap<string, string> {
  const own = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, controllers = '', ...path] = line.split(':');
    for (const controller of controllers.split(',')) own.set(controller, path.join(':'));
  }
  return own;
}

/** A path that the mount does not show (another cgroup namespace's) gives way to the mount's root. */
function folderOf(mount: CgroupMount, path: string): string {
  if (path === mount.root || path.startsWith('/..')) return mount.point;
  if (mount.root === '/') return join(mount.point, path);
  return path.startsWith(`${mount.root}/`) ? join(mount.point, path.slice(mount.root.length)) : mount.point;
}
