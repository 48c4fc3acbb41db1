import type { Change } from './entry.ts';
import type { Mount, RootMount } from './mount.ts';
import type { TraceReport } from './observation.ts';
import type { ImagePath } from './path.ts';

/** A plain description of one process in a sandbox; everything the native program does follows from it. */
export interface SandboxSpec {
  readonly root: RootMount;
  /** The root is remounted read-only (`--read-only`); mounts below it keep their own mode. */
  readonly readonlyRoot: boolean;
  readonly mounts: readonly Mount[];
  /** Program and arguments; a program without a slash is looked up in the sandbox's PATH. */
  readonly args: readonly string[];
  /** `NAME=value` in order; the process sees nothing else. */
  readonly env: readonly string[];
  /** Made (0755, 0:0) where it does not exist. */
  readonly cwd: ImagePath;
  readonly user: UserIds;
  readonly hostname: string;
  /** `host`: the machine's own network; `none`: loopback only; `default`: what the runner was made with, else the machine's own. */
  readonly network: 'default' | 'host' | 'none';
  /** Lines of /etc/hosts beside the usual ones, `name` and address. */
  readonly extraHosts: readonly { readonly name: string; readonly address: string }[];
  readonly limits: ResourceLimits;
  readonly shmSizeBytes: number;
  /** Resource limits of the process (setrlimit(2)); others are varve's own. */
  readonly ulimits?: readonly Ulimit[];
  /** Devices of the machine that may be opened beside the usual ones, wherever their nodes lie. */
  readonly devices?: readonly DeviceRule[];
  /** Programs of the machine that take part in the set-up; only an OCI runtime starts them. */
  readonly hooks?: readonly SandboxHook[];
  /** The cgroup below which the sandbox's own is made, from the root of the hierarchies; absent: varve's own. */
  readonly cgroupParent?: string;
  /** The environment holds what may lie on no disk. */
  readonly hasSecretEnvironment?: boolean;
  /** `default`: Docker's capabilities, seccomp policy, masked and read-only paths. `insecure`: none of these. */
  readonly security: 'default' | 'insecure';
  /** setuid programs gain nothing; off by default, as in Docker. */
  readonly noNewPrivileges: boolean;
  /**
   * The program gets a user namespace of its own (user_namespaces(7)): its ids are those of `user` inside, and mean the ids that the
   * maps give them outside, where files are. It has no power over anything that was set up before. Absent: none.
   */
  readonly userNamespace?: UserNamespace;
  /** Names the cgroup and the sandbox in messages: letters, digits, `-`. */
  readonly id: string;
  /** `SandboxEnd` shall have the changes of the root, if it can. */
  readonly tellChanges?: boolean;
}

/** Maps of ids; every id that `user` names must be in them. */
export interface UserNamespace {
  readonly uids: readonly IdRange[];
  readonly gids: readonly IdRange[];
}

/** `count` ids from `inside` on stand for those from `outside` on. */
export interface IdRange {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
}

/** Absent: no limit. */
export interface ResourceLimits {
  readonly memoryBytes?: number;
  /** Memory and swap together, as Docker's `--memory-swap`; -1: unlimited swap. */
  readonly memorySwapBytes?: number;
  /** Whole and part CPUs: 1.5. */
  readonly cpus?: number;
  readonly cpuShares?: number;
  /** Microseconds that the sandbox may use CPUs in each `cpuPeriodUs`; instead of `cpus`. */
  readonly cpuQuotaUs?: number;
  readonly cpuPeriodUs?: number;
  /** `0-1,3`. */
  readonly cpusetCpus?: string;
  /** Memory nodes, as `cpusetCpus`. */
  readonly cpusetMems?: string;
  readonly pids?: number;
}

/** Docker's names of resource limits, with their numbers in setrlimit(2). */
export const ULIMITS = {
  cpu: 0,
  fsize: 1,
  data: 2,
  stack: 3,
  core: 4,
  rss: 5,
  nproc: 6,
  nofile: 7,
  memlock: 8,
  as: 9,
  locks: 10,
  sigpending: 11,
  msgqueue: 12,
  nice: 13,
  rtprio: 14,
  rttime: 15,
} as const;

