import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  type DeviceRule,
  errnoOf,
  fsPath,
  type HostPath,
  imagePath,
  MachineError,
  type Mount,
} from '../core/index.ts';

/** What a device asks for in a sandbox. */
export interface DeviceEdits {
  /** `NAME=value`. */
  readonly env: readonly string[];
  readonly mounts: readonly Mount[];
  readonly rules: readonly DeviceRule[];
}

/** A device of a CDI specification: `vendor.com/class=name`. */
export interface CdiDevice {
  readonly name: string;
  /** The class that an annotation gives it; BuildKit's word for asking for any device of a kind. */
  readonly className?: string;
  readonly edits: DeviceEdits;
}

/** Where specifications lie; a device of the later folder wins (CDI specification, "CDI JSON Specification"). */
export const CDI_FOLDERS: readonly string[] = ['/etc/cdi', '/var/run/cdi'];

const CLASS_ANNOTATION = 'org.mobyproject.buildkit.device.class';

/**
 * Reads the devices that this machine describes (Container Device Interface), in JSON or YAML. Hooks are not run: a specification that asks for
 * them is refused.
 *
 * @throws MachineError `cdi-unreadable` for a specification that cannot be read.
 */
export async function readDevices(folders: readonly string[] = CDI_FOLDERS): Promise<readonly CdiDevice[]> {
  const devices = new Map<string, CdiDevice>();
  for (const folder of folders) {
    for (const name of specificationsIn(folder)) {
      for (const device of await readSpecification(join(folder, name))) devices.set(device.name, device);
    }
  }
  return [...devices.values()];
}

/**
 * The devices that a name means, as BuildKit takes it: `vendor/class=name`; `vendor/class`, the first one; `vendor/class=*`, all; or the class
 * of an annotation. Empty where there is none.
 */
export function devicesNamed(name: string, devices: readonly CdiDevice[]): readonly CdiDevice[] {
  const [kind = '', wanted = ''] = name.split('=');
  const ofKind = devices.filter((device) => device.name.startsWith(`${kind}=`));
  if (ofKind.length === 0) return devices.filter(({ className }) => className === name);
  if (wanted === '*') return ofKind;
  return wanted === '' ? ofKind.slice(0, 1) : ofKind.filter((device) => device.name === name);
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

async function readSpecification(path: string): Promise<readonly CdiDevice[]> {
  let specification: unknown;
  try {
    const text = readFileSync(path, 'utf8');
    // Loaded only where a machine has such files.
    specification = path.endsWith('.json') ? JSON.parse(text) : (await import('yaml')).parse(text);
  } catch (cause) {
    throw unreadable(
      path,
      cause instanceof Error ? cause.message : 'unknown error',
      'Repair the file, or remove it.',
    );
  }
  const { kind, devices, containerEdits } = fieldsOf(specification);
  if (typeof kind !== 'string' || !/^[\w.-]+\/[\w.-]+$/.test(kind))
    throw unreadable(path, 'its kind is no vendor/class', 'Repair the file, or remove it.');
  const common = editsOf(containerEdits, path);
  return listOf(devices).map((one) => {
    const device = fieldsOf(one);
    const own = editsOf(device['containerEdits'], path);
    const className = fieldsOf(device['annotations'])[CLASS_ANNOTATION];
    return {
      name: `${kind}=${String(device['name'])}`,
      ...(typeof className === 'string' ? { className } : {}),
      edits: {
        env: [...common.env, ...own.env],
        mounts: [...common.mounts, ...own.mounts],
        rules: [...common.rules, ...own.rules],
      },
    };
  });
}

function editsOf(value: unknown, path: string): DeviceEdits {
  const edits = fieldsOf(value);
  if (listOf(edits['hooks']).length > 0) {
    throw unreadable(
      path,
      'it asks for hooks, which varve does not run',
      'Take them out of the specification.',
    );
  }
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
