import {
  type IdRange,
  MachineError,
  type Mount,
  type SandboxIo,
  type SandboxSpec,
  ULIMITS,
  unreachable,
} from '../core/index.ts';
import { WireWriter, writeRootMount } from './native-wire.ts';

/** What was settled on the host for one sandbox, beside its spec. */
export interface HostSide {
  /** In the order in which they are mounted, the spec's own among them. */
  readonly mounts: readonly Mount[];
  /** `cgroup.procs` files of version 1 that the sandbox joins. */
  readonly cgroupProcs: readonly string[];
  /** Folder of cgroup version 2 in which the sandbox is started. */
  readonly unifiedCgroup?: string | undefined;
  /** How device nodes are kept from being opened: a filter on `unifiedCgroup`, mount option `nodev` on the root, or elsewhere. */
  readonly devices: 'filter' | 'nodev' | 'elsewhere';
  /** The program that gives the sandbox's own network a way out, with its arguments; absent: none. */
  readonly networkHelper?: readonly string[] | undefined;
  /** Files and folders that the supervisor removes, in this order, should varve die. */
  readonly leftovers: readonly string[];
}

const IO_TAGS = { pipe: 'P', terminal: 'T', inherit: 'I' } as const;
/** `MODE_OF_PLACE` of `sandbox_spec.h`. */
const MODE_OF_PLACE = 0xffffffff;

/** The spec in the form that `runner/native/sandbox_spec.h` states. */
export function encodeSandbox(spec: SandboxSpec, io: SandboxIo, host: HostSide): Buffer {
  const out = new WireWriter();
  writeRootMount(out, spec.root);
  out.flag(spec.readonlyRoot);
  out.u32(host.mounts.length);
  for (const mount of host.mounts) writeMount(out, mount);
  out.texts(spec.args);
  out.texts(spec.env);
  out.text(spec.cwd);
  out.u32(spec.user.uid);
  out.u32(spec.user.gid);
  out.u32(spec.user.additionalGids.length);
  for (const gid of spec.user.additionalGids) out.u32(gid);
  const { uids = [], gids = [] } = spec.userNamespace ?? {};
  out.text(idMap(uids));
  out.text(idMap(gids));
  out.u32(spec.userNamespace === undefined ? spec.user.uid : outsideId(spec.user.uid, uids));
  out.text(spec.hostname);
  out.flag(spec.network === 'none' || host.networkHelper !== undefined);
  out.texts(host.networkHelper ?? []);
  out.i64(spec.shmSizeBytes);
  out.flag(spec.security === 'default');
  out.flag(spec.noNewPrivileges);
  const { ulimits = [] } = spec;
  out.u32(ulimits.length);
  for (const { name, soft, hard } of ulimits) {
    out.u32(ULIMITS[name]);
    out.i64(soft);
    out.i64(hard);
  }
  const { devices = [] } = spec;
  out.u32(devices.length);
  for (const { type, major, minor } of devices) {
    out.tag(type === 'char' ? 'c' : 'b');
    out.u32(major);
    out.u32(minor);
  }
  out.tag(IO_TAGS[io.mode]);
  out.flag(io.stdin !== undefined);
  out.flag(host.devices === 'nodev');
  out.flag(host.devices === 'filter');
  out.text(host.unifiedCgroup ?? '');
  out.texts(host.cgroupProcs);
  out.texts(host.leftovers);
  out.flag(spec.tellChanges === true);
  return out.take();
}

/** The lines of `/proc/PID/uid_map` (user_namespaces(7)). */
function idMap(ranges: readonly IdRange[]): string {
  return ranges.map(({ inside, outside, count }) => `${inside} ${outside} ${count}\n`).join('');
}

/** @throws MachineError `sandbox-setup` where the id is not in the map. */
function outsideId(id: number, ranges: readonly IdRange[]): number {
  const range = ranges.find(({ inside, count }) => id >= inside && id < inside + count);
  if (range === undefined) {
    throw new MachineError('sandbox-setup', `user ${id} is not in the map of the user namespace`);
  }
  return range.outside + id - range.inside;
}

function writeMount(out: WireWriter, mount: Mount): void {
  switch (mount.type) {
    case 'bind':
      out.tag('B');
      out.text(mount.target);
      out.text(mount.source);
      out.flag(mount.readonly);
      return;
    case 'tmpfs':
      out.tag('T');
      out.text(mount.target);
      out.i64(mount.sizeBytes ?? 0);
      out.u32(mount.mode ?? MODE_OF_PLACE);
      out.flag(mount.readonly ?? false);
      out.flag(mount.devices ?? false);
      return;
    case 'tree':
      out.tag('R');
      out.text(mount.target);
      writeRootMount(out, mount.root);
      out.text(mount.source ?? '');
      out.flag(mount.readonly);
      return;
    case 'file':
      out.tag('F');
      out.text(mount.target);
      out.bytes(mount.content);
      out.u32(mount.mode);
      out.u32(mount.uid);
      out.u32(mount.gid);
      return;
    default:
      unreachable(mount);
  }
}
