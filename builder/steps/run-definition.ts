import type { Action, Canonical } from '../../cache/index.ts';
import { imagePath, type NetworkMode, type Platform, unreachable } from '../../core/index.ts';
import { formatPlatform } from '../../image/index.ts';
import type { RunMount, RunStep } from '../graph.ts';

/** What of a RUN can change its result, and so is part of its action. */
export type RunFields = Pick<
  RunStep,
  | 'platform'
  | 'hostname'
  | 'args'
  | 'script'
  | 'environment'
  | 'user'
  | 'workdir'
  | 'network'
  | 'mounts'
  | 'security'
  | 'devices'
  | 'limits'
>;

export function runDefinition(step: RunFields): Action['definition'] {
  return {
    command: step.args,
    script: step.script === undefined ? undefined : { ...step.script },
    environment: { ...step.environment },
    user: step.user,
    workdir: step.workdir,
    network: step.network,
    mounts: step.mounts.map(mountDefinition),
    security: step.security === 'insecure' ? step.security : undefined,
    devices: step.devices.length === 0 ? undefined : step.devices.map(({ name }) => name),
    limits: limitsDefinition(step.limits),
    platform: formatPlatform(step.platform),
    hostname: step.hostname,
  };
}

/** A mount without its place in the Dockerfile; whose files it takes is said by the step's inputs. */
function mountDefinition(mount: RunMount): Canonical {
  switch (mount.type) {
    case 'tmpfs':
      // The version of how one is made.
      return { ...mount, like: 'place' };
    case 'bind': {
      const { type, target, source, readonly } = mount;
      return { type, target, source, readonly };
    }
    case 'cache': {
      const { range: _range, from: _from, ...words } = mount;
      return words;
    }
    case 'secret':
    case 'ssh': {
      const { range: _range, ...words } = mount;
      return words;
    }
    default:
      return unreachable(mount);
  }
}

/** What a command can see of the command line's words: all but the cgroup that its own lies in. Absent where nothing was said. */
function limitsDefinition({ cgroupParent: _, ...limits }: RunFields['limits']): Canonical | undefined {
  const { extraHosts, ulimits, resources, shmSizeBytes, noNewPrivileges } = limits;
  const said = {
    extraHosts: extraHosts?.map((host) => ({ ...host })),
    ulimits: ulimits?.map((limit) => ({ ...limit })),
    resources: resources === undefined ? undefined : { ...resources },
    shmSizeBytes,
    noNewPrivileges,
  };
  return Object.values(said).some((value) => value !== undefined) ? said : undefined;
}

/** Does the step's definition say all that it needs to run again? Not where it took files, values or rights from outside. */
export function isSelfContained({ mounts, security, devices, limits }: Action['definition']): boolean {
  const isTmpfs = (mount: Canonical) => fieldsOf(mount)['type'] === 'tmpfs';
  return (
    security === undefined && devices === undefined && limits === undefined && listOf(mounts).every(isTmpfs)
  );
}

/**
 * Reads back what {@link runDefinition} wrote of a self-contained step. @throws Error for anything else: a record's digest vouches for
 * its definition.
 */
export function readRunDefinition(definition: Action['definition']): RunFields {
  const { command, script, environment, user, workdir, network, mounts, platform, hostname } = definition;
  return {
    platform: platformOf(textOf(platform)),
    ...(hostname === undefined ? {} : { hostname: textOf(hostname) }),
    args: listOf(command).map(textOf),
    ...(script === undefined
      ? {}
      : { script: { name: textOf(fieldsOf(script)['name']), text: textOf(fieldsOf(script)['text']) } }),
    environment: Object.fromEntries(
      Object.entries(fieldsOf(environment)).map(([name, value]) => [name, textOf(value)]),
    ),
    user: textOf(user),
    workdir: imagePath(textOf(workdir)),
    network: networkOf(network),
    mounts: listOf(mounts).map(mountOf),
    security: 'sandbox',
    devices: [],
    limits: {},
  };
}

function platformOf(text: string): Platform {
  const [os, architecture, variant] = text.split('/');
  if (os === undefined || architecture === undefined) return refuse(text);
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

type Field = Canonical | undefined;

function mountOf(field: Field): RunMount {
  const { type, target, sizeBytes, readonly } = fieldsOf(field);
  if (type !== 'tmpfs') return refuse(type);
  if (sizeBytes !== undefined && typeof sizeBytes !== 'number') return refuse(sizeBytes);
  return {
    type,
    target: imagePath(textOf(target)),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(readonly === true ? { readonly } : {}),
  };
}

function networkOf(field: Field): NetworkMode {
  return field === 'default' || field === 'none' || field === 'host' ? field : refuse(field);
}

function textOf(field: Field): string {
  return typeof field === 'string' ? field : refuse(field);
}

function listOf(field: Field): readonly Canonical[] {
  return Array.isArray(field) ? field : refuse(field);
}

function fieldsOf(field: Field): { readonly [name: string]: Field } {
  const isFields = typeof field === 'object' && field !== null && !Array.isArray(field);
  return isFields ? Object.fromEntries(Object.entries(field)) : refuse(field);
}

function refuse(field: Field): never {
  throw new Error(`not part of the definition of a RUN: ${JSON.stringify(field)}`);
}
