import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type DeviceRule,
  errnoOf,
  type HostPath,
  imagePath,
  MachineError,
  type Mount,
  type ResourceLimits,
} from '../core/index.ts';
import { type CgroupHost, type Controller, findCgroups } from './cgroup-host.ts';
import { type LimitFile, limitFiles } from './cgroup-limits.ts';

/** The cgroups of one sandbox, one folder per hierarchy that it joins. */
export interface SandboxCgroup {
  /** Files by which a process joins hierarchies of version 1. */
  readonly procs: readonly string[];
  /** Folder of version 2 in which the sandbox's first process is born. */
  readonly unified: string | undefined;
  readonly folders: readonly string[];
  /** The sandbox's own cgroups as it sees them, read-only, at /sys/fs/cgroup. */
  readonly mounts: readonly Mount[];
  /**
   * Who keeps device nodes from being opened: a filter, still to be attached to `unified`; rules of version 1, in force; or
   * no cgroup at all.
   */
  readonly devices: 'filter' | 'rules' | 'nobody';
  /** Processes that the memory limit killed. */
  oomKills(): number;
  /** Removes the folders; no process may be left in them. */
  remove(): Promise<void>;
}

export interface CgroupRequest {
  readonly limits: ResourceLimits;
  /** Docker's device rules are wanted. */
  readonly deviceRules: boolean;
  /** Devices that may be opened beside the usual ones. */
  readonly devices?: readonly DeviceRule[];
  /** Below which folder of each hierarchy, from varve's own cgroup on; absent: varve's. Limits that it has hold for the sandbox. */
  readonly parent?: string;
  /** Ends the folder's name: letters, digits, `-`. */
  readonly id: string;
}

/** Makes cgroups below this process's own; see {@link createCgroups}. */
export interface Cgroups {
  /** @throws MachineError `limit-unsupported` where a limit cannot be kept; nothing is left behind then. */
  make(request: CgroupRequest): Promise<SandboxCgroup>;
}

/** The folder that holds all sandboxes of all varve processes of one hierarchy. */
const HOME = 'varve';

/** moby oci/defaults.go and runc's AllowedDevices: any node may be made, only these may be opened. Version 2: sandbox_devices.c. */
const DEVICE_RULES = [
  'c *:* m',
  'b *:* m',
  'c 1:3 rwm',
  'c 1:5 rwm',
  'c 1:7 rwm',
  'c 1:8 rwm',
  'c 1:9 rwm',
  'c 5:0 rwm',
  'c 5:2 rwm',
  'c 136:* rwm',
] as const;

const FOREIGN: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EROFS']);

const REMOVE_ATTEMPTS = 100;
const REMOVE_PAUSE_MS = 10;

/**
 * Finds the machine's cgroups at the first use, and then also removes what dead varve processes left in them.
 *
 * @param find tells where cgroups are.
 */
export function createCgroups(find: () => CgroupHost = findCgroups): Cgroups {
  let host: CgroupHost | undefined;
  let prefix = '';
  let count = 0;
  return {
    async make(request) {
      if (host === undefined) {
        host = find();
        prefix = ownPrefix();
        for (const home of homes(host)) sweep(home);
      }
      count += 1;
      return build(host, request, `${prefix}.${count}.${request.id}`);
    },
  };
}

function homes(host: CgroupHost): readonly string[] {
  const folders = [...host.v1.values(), ...(host.v2 === undefined ? [] : [host.v2.folder])];
  return [...new Set(folders)].map((folder) => join(folder, HOME));
}

/** Pid namespace, pid and start time: together they name this process for ever (until reboot). */
function ownPrefix(): string {
  return `${pidNamespace()}.${process.pid}.${startTime(process.pid) ?? 0}`;
}

function pidNamespace(): string {
  return readlinkSync('/proc/self/ns/pid').replace(/\D/g, '');
}

/** Field 22 of /proc/PID/stat (proc(5)); the second field may hold blanks and parentheses. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return undefined;
    throw error;
  }
}

/** Removes the folders of processes that are gone. One with processes in it (a supervisor is still busy), or another user's, stays. */
function sweep(home: string): void {
  for (const name of entriesOf(home)) {
    const [namespace, pid, start] = name.split('.');
    if (namespace !== pidNamespace() || startTime(Number(pid)) === start) continue;
    try {
      tryRemove(join(home, name));
    } catch (error) {
      if (!FOREIGN.has(errnoOf(error) ?? '')) throw error;
    }
  }
}

