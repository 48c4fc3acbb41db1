import { type Mount, type SandboxHook, type SandboxSpec, unreachable } from '../core/index.ts';
import {
  ALLOWED_CALLS,
  DEFAULT_CAPABILITIES,
  MASKED_PATHS,
  NAMESPACE_FLAGS,
  PERSONALITIES,
  READONLY_PATHS,
} from './docker-defaults.ts';

/** What lies on the host for {@link toOciConfig}: everything is mounted already, so the bundle only binds. */
export interface OciBundle {
  /** Where the root is mounted. */
  readonly rootPath: string;
  /** The spec's own mounts and those of /etc, in order; `tree` mounts are found under `treePaths`. */
  readonly mounts: readonly Mount[];
  /** Where the tree mount with this target is mounted. */
  readonly treePaths: ReadonlyMap<string, string>;
  readonly cgroupsPath: string;
  readonly architecture: 'x64' | 'arm64';
  /** This process's bounding set: nobody can be given more. */
  readonly ownCapabilities: readonly string[];
}

/** A value of config.json. */
/** RLIM_INFINITY less what a number of JSON cannot hold: no limit that a process could reach. */
const UNLIMITED = Number.MAX_SAFE_INTEGER;

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/**
 * The same sandbox as the configuration of an OCI runtime (runtime-spec 1.0.2, config.md and config-linux.md). Pure.
 *
 * It differs from the native program's sandbox in this: the program itself is process 1, so signals that it does not handle
 * do nothing, and calls that the runtime's libseccomp has never heard of stay refused.
 */
export function toOciConfig(spec: SandboxSpec, bundle: OciBundle): Json {
  const secure = spec.security === 'default';
  return {
    ociVersion: '1.0.2',
    root: { path: bundle.rootPath, readonly: spec.readonlyRoot },
    hostname: spec.hostname,
    process: {
      terminal: false,
      user: {
        uid: spec.user.uid,
        gid: spec.user.gid,
        additionalGids: spec.user.additionalGids,
        umask: 0o022,
      },
      args: spec.args,
      env: spec.env,
      cwd: `/${spec.cwd}`,
      noNewPrivileges: spec.noNewPrivileges,
      ...rlimits(spec),
      capabilities: capabilities(spec, bundle),
    },
    ...hooks(spec),
    mounts: [...kernelMounts(spec), ...bundle.mounts.map((mount) => mountOf(mount, bundle.treePaths))],
    linux: {
      cgroupsPath: bundle.cgroupsPath,
      namespaces: namespaces(spec),
      resources: resources(spec),
      maskedPaths: secure ? MASKED_PATHS : [],
      readonlyPaths: secure ? READONLY_PATHS : [],
      ...(secure ? { seccomp: seccomp(bundle.architecture) } : {}),
    },
  };
}

function hooks({ hooks = [] }: SandboxSpec): { readonly [key: string]: Json } {
  if (hooks.length === 0) return {};
  const stages = Map.groupBy(hooks, ({ stage }) => stage);
  const json = ({ path, args, env, timeoutSeconds }: SandboxHook): Json => ({
    path,
    args,
    env,
    ...(timeoutSeconds === undefined ? {} : { timeout: timeoutSeconds }),
  });
  return { hooks: Object.fromEntries([...stages].map(([stage, all]) => [stage, all.map(json)])) };
}

/** As Docker: only root has them in force, everybody is bounded by them. */
function capabilities(spec: SandboxSpec, bundle: OciBundle): Json {
  const bounding = spec.security === 'default' ? DEFAULT_CAPABILITIES : bundle.ownCapabilities;
  const inForce = spec.user.uid === 0 ? bounding : [];
  return { bounding, permitted: inForce, effective: inForce, inheritable: [], ambient: [] };
}

function namespaces(spec: SandboxSpec): Json {
  const types = ['mount', 'pid', 'ipc', 'uts', 'cgroup', ...(spec.network === 'none' ? ['network'] : [])];
  return types.map((type) => ({ type }));
}

function kernelMounts(spec: SandboxSpec): readonly Json[] {
  const quiet = ['nosuid', 'noexec', 'nodev'];
  const mount = (destination: string, type: string, options: readonly string[]): Json => ({
    destination,
    type,
    source: type,
    options,
  });
  const sys = spec.security === 'default' ? 'ro' : 'rw';
  return [
    mount('/proc', 'proc', quiet),
    mount('/dev', 'tmpfs', ['nosuid', 'strictatime', 'mode=755', 'size=65536k']),
    mount('/dev/pts', 'devpts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']),
    mount('/dev/shm', 'tmpfs', [...quiet, 'mode=1777', `size=${spec.shmSizeBytes}`]),
    mount('/dev/mqueue', 'mqueue', quiet),
    mount('/sys', 'sysfs', [...quiet, sys]),
    mount('/sys/fs/cgroup', 'cgroup', [...quiet, 'relatime', 'ro']),
  ];
}

