import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  type DeviceRule,
  errnoOf,
  fsPath,
  type HookStage,
  type HostPath,
  imagePath,
  MachineError,
  type Mount,
  type SandboxHook,
} from '../core/index.ts';

/** What a device asks for in a sandbox. */
export interface DeviceEdits {
  /** `NAME=value`. */
  readonly env: readonly string[];
  readonly mounts: readonly Mount[];
  readonly rules: readonly DeviceRule[];
  readonly hooks: readonly SandboxHook[];
  readonly additionalGids: readonly number[];
}

/** A device of a CDI specification: `vendor.com/class=name`. */
export interface CdiDevice {
  readonly name: string;
  /** The class that an annotation gives it; BuildKit's word for asking for any device of a kind. */
  readonly className?: string;
  /** An annotation lets every build have it. */
  readonly isForAll: boolean;
  /** The file that describes it. */
  readonly path: string;
  /** `containerEdits` of the specification and of the device, as written. */
  readonly written: readonly unknown[];
}

/** What this machine describes. */
export interface CdiDevices {
  /** By name. */
  readonly devices: readonly CdiDevice[];
  /** What is wrong with specifications that are left out. */
  readonly faults: readonly string[];
}

/** Where specifications lie; a device of a later folder wins (CDI specification, "CDI JSON Specification"; BuildKit, docs/cdi.md). */
export const CDI_FOLDERS: readonly string[] = ['/etc/cdi', '/var/run/cdi', '/etc/buildkit/cdi'];

const CLASS_ANNOTATION = 'org.mobyproject.buildkit.device.class';
const FOR_ALL_ANNOTATION = 'org.mobyproject.buildkit.device.autoallow';

const HOOK_STAGES: readonly HookStage[] = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
];

/** Reads the devices that this machine describes (Container Device Interface), in JSON or YAML. */
export async function readDevices(folders: readonly string[] = CDI_FOLDERS): Promise<CdiDevices> {
  const devices = new Map<string, CdiDevice>();
  const faults: string[] = [];
  for (const folder of folders) {
    for (const name of specificationsIn(folder)) {
      const path = join(folder, name);
      const read = await readSpecification(path);
      if (typeof read === 'string') faults.push(`${path}: ${read}`);
      else for (const device of read) devices.set(device.name, device);
    }
  }
  const byName = (a: CdiDevice, b: CdiDevice) => (a.name < b.name ? -1 : 1);
  return { devices: [...devices.values()].sort(byName), faults };
}

/**
 * The devices that a name means, as BuildKit takes it: `vendor/class=name`; `vendor/class`, the first one; `vendor/class=*`, all; else
 * those with the class of an annotation. Empty where there is none.
 */
export function devicesNamed(name: string, devices: readonly CdiDevice[]): readonly CdiDevice[] {
  const [kind = '', wanted = ''] = name.split('=');
  const ofKind = devices.filter((device) => kind.includes('/') && device.name.startsWith(`${kind}=`));
  const meant = wanted === '*' ? ofKind : ofKind.filter((device) => wanted === '' || device.name === name);
  if (meant.length === 0) return devices.filter(({ className }) => className === name);
  return wanted === '' ? meant.slice(0, 1) : meant;
}

/**
 * What a device asks for: what its specification asks for of all, then its own.
 *
 * @throws MachineError `cdi-unreadable` where that cannot be had here.
 */
export function editsOf({ written, path }: CdiDevice): DeviceEdits {
  const all = written.map((edits) => readEdits(fieldsOf(edits), path));
  return {
    env: all.flatMap(({ env }) => env),
    mounts: all.flatMap(({ mounts }) => mounts),
    rules: all.flatMap(({ rules }) => rules),
    hooks: all.flatMap(({ hooks }) => hooks),
    additionalGids: all.flatMap(({ additionalGids }) => additionalGids),
  };
}

function specificationsIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
      .filter((name) => /\.(?:json|ya?ml)$/.test(name))
      .sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** @returns its devices, or what is wrong with it */