function entriesOf(folder: string): readonly string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** False while processes are in the folder. */
function tryRemove(folder: string): boolean {
  try {
    rmdirSync(folder);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return true;
    if (errnoOf(error) === 'EBUSY') return false;
    throw error;
  }
}

async function build(host: CgroupHost, request: CgroupRequest, name: string): Promise<SandboxCgroup> {
  const { parent } = request;
  const home = parent ?? HOME;
  const folderIn = (base: string | undefined) => (base === undefined ? undefined : join(base, home, name));
  const unified = folderIn(host.v2?.folder);
  const folderFor = (controller: Controller) =>
    versionOf(host, controller) === 2 ? unified : folderIn(host.v1.get(controller));
  const limits = limitFiles(request.limits, (controller) => versionOf(host, controller));
  const wanted = new Map<string, Controller[]>();
  for (const { controller, flag } of limits) {
    const folder = folderFor(controller);
    if (folder === undefined) throw unsupported(flag, `this machine has no ${controller} cgroup`);
    wanted.set(folder, [...(wanted.get(folder) ?? []), controller]);
  }
  // A parent of version 1 counts where somebody has made it: what it limits, it limits for its children.
  for (const [controller, base] of parent === undefined ? [] : host.v1) {
    const folder = join(base, home, name);
    if (isFolder(join(base, home)) && !wanted.has(folder)) wanted.set(folder, [controller]);
  }
  const made: string[] = [];
  try {
    for (const [folder, controllers] of wanted) make(host, { folder, home }, controllers, made);
    for (const limit of limits) writeLimit(folderFor(limit.controller) ?? '', limit);
    const inUnified = makeOptional(host, { folder: unified, home }, made);
    const devices =
      inUnified || !request.deviceRules
        ? 'filter'
        : ruleDevices(
            host,
            { folder: folderIn(host.v1.get('devices')), home },
            { made, further: request.devices ?? [] },
          );
    return cgroupOf(host, { made, home }, { devices, unified: inUnified ? unified : undefined });
  } catch (error) {
    await removeAll(made);
    throw error;
  }
}

function versionOf(host: CgroupHost, controller: Controller): 1 | 2 | undefined {
  if (host.v1.has(controller)) return 1;
  return host.v2?.controllers.has(controller) ? 2 : undefined;
}

function unsupported(flag: string, why: string, cause?: unknown): MachineError {
  return new MachineError('limit-unsupported', `${flag} cannot be kept: ${why}`, {
    hint: `run without ${flag}, or as root on a machine whose cgroups varve may change`,
    cause,
  });
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** A cgroup, and the part of its path that lies between the hierarchy's base and its name. */
interface Place<Folder extends string | undefined = string> {
  readonly folder: Folder;
  readonly home: string;
}

function make(
  host: CgroupHost,
  { folder, home }: Place,
  controllers: readonly Controller[],
  made: string[],
): void {
  try {
    if (host.v2 !== undefined && folder.startsWith(join(host.v2.folder, home)))
      enableUnified(host.v2.folder, home, controllers);
    mkdirSync(dirname(folder), { recursive: true });
    const cpusetBase = host.v1.get('cpuset');
    const isCpuset = cpusetBase !== undefined && join(cpusetBase, home) === dirname(folder);
    if (isCpuset) for (const above of waysTo(cpusetBase, home)) inheritCpuset(above);
    mkdirSync(folder);
    made.push(folder);
    if (isCpuset) inheritCpuset(folder);
  } catch (cause) {
    throw unsupported(
      'the limit',
      `no cgroup can be made for ${controllers.join(' and ')} (${errnoOf(cause) ?? 'error'})`,
      cause,
    );
  }
}

/** A cgroup that makes the sandbox tighter, but that no limit asks for, may be out of reach. True when it is there. */
function makeOptional(
  host: CgroupHost,
  { folder, home }: Place<string | undefined>,
  made: string[],
): boolean {
  if (folder === undefined) return false;
  try {
    if (!made.includes(folder)) make(host, { folder, home }, [], made);
    return true;
  } catch (error) {
    if (!(error instanceof MachineError)) throw error;
    return false;
  }
}

/** Version 2 hands a controller down only where each folder on the way says so (cgroups(7), "cgroup.subtree_control"). */
function enableUnified(root: string, home: string, controllers: readonly Controller[]): void {
  mkdirSync(join(root, home), { recursive: true });
  for (const folder of [root, ...waysTo(root, home)]) {
    const file = join(folder, 'cgroup.subtree_control');
    const enabled = new Set(readFileSync(file, 'utf8').trim().split(' '));
    const missing = controllers.filter((controller) => !enabled.has(controller));
    if (missing.length > 0) writeFileSync(file, missing.map((controller) => `+${controller}`).join(' '));
  }
}

/** The folders from below `base` down to `home`. */
function waysTo(base: string, home: string): readonly string[] {
  const parts = home.split('/');
  return parts.map((_part, at) => join(base, ...parts.slice(0, at + 1)));
}

/** A cpuset of version 1 starts without any CPU or memory node, and nothing can run in it (cpuset(7)). */
function inheritCpuset(folder: string): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (readFileSync(join(folder, file), 'utf8').trim() !== '') continue;
    writeFileSync(join(folder, file), readFileSync(join(dirname(folder), file), 'utf8').trim());
  }
}