function mountOf(mount: Mount, treePaths: ReadonlyMap<string, string>): Json {
  const destination = `/${mount.target}`;
  switch (mount.type) {
    case 'bind':
      return { destination, type: 'bind', source: mount.source, options: bindOptions(mount.readonly) };
    case 'tree':
      return {
        destination,
        type: 'bind',
        source: [
          treePaths.get(mount.target) ?? '',
          ...(mount.source === undefined ? [] : [mount.source]),
        ].join('/'),
        options: bindOptions(mount.readonly),
      };
    case 'tmpfs': {
      const size = mount.sizeBytes === undefined ? [] : [`size=${mount.sizeBytes}`];
      // Without one the runtime takes that of the folder.
      const mode = mount.mode === undefined ? [] : [`mode=${mount.mode.toString(8)}`];
      const ro = mount.readonly === true ? ['ro'] : [];
      const nodev = mount.devices === true ? [] : ['nodev'];
      return {
        destination,
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['nosuid', ...nodev, ...mode, ...size, ...ro],
      };
    }
    case 'file':
      throw new Error('a file in memory is not for an OCI runtime');
    default:
      return unreachable(mount);
  }
}

function rlimits({ ulimits = [] }: SandboxSpec): { readonly [key: string]: Json } {
  if (ulimits.length === 0) return {};
  const number = (value: number): Json => (value === -1 ? UNLIMITED : value);
  return {
    rlimits: ulimits.map(({ name, soft, hard }) => ({
      type: `RLIMIT_${name.toUpperCase()}`,
      soft: number(soft),
      hard: number(hard),
    })),
  };
}

function bindOptions(readonly: boolean): readonly string[] {
  return ['rbind', 'rprivate', readonly ? 'ro' : 'rw'];
}

function resources(spec: SandboxSpec): Json {
  const { memoryBytes, memorySwapBytes, cpus, cpuShares, cpusetCpus, cpusetMems, pids } = spec.limits;
  const { cpuQuotaUs, cpuPeriodUs } = spec.limits;
  const swap = memorySwapBytes ?? (memoryBytes === undefined ? undefined : memoryBytes * 2);
  const node = (major: number, minor: number): Json => ({
    allow: true,
    type: 'c',
    major,
    minor,
    access: 'rwm',
  });
  const devices: readonly Json[] = [
    { allow: false, access: 'rwm' },
    { allow: true, type: 'c', access: 'm' },
    { allow: true, type: 'b', access: 'm' },
    ...[3, 5, 7, 8, 9].map((minor) => node(1, minor)),
    ...[0, 1, 2].map((minor) => node(5, minor)),
    ...(spec.devices ?? []).map(
      ({ type, major, minor }): Json => ({
        allow: true,
        type: type === 'char' ? 'c' : 'b',
        major,
        minor,
        access: 'rwm',
      }),
    ),
  ];
  return {
    devices: spec.security === 'default' ? devices : [{ allow: true, access: 'rwm' }],
    memory: {
      ...(memoryBytes === undefined ? {} : { limit: memoryBytes }),
      ...(swap === undefined ? {} : { swap }),
    },
    cpu: {
      ...(cpus === undefined ? {} : { quota: Math.round(cpus * 100_000), period: 100_000 }),
      ...(cpuQuotaUs === undefined ? {} : { quota: cpuQuotaUs }),
      ...(cpuPeriodUs === undefined ? {} : { period: cpuPeriodUs }),
      ...(cpuShares === undefined ? {} : { shares: cpuShares }),
      ...(cpusetCpus === undefined ? {} : { cpus: cpusetCpus }),
      ...(cpusetMems === undefined ? {} : { mems: cpusetMems }),
    },
    ...(pids === undefined ? {} : { pids: { limit: pids } }),
  };
}

/** Docker's policy (moby/profiles); see seccomp.c for what it means. */
function seccomp(architecture: OciBundle['architecture']): Json {
  const EPERM = 1;
  const ENOSYS = 38;
  const allow = (names: readonly string[], args: readonly Json[] = []): Json => ({
    names,
    action: 'SCMP_ACT_ALLOW',
    ...(args.length === 0 ? {} : { args }),
  });
  const first = (op: string, value: number, valueTwo = 0): Json => ({ index: 0, op, value, valueTwo });
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures:
      architecture === 'arm64'
        ? ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']
        : ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: [
      allow(ALLOWED_CALLS),
      ...PERSONALITIES.map((value) => allow(['personality'], [first('SCMP_CMP_EQ', value)])),
      // Every address family but AF_ALG (38) and AF_VSOCK (40).
      allow(['socket'], [first('SCMP_CMP_LT', 38)]),
      allow(['socket'], [first('SCMP_CMP_EQ', 39)]),
      allow(['socket'], [first('SCMP_CMP_GT', 40)]),
      allow(['clone'], [first('SCMP_CMP_MASKED_EQ', NAMESPACE_FLAGS)]),
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    ],
  };
}