async function readSpecification(path: string): Promise<readonly CdiDevice[] | string> {
  let specification: unknown;
  try {
    const text = readFileSync(path, 'utf8');
    // Loaded only where a machine has such files. Of a CommonJS package, a bundle has the default export alone.
    specification = path.endsWith('.json') ? JSON.parse(text) : (await import('yaml')).default.parse(text);
  } catch (cause) {
    return cause instanceof Error ? cause.message : 'unknown error';
  }
  const { kind, devices, containerEdits, annotations } = fieldsOf(specification);
  if (typeof kind !== 'string' || !/^[\w.-]+\/[\w.-]+$/.test(kind)) return 'its kind is no vendor/class';
  return listOf(devices).map((one) => {
    const device = fieldsOf(one);
    const notes = { ...fieldsOf(annotations), ...fieldsOf(device['annotations']) };
    const className = notes[CLASS_ANNOTATION];
    return {
      name: `${kind}=${String(device['name'])}`,
      ...(typeof className === 'string' ? { className } : {}),
      isForAll: /^(?:1|t|true)$/i.test(String(notes[FOR_ALL_ANNOTATION])),
      path,
      written: [containerEdits, device['containerEdits']],
    };
  });
}

function readEdits(edits: Fields, path: string): DeviceEdits {
  const nodes = listOf(edits['deviceNodes']).map((node) => nodeOf(fieldsOf(node), path));
  const mounts = listOf(edits['mounts']).map((mount): Mount => {
    const { hostPath, containerPath, options } = fieldsOf(mount);
    const readonly = listOf(options).includes('ro');
    return {
      type: 'bind',
      source: String(hostPath) as HostPath,
      target: imagePath(String(containerPath)),
      readonly,
    };
  });
  return {
    env: listOf(edits['env']).map(String),
    mounts: [...nodes.map(({ mount }) => mount), ...mounts],
    rules: nodes.map(({ rule }) => rule),
    hooks: listOf(edits['hooks']).map((hook) => hookOf(fieldsOf(hook), path)),
    // 0 means nothing, as in the CDI specification.
    additionalGids: listOf(edits['additionalGids'])
      .map(Number)
      .filter((gid) => gid > 0),
  };
}

function hookOf(hook: Fields, path: string): SandboxHook {
  const stage = HOOK_STAGES.find((one) => one === hook['hookName']);
  if (stage === undefined || typeof hook['path'] !== 'string') {
    const what = `${JSON.stringify(hook['hookName'] ?? null)} is no hook that an OCI runtime knows`;
    throw unreadable(path, what, 'Repair the file, or remove it.');
  }
  const timeout = Number(hook['timeout'] ?? 0);
  return {
    stage,
    path: hook['path'],
    args: listOf(hook['args']).map(String),
    env: listOf(hook['env']).map(String),
    ...(timeout > 0 ? { timeoutSeconds: timeout } : {}),
  };
}

/** A device's node is that of the machine itself, and so has its numbers, owner and mode. */
function nodeOf(node: Fields, path: string): { readonly mount: Mount; readonly rule: DeviceRule } {
  const target = String(node['path']);
  const source = String(node['hostPath'] ?? target) as HostPath;
  try {
    const found = statSync(fsPath(source));
    if (!found.isCharacterDevice() && !found.isBlockDevice())
      throw unreadable(path, `${source} is no device`, 'Look at the machine.');
    const type = found.isBlockDevice() ? 'block' : 'char';
    return {
      mount: { type: 'bind', source, target: imagePath(target), readonly: false },
      rule: { type, major: majorOf(found.rdev), minor: minorOf(found.rdev) },
    };
  } catch (cause) {
    if (cause instanceof MachineError) throw cause;
    throw unreadable(
      path,
      `the device ${source} is not there (${errnoOf(cause) ?? 'unknown error'})`,
      'Look at the machine.',
    );
  }
}

/** makedev(3) of glibc, for numbers that fit into 32 bits. */
function majorOf(device: number): number {
  return (device >>> 8) & 0xfff;
}

function minorOf(device: number): number {
  return (device & 0xff) | ((device >>> 12) & 0xfff00);
}

function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function unreadable(path: string, why: string, hint: string): MachineError {
  return new MachineError('cdi-unreadable', `the CDI specification ${path} cannot be used: ${why}`, { hint });
}