function writeLimit(folder: string, limit: LimitFile): void {
  try {
    writeFileSync(join(folder, limit.file), limit.value);
  } catch (cause) {
    if (limit.optional && errnoOf(cause) === 'ENOENT') return;
    throw unsupported(
      limit.flag,
      `the kernel refuses ${limit.value} for ${limit.file} (${errnoOf(cause) ?? 'error'})`,
      cause,
    );
  }
}

/** Only where there is no version 2: to join a hierarchy of version 1 takes the kernel some 10 ms. */
function ruleDevices(
  host: CgroupHost,
  place: Place<string | undefined>,
  { made, further }: { readonly made: string[]; readonly further: readonly DeviceRule[] },
): 'rules' | 'nobody' {
  const { folder } = place;
  if (folder === undefined || !makeOptional(host, place, made)) return 'nobody';
  writeFileSync(join(folder, 'devices.deny'), 'a');
  const rules = further.map(
    ({ type, major, minor }) => `${type === 'char' ? 'c' : 'b'} ${major}:${minor} rwm`,
  );
  for (const rule of [...DEVICE_RULES, ...rules]) writeFileSync(join(folder, 'devices.allow'), rule);
  return 'rules';
}

function cgroupOf(
  host: CgroupHost,
  { made, home }: { readonly made: readonly string[]; readonly home: string },
  { devices, unified }: Pick<SandboxCgroup, 'devices' | 'unified'>,
): SandboxCgroup {
  return {
    procs: made.filter((folder) => folder !== unified).map((folder) => join(folder, 'cgroup.procs')),
    unified,
    folders: made,
    mounts: viewsOf(host, made, home),
    devices,
    oomKills: () => made.reduce((sum, folder) => sum + oomKillsIn(folder), 0),
    remove: () => removeAll(made),
  };
}

/** Version 2 alone fills /sys/fs/cgroup; hierarchies of version 1 get a folder each. */
function viewsOf(host: CgroupHost, made: readonly string[], home: string): readonly Mount[] {
  const place = imagePath('sys/fs/cgroup');
  const view = (source: string, name: string): Mount => ({
    type: 'bind',
    source: source as HostPath,
    target: imagePath(name, place),
    readonly: true,
  });
  const [first] = made;
  if (first === undefined) return [];
  if (host.v1.size === 0) return [view(first, '')];
  const names = new Map(
    [...host.v1].map(([controller, folder]) => [join(folder, home), controller] as const),
  );
  const views = made.map((folder) =>
    view(folder, names.get(dirname(folder)) ?? basename(dirname(dirname(folder)))),
  );
  return [{ type: 'tmpfs', target: place, mode: 0o755, sizeBytes: 64 * 1024 }, ...views];
}

/** `memory.oom_control` of version 1 and `memory.events` of version 2 both have a line `oom_kill N`. */
function oomKillsIn(folder: string): number {
  for (const file of ['memory.oom_control', 'memory.events']) {
    const path = join(folder, file);
    if (statSync(path, { throwIfNoEntry: false }) === undefined) continue;
    const line = /^oom_kill (\d+)$/m.exec(readFileSync(path, 'utf8'));
    return Number(line?.[1] ?? 0);
  }
  return 0;
}

/** The kernel lets go of a dead process's cgroup a moment after the process was reaped. */
async function removeAll(folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    let attempts = 0;
    while (!tryRemove(folder)) {
      attempts += 1;
      if (attempts === REMOVE_ATTEMPTS)
        throw new MachineError('sandbox-setup', `cannot remove the cgroup ${folder}`);
      await sleep(REMOVE_PAUSE_MS);
    }
  }
}
