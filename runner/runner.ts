import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import {
  MachineError,
  type Mount,
  type Runner,
  type SandboxEnd,
  type SandboxIo,
  type SandboxOutcome,
  type SandboxProcess,
  type SandboxSpec,
  type TraceReport,
} from '../core/index.ts';
import { type Cgroups, createCgroups, type SandboxCgroup } from './cgroup.ts';
import { type EtcFiles, writeEtcFiles } from './etc-files.ts';
import { GET_NATIVE, locateNative } from './native-program.ts';
import { type NativeEnding, startNativeSandbox } from './native-sandbox.ts';
import { NativeServer } from './native-server.ts';
import type { NetworkHelper } from './network-helper.ts';
import { startOciSandbox } from './oci-sandbox.ts';
import { encodeSandbox } from './sandbox-wire.ts';

export interface RunnerOptions {
  /** Path of the native program; absent: where the installation put it. */
  readonly nativeProgram?: string;
  /** A server of that program to share; absent: one of its own. */
  readonly native?: NativeServer;
  /** Where the small files of each sandbox are written. */
  readonly tempFolder: string;
  /** What network `default` is; absent: the machine's own. */
  readonly networkHelper?: NetworkHelper | undefined;
  /** Absent: /etc/resolv.conf. */
  readonly resolvConf?: string;
  /** Folders in which runc and crun are looked for where there is no native program. */
  readonly searchPath?: readonly string[];
}

type StartOptions = NonNullable<Parameters<Runner['start']>[2]>;

/** Sandboxes made by the native program; see `runner/native/sandbox.c` for what they promise. */
export function createRunner(options: RunnerOptions): Runner {
  const cgroups = createCgroups();
  const native = options.native ?? new NativeServer(() => locateNative(options.nativeProgram));
  let engine: Engine | undefined;
  return {
    async start(spec, io, startOptions = {}) {
      if (startOptions.signal?.aborted) return finished({ kind: 'cancelled' }, spec);
      engine ??= findEngine(options);
      const runtime =
        spec.hooks === undefined || spec.hooks.length === 0 ? undefined : runtimeForHooks(options);
      if (runtime !== undefined) return startOci(runtime, options, { spec, io, startOptions });
      if (engine.kind === 'oci') return startOci(engine.runtime, options, { spec, io, startOptions });
      const host = await prepareHost(spec, options, cgroups);
      try {
        return await startNative(native, host, { spec, io, startOptions });
      } catch (error) {
        await host.remove();
        throw error;
      }
    },
  };
}

/** @throws MachineError `no-sandbox` where nothing on this machine can make a sandbox. */
export function requireSandbox(options: Pick<RunnerOptions, 'nativeProgram' | 'searchPath'>): void {
  findEngine(options);
}

type Engine = { readonly kind: 'native' } | { readonly kind: 'oci'; readonly runtime: string };

/** runc first: crun refuses machines that have both cgroup versions mounted. */
const OCI_RUNTIMES = ['runc', 'crun'] as const;
const USUAL_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'] as const;

/** @throws MachineError `no-sandbox` where neither the native program nor a runtime is installed. */
function findEngine(options: Pick<RunnerOptions, 'nativeProgram' | 'searchPath'>): Engine {
  try {
    locateNative(options.nativeProgram);
    return { kind: 'native' };
  } catch (cause) {
    if (!(cause instanceof MachineError)) throw cause;
    const found = findRuntime(options);
    if (found !== undefined) return { kind: 'oci', runtime: found };
    throw new MachineError(
      'no-sandbox',
      "nothing can run a sandbox: varve's native program, runc and crun are missing",
      {
        hint: `install runc, or ${GET_NATIVE}`,
        cause,
      },
    );
  }
}

function findRuntime({ searchPath = USUAL_PATH }: Pick<RunnerOptions, 'searchPath'>): string | undefined {
  return OCI_RUNTIMES.flatMap((name) => searchPath.map((place) => join(place, name))).find((path) =>
    existsSync(path),
  );
}

/**
 * Hooks are written for OCI runtimes: they are told of a bundle, and look into its configuration.
 *
 * @throws MachineError `no-sandbox` where there is no runtime.
 */
function runtimeForHooks(options: RunnerOptions): string {
  const found = findRuntime(options);
  if (found !== undefined) return found;
  throw new MachineError(
    'no-sandbox',
    'a device asks for hooks, and neither runc nor crun is there to run them',
    {
      hint: 'install runc',
    },
  );
}

async function startOci(runtime: string, options: RunnerOptions, start: Start): Promise<SandboxProcess> {
  const { spec, io } = start;
  const etc = writeEtcFiles(spec, etcOptions(options));
  try {
    const mounts = mountOrder([...etc.mounts, ...spec.mounts]);
    const sandbox = startOciSandbox({ runtime, spec, mounts, io, tempFolder: options.tempFolder });
    const { stopped, release } = watchForStop(sandbox.kill, start.startOptions);
    const outcome = sandbox.outcome
      .then((ending): SandboxOutcome => {
        const why = stopped();
        return why === undefined ? ending : { kind: why };
      })
      .catch((error: unknown): SandboxOutcome => {
        // What is killed while it starts is a failure to the runtime.
        const why = stopped();
        if (why === undefined) throw error;
        return { kind: why };
      })
      .finally(() => {
        release();
        etc.remove();
      });
    const trace = untraced(outcome, spec, `${runtime} runs it, and only varve's native program can trace`);
    trace.catch(() => undefined);
    return { outcome, trace, signal: sandbox.signal, resize: () => undefined };
  } catch (error) {
    etc.remove();
    throw error;
  }
}

