import { constants } from 'node:os';
import type { Mount, Runner, SandboxIo, SandboxOutcome, SandboxProcess, SandboxSpec } from '../core/index.ts';
import { type Cgroups, createCgroups, type SandboxCgroup } from './cgroup.ts';
import { type EtcFiles, writeEtcFiles } from './etc-files.ts';
import { locateNative } from './native-program.ts';
import { type NativeEnding, startNativeSandbox } from './native-sandbox.ts';
import { encodeSandbox } from './sandbox-wire.ts';

export interface RunnerOptions {
  /** Path of the native program; absent: where the installation put it. */
  readonly nativeProgram?: string;
  /** Where the small files of each sandbox are written. */
  readonly tempFolder: string;
  /** Absent: /etc/resolv.conf. */
  readonly resolvConf?: string;
}

type StartOptions = NonNullable<Parameters<Runner['start']>[2]>;

/** Sandboxes made by the native program; see `runner/native/sandbox.c` for what they promise. */
export function createRunner(options: RunnerOptions): Runner {
  const cgroups = createCgroups();
  let located: string | undefined;
  return {
    async start(spec, io, startOptions = {}) {
      if (startOptions.signal?.aborted) return finished({ kind: 'cancelled' });
      located ??= locateNative(options.nativeProgram);
      const host = await prepareHost(spec, options, cgroups);
      try {
        return await startNative(located, host, { spec, io, startOptions });
      } catch (error) {
        await host.remove();
        throw error;
      }
    },
  };
}

function finished(outcome: SandboxOutcome): SandboxProcess {
  return { outcome: Promise.resolve(outcome), signal: () => undefined, resize: () => undefined };
}

interface Start {
  readonly spec: SandboxSpec;
  readonly io: SandboxIo;
  readonly startOptions: StartOptions;
}

/** What one sandbox has on the host: cgroups and files. */
interface Host {
  readonly cgroup: SandboxCgroup;
  readonly etc: EtcFiles;
  remove(): Promise<void>;
}

async function prepareHost(spec: SandboxSpec, options: RunnerOptions, cgroups: Cgroups): Promise<Host> {
  const cgroup = await cgroups.make({
    limits: spec.limits,
    deviceRules: spec.security === 'default',
    id: spec.id,
  });
  try {
    const resolvConf = options.resolvConf ?? '/etc/resolv.conf';
    const etc = writeEtcFiles(spec, { tempFolder: options.tempFolder, resolvConf });
    const remove = async () => {
      etc.remove();
      await cgroup.remove();
    };
    return { cgroup, etc, remove };
  } catch (error) {
    await cgroup.remove();
    throw error;
  }
}

const DEVICES = { filter: 'filter', rules: 'elsewhere', nobody: 'nodev' } as const;

async function startNative(program: string, host: Host, start: Start): Promise<SandboxProcess> {
  const { spec, io, startOptions } = start;
  const { cgroup, etc } = host;
  const orders = encodeSandbox(spec, io, {
    mounts: [...cgroup.mounts, ...mountOrder([...etc.mounts, ...spec.mounts])],
    cgroupProcs: cgroup.procs,
    unifiedCgroup: cgroup.unified,
    devices: spec.security === 'insecure' ? 'elsewhere' : DEVICES[cgroup.devices],
    leftovers: [...etc.files, etc.folder, ...cgroup.folders],
  });
  const sandbox = startNativeSandbox(program, orders, io);
  let stopped: 'timed-out' | 'cancelled' | undefined;
  const stop = (why: 'timed-out' | 'cancelled') => {
    stopped ??= why;
    sandbox.kill();
  };
  const cancel = () => stop('cancelled');
  startOptions.signal?.addEventListener('abort', cancel, { once: true });
  const { timeoutMs } = startOptions;
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => stop('timed-out'), timeoutMs);
  const finish = async (): Promise<SandboxOutcome> => {
    try {
      const ending = await sandbox.ended;
      if (stopped !== undefined) return { kind: stopped };
      return wasOutOfMemory(ending) && cgroup.oomKills() > 0 ? { kind: 'out-of-memory' } : ending;
    } finally {
      clearTimeout(timer);
      startOptions.signal?.removeEventListener('abort', cancel);
      await host.remove();
    }
  };
  const outcome = finish();
  // A set-up that fails is told by `start`; nobody then has the outcome to await.
  outcome.catch(() => undefined);
  await sandbox.started;
  return { outcome, signal: sandbox.signal, resize: (size) => sandbox.resize(size.columns, size.rows) };
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
