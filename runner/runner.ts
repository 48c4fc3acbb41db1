import type { Mount, Runner, SandboxIo, SandboxOutcome, SandboxProcess, SandboxSpec } from '../core/index.ts';
import { writeEtcFiles } from './etc-files.ts';
import { locateNative } from './native-program.ts';
import { startNativeSandbox } from './native-sandbox.ts';
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
  let located: string | undefined;
  return {
    async start(spec, io, startOptions = {}) {
      if (startOptions.signal?.aborted) return finished({ kind: 'cancelled' });
      located ??= locateNative(options.nativeProgram);
      return startNative(located, options, { spec, io, startOptions });
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

async function startNative(program: string, options: RunnerOptions, start: Start): Promise<SandboxProcess> {
  const { spec, io, startOptions } = start;
  const etc = writeEtcFiles(spec, {
    tempFolder: options.tempFolder,
    resolvConf: options.resolvConf ?? '/etc/resolv.conf',
  });
  const orders = encodeSandbox(spec, io, {
    mounts: mountOrder([...etc.mounts, ...spec.mounts]),
    cgroupViews: [],
    cgroupProcs: [],
    nodev: true,
    leftovers: [...etc.files, etc.folder],
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
  const release = () => {
    clearTimeout(timer);
    startOptions.signal?.removeEventListener('abort', cancel);
    etc.remove();
  };
  const outcome = sandbox.ended
    .then((ending): SandboxOutcome => (stopped === undefined ? ending : { kind: stopped }))
    .finally(release);
  outcome.catch(() => undefined);
  await sandbox.started;
  return { outcome, signal: sandbox.signal, resize: (size) => sandbox.resize(size.columns, size.rows) };
}

/** Outer targets before inner ones, as Docker mounts them; equal depth keeps the given order. */
function mountOrder(mounts: readonly Mount[]): readonly Mount[] {
  const depth = (mount: Mount) => mount.target.split('/').length;
  return mounts.toSorted((a, b) => depth(a) - depth(b));
}