function etcOptions(options: RunnerOptions) {
  return { tempFolder: options.tempFolder, resolvConf: options.resolvConf ?? '/etc/resolv.conf' };
}

/** Calls `kill` on abort and when the time is over; `stopped` tells which came first. */
function watchForStop(kill: () => void, { signal, timeoutMs }: StartOptions) {
  let why: 'timed-out' | 'cancelled' | undefined;
  const stop = (reason: 'timed-out' | 'cancelled') => {
    why ??= reason;
    kill();
  };
  const cancel = () => stop('cancelled');
  signal?.addEventListener('abort', cancel, { once: true });
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => stop('timed-out'), timeoutMs);
  const release = () => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', cancel);
  };
  return { stopped: () => why, release };
}

function finished(ending: SandboxOutcome, spec: SandboxSpec): SandboxProcess {
  const outcome = Promise.resolve(ending);
  const trace = untraced(outcome, spec, 'the step was not started');
  return { outcome, trace, signal: () => undefined, resize: () => undefined };
}

/** What is told of a root that only the native program could have traced; settles with `outcome`. */
async function untraced(
  outcome: Promise<SandboxOutcome>,
  { root }: SandboxSpec,
  reason: string,
): Promise<TraceReport | undefined> {
  await outcome;
  const wanted = root.type === 'overlay' && root.traced !== undefined && root.traced.length > 0;
  return wanted ? { kind: 'untraced', reason } : undefined;
}

interface Start {
  readonly spec: SandboxSpec;
  readonly io: SandboxIo;
  readonly startOptions: StartOptions;
}

/** What one sandbox has on the host: cgroups and files. */
interface Host {
  readonly networkHelper: NetworkHelper | undefined;
  readonly cgroup: SandboxCgroup;
  readonly etc: EtcFiles;
  remove(): Promise<void>;
}

async function prepareHost(spec: SandboxSpec, options: RunnerOptions, cgroups: Cgroups): Promise<Host> {
  const cgroup = await cgroups.make({
    limits: spec.limits,
    deviceRules: spec.security === 'default',
    id: spec.id,
    ...(spec.devices === undefined ? {} : { devices: spec.devices }),
    ...(spec.cgroupParent === undefined ? {} : { parent: spec.cgroupParent }),
  });
  try {
    const networkHelper = spec.network === 'default' ? options.networkHelper : undefined;
    const etc = writeEtcFiles(spec, { ...etcOptions(options), nameserver: networkHelper?.nameserver });
    const remove = async () => {
      etc.remove();
      await cgroup.remove();
    };
    return { networkHelper, cgroup, etc, remove };
  } catch (error) {
    await cgroup.remove();
    throw error;
  }
}

const DEVICES = { filter: 'filter', rules: 'elsewhere', nobody: 'nodev' } as const;

async function startNative(native: NativeServer, host: Host, start: Start): Promise<SandboxProcess> {
  const { spec, io, startOptions } = start;
  const { cgroup, etc } = host;
  const orders = encodeSandbox(spec, io, {
    mounts: [...cgroup.mounts, ...mountOrder([...etc.mounts, ...spec.mounts])],
    cgroupProcs: cgroup.procs,
    unifiedCgroup: cgroup.unified,
    networkHelper: host.networkHelper?.command,
    devices: spec.security === 'insecure' ? 'elsewhere' : DEVICES[cgroup.devices],
    leftovers: [...etc.files, etc.folder, ...cgroup.folders],
  });
  const sandbox = await startNativeSandbox(native, orders, io);
  const { stopped, release } = watchForStop(sandbox.kill, startOptions);
  const end = sandbox.told.then(({ ending, ...told }): SandboxEnd => {
    const why = stopped();
    if (why !== undefined) return { outcome: { kind: why }, ...told };
    const isOver = wasOutOfMemory(ending) && cgroup.oomKills() > 0;
    return { outcome: isOver ? { kind: 'out-of-memory' } : ending, ...told };
  });
  const finish = async (): Promise<SandboxOutcome> => {
    try {
      return (await end).outcome;
    } finally {
      await sandbox.gone;
      release();
      await host.remove();
    }
  };
  const outcome = finish();
  // A set-up that fails is told by `start`; nobody then has the rest to await.
  for (const promise of [end, outcome]) promise.catch(() => undefined);
  try {
    await sandbox.started;
  } catch (error) {
    await outcome.catch(() => undefined);
    throw error;
  }
  const trace = outcome.then(async () => (await end).trace);
  trace.catch(() => undefined);
  const mountTraces = outcome.then(async () => (await end).mountTraces ?? new Map());
  mountTraces.catch(() => undefined);
  return {
    outcome,
    end,
    trace,
    mountTraces,
    signal: sandbox.signal,
    resize: (size) => sandbox.resize(size.columns, size.rows),
  };
}

/**
 * Whether an ending is what the OOM killer leaves: the program killed, or a shell that says so of its child (POSIX: 128 and
 * the signal). A program that lives on after a child was killed ends as it says itself.
 */
function wasOutOfMemory(ending: NativeEnding): boolean {
  if (ending.kind === 'signaled') return ending.signal === 'SIGKILL';
  return ending.kind === 'exited' && ending.code === 128 + constants.signals.SIGKILL;
}

/** Outer targets before inner ones, as Docker mounts them; equal depth keeps the given order. */
function mountOrder(mounts: readonly Mount[]): readonly Mount[] {
  const depth = (mount: Mount) => mount.target.split('/').length;
  return mounts.toSorted((a, b) => depth(a) - depth(b));
}