export interface DeviceRule {
  readonly type: 'char' | 'block';
  readonly major: number;
  readonly minor: number;
}

/** When a hook is started (OCI runtime-spec, config.md, "POSIX-platform Hooks"). */
export type HookStage =
  | 'prestart'
  | 'createRuntime'
  | 'createContainer'
  | 'startContainer'
  | 'poststart'
  | 'poststop';

export interface SandboxHook {
  readonly stage: HookStage;
  /** On the machine; of `startContainer` in the sandbox. */
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly timeoutSeconds?: number;
}

/** -1: unlimited. */
export interface Ulimit {
  readonly name: keyof typeof ULIMITS;
  readonly soft: number;
  readonly hard: number;
}

/** How a sandboxed process ended. */
export type SandboxOutcome =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'signaled'; readonly signal: NodeJS.Signals; readonly signalNumber: number }
  /** Killed by the memory limit. */
  | { readonly kind: 'out-of-memory' }
  /** The program could not be started: 126 not executable, 127 not found, with the kernel's reason. */
  | { readonly kind: 'not-started'; readonly code: 126 | 127; readonly message: string }
  | { readonly kind: 'timed-out' }
  | { readonly kind: 'cancelled' };

export interface SandboxIo {
  /** `inherit`: the caller's own descriptors (for `run`); `terminal`: a new pseudo-terminal; `pipe`: chunks to `onOutput`. */
  readonly mode: 'inherit' | 'terminal' | 'pipe';
  /** Bytes for standard input in `pipe` and `terminal` mode; absent: /dev/null. */
  readonly stdin?: AsyncIterable<Uint8Array>;
  /** Called for every chunk, in order per stream, before the outcome is known. In `terminal` mode all is `stdout`. */
  readonly onOutput?: (stream: 'stdout' | 'stderr', chunk: Uint8Array) => void;
}

/** All that is to be told of a sandbox: known when no process of it is left and its output was delivered. */
export interface SandboxEnd {
  readonly outcome: SandboxOutcome;
  readonly trace: TraceReport | undefined;
  /** Absent: nothing is told. */
  readonly mountTraces?: ReadonlyMap<string, TraceReport>;
  /** What lies in the upper folder of the root, as `TreeOps.scanDiff` tells it; absent where it was not asked for, or is much. */
  readonly changes?: readonly Change[] | undefined;
}

/** A started sandbox. Ends with its whole process tree when the process ends, on `kill`, on abort, or when varve dies. */
export interface SandboxProcess {
  /** Settles when nothing of the sandbox is left: no process, no mount, no file on the machine. */
  readonly outcome: Promise<SandboxOutcome>;
  /** Settles earlier than the outcome, with which mounts may then still be on their way out. Absent: all is told with the outcome. */
  readonly end?: Promise<SandboxEnd>;
  /** What was read of a root with `traced` diffs; settles with the outcome. Undefined where the spec traces nothing. */
  readonly trace: Promise<TraceReport | undefined>;
  /** What was read of mounted trees with `traced` diffs, by their targets; settles with the outcome. Absent: nothing is told. */
  readonly mountTraces?: Promise<ReadonlyMap<string, TraceReport>>;
  signal(signal: NodeJS.Signals): void;
  /** Tells the pseudo-terminal its size; no effect in other modes. */
  resize(size: { readonly columns: number; readonly rows: number }): void;
}

export interface Runner {
  /**
   * Starts the process that `spec` describes. Rejects with `MachineError` (`sandbox-setup`, `limit-unsupported`, `no-sandbox`)
   * when the sandbox cannot be set up; a program that cannot be started is an outcome.
   */
  start(
    spec: SandboxSpec,
    io: SandboxIo,
    options?: { readonly signal?: AbortSignal; readonly timeoutMs?: number },
  ): Promise<SandboxProcess>;
}

/** `0` is the root user; used wherever nothing else is said. */
export const ROOT_USER: UserIds = { uid: 0, gid: 0, additionalGids: [0] };

/** Docker's default size of /dev/shm. */
export const DEFAULT_SHM_BYTES = 64 * 1024 * 1024;
