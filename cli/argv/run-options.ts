import { resolve } from 'node:path';
import {
  DEFAULT_SHM_BYTES,
  type HostPath,
  imagePath,
  type Mount,
  parseReference,
  UsageError,
} from '../../core/index.ts';
import type { RunRequest } from '../engine-contract.ts';
import { type Environment, readEnvFile, readVariables } from './pairs.ts';
import type { RUN_SPEC } from './run-spec.ts';
import {
  cgroupParentOf,
  extraHost,
  limitsOf,
  NO_NEW_PRIVILEGES,
  noNewPrivilegesOf,
  ulimitsOf,
} from './sandbox-options.ts';
import { parseSize } from './size.ts';
import type { FlagValues } from './spec.ts';

/** The arguments of `varve run`. */
export interface RunOptions {
  readonly flags: FlagValues<(typeof RUN_SPEC)['flags']>;
  readonly image: string;
  /** Replaces the image's CMD where it is not empty. */
  readonly command: readonly string[];
}

export interface RunSurroundings {
  readonly cwd: string;
  readonly env: Environment;
  /** Text of each `--env-file`, in order of the flags. */
  readonly envFiles: readonly string[];
}

/** @throws UsageError where flags do not go together or hold values that mean nothing. */
export function toRunRequest(options: RunOptions, around: RunSurroundings): RunRequest {
  const { flags } = options;
  if (!isImageName(options.image))
    throw new UsageError(`invalid image name ${JSON.stringify(options.image)}`);
  const fromFiles = flags['env-file'].flatMap((file, index) =>
    readEnvFile(around.envFiles[index] ?? '', file, around.env),
  );
  const name = flags.name;
  const platform = flags.platform ?? around.env['DOCKER_DEFAULT_PLATFORM'];
  const cgroupParent = cgroupParentOf(flags['cgroup-parent']);
  if (name !== undefined && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) {
    throw new UsageError(
      `invalid container name ${JSON.stringify(name)}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  }
  return {
    image: options.image,
    ...(platform === undefined || platform === '' ? {} : { platform }),
    pull: flags.pull === 'always' || flags.pull === 'never' ? flags.pull : 'missing',
    command: options.command,
    ...(flags.entrypoint === undefined ? {} : { entrypoint: flags.entrypoint }),
    env: [...fromFiles, ...readVariables(flags.env, '--env', around.env)],
    ...(flags.workdir === undefined ? {} : { workdir: absolute(flags.workdir) }),
    ...(flags.user === undefined ? {} : { user: flags.user }),
    ...(name === undefined ? {} : { name }),
    ...(flags.hostname === undefined ? {} : { hostname: hostname(flags.hostname) }),
    mounts: [
      ...flags.volume.map((text) => bindMount(text, around.cwd)),
      ...flags.tmpfs.map((text) => tmpfsMount(text)),
    ],
    network: flags.network === 'host' || flags.network === 'none' ? flags.network : 'default',
    extraHosts: flags['add-host'].map(extraHost),
    limits: limitsOf(flags, { cpus: flags.cpus, pids: flags['pids-limit'] }),
    ulimits: ulimitsOf(flags.ulimit),
    ...(cgroupParent === undefined ? {} : { cgroupParent }),
    readonlyRoot: flags['read-only'],
    noNewPrivileges: noNewPrivileges(flags['security-opt']),
    // 0 means the default, as with Docker.
    shmSizeBytes: flags['shm-size'] || DEFAULT_SHM_BYTES,
    tty: flags.tty,
    interactive: flags.interactive,
  };
}

function isImageName(text: string): boolean {
  return parseReference(text).ok || /^(?:sha256:)?[0-9a-f]{4,64}$/.test(text);
}

function absolute(path: string): string {
  if (path.startsWith('/')) return path;
  throw new UsageError(`--workdir: ${JSON.stringify(path)} must be an absolute path`);
}

function hostname(name: string): string {
  if (name.length <= 64 && /^[a-zA-Z0-9][a-zA-Z0-9.-]*$/.test(name)) return name;
  throw new UsageError(`invalid hostname ${JSON.stringify(name)}`);
}

/** `host:container[:options]`; only folders and files of this machine, no volumes kept by name. */
function bindMount(text: string, cwd: string): Mount {
  const parts = text.split(':');
  const [source, target, options, more] = parts;
  if (source === undefined || target === undefined || more !== undefined) {
    throw new UsageError(`invalid volume ${JSON.stringify(text)}`, 'Write HOST-PATH:CONTAINER-PATH[:ro].');
  }
  if (!target.startsWith('/') || target === '/') {
    throw new UsageError(
      `--volume: the path in the container, ${JSON.stringify(target)}, must be absolute and not "/"`,
    );
  }
  if (!source.startsWith('/') && !source.startsWith('.')) {
    throw new UsageError(
      `--volume: ${JSON.stringify(source)} names a volume: varve does not support named volumes yet`,
      'Give a folder of this machine: an absolute path, or one that begins with "./".',
    );
  }
  let readonly = false;
  for (const option of (options ?? '').split(',').filter((word) => word !== '')) {
    if (option === 'ro' || option === 'readonly') readonly = true;
    else if (!['rw', 'z', 'Z', 'rprivate', 'private'].includes(option)) {
      throw new UsageError(`--volume: the option ${JSON.stringify(option)} is not supported`);
    }
  }
  return { type: 'bind', source: resolve(cwd, source) as HostPath, target: imagePath(target), readonly };
}

function tmpfsMount(text: string): Mount {
  const [target = '', options = ''] = text.split(/:(.*)/s);
  if (!target.startsWith('/') || target === '/') {
    throw new UsageError(`--tmpfs: ${JSON.stringify(target)} must be an absolute path and not "/"`);
  }
  let sizeBytes: number | undefined;
  let mode: number | undefined;
  for (const option of options.split(',').filter((word) => word !== '')) {
    const [key, value = ''] = option.split(/=(.*)/s);
    if (key === 'size') sizeBytes = parseSize(value, '--tmpfs size');
    else if (key === 'mode' && /^[0-7]{3,4}$/.test(value)) mode = Number.parseInt(value, 8);
    else if (!['rw', 'nosuid', 'nodev'].includes(option)) {
      throw new UsageError(`--tmpfs: the option ${JSON.stringify(option)} is not supported`);
    }
  }
  return {
    type: 'tmpfs',
    target: imagePath(target),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(mode === undefined ? {} : { mode }),
  };
}

function noNewPrivileges(options: readonly string[]): boolean {
  const other = options.find((option) => !NO_NEW_PRIVILEGES.includes(option));
  if (other !== undefined)
    throw new UsageError(`--security-opt: ${JSON.stringify(other)} is not supported yet`);
  return noNewPrivilegesOf(options);
}
