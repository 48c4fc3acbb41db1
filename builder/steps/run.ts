import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { Action, ObservedQuery } from '../../cache/index.ts';
import {
  type BuildFailure,
  DEFAULT_SHM_BYTES,
  encodePath,
  type HostPath,
  imagePath,
  joinHost,
  type Mount,
  type Observation,
  ROOT_PATH,
  type RootMount,
  type Runner,
  type SandboxEnd,
  type SandboxOutcome,
  type SandboxProcess,
  type SandboxSpec,
  type Snapshotter,
  splitPair,
  USE,
  unreachable,
} from '../../core/index.ts';
import type { BuilderParts } from '../contract.ts';
import type { Emulation } from '../emulation.ts';
import type { RunStep } from '../graph.ts';
import { type Standing, treeOf } from '../standing.ts';
import { BuildStop, stop } from '../stop.ts';
import { type ImageUser, lookUpUser } from '../users.ts';
import { formatEnvironment } from '../variables.ts';
import { BoundTrees } from './bound-trees.ts';
import { editsDigest, type FoundDevice, findDevices } from './devices.ts';
import { checkPlaces } from './mount-places.ts';
import type { Executed, PreparedStep } from './prepared-step.ts';
import { runDefinition } from './run-definition.ts';
import { type FoundMounts, findMounts, type MountParts, openMounts } from './run-mounts.ts';

/** Raised when the sandbox changes in a way that commands can see. 3: a user's own group is among the additional ones. */
const ACTION_VERSION = 3;
const HOSTNAME = 'buildkitsandbox';
const SCRIPT_FOLDER = 'dev/pipes';

export interface RunParts extends MountParts, Pick<BuilderParts, 'hasOneId'> {
  readonly runner: Runner;
  readonly emulation: Pick<Emulation, 'need'>;
  readonly buildId: string;
  readonly onOutput: (stream: 'stdout' | 'stderr', chunk: Uint8Array) => void;
}

/** A RUN: its command in a sandbox on a writable layer. */
export async function prepareRun(step: RunStep, parts: RunParts, signal: AbortSignal): Promise<PreparedStep> {
  const found = await findMounts(step, parts.sourceFor, signal);
  const devices = await findDevices(step.devices);
  const { inputs } = found;
  const bound = isTraced(step) ? new BoundTrees(step, found, parts) : undefined;
  const action: Action = {
    version: ACTION_VERSION,
    kind: 'RUN',
    definition: {
      ...runDefinition(step),
      deviceEdits: editsDigest(devices),
      hasOneId: parts.hasOneId ? true : undefined,
    },
  };
  return {
    action,
    inputs,
    ...(bound === undefined
      ? {}
      : {
          observed: async (on) => {
            const whole = await observedQuery(step, { action, inputs }, { on, parts });
            return bound.isEmpty ? [whole] : [await bound.question(whole), whole];
          },
        }),
    execute: (on, executeSignal) => run({ step, found, bound, devices, on, parts }, executeSignal),
  };
}

/**
 * The observed question: the base image, what varve itself read of the tree (the ids and the home of the user), and whether files
 * have extended attributes at all are named in the action; all else that the command read lies in the diffs above the base.
 */
async function observedQuery(
  step: RunStep,
  { action, inputs }: Pick<ObservedQuery, 'action' | 'inputs'>,
  { on, parts }: { readonly on: Standing; readonly parts: RunParts },
): Promise<ObservedQuery> {
  const { uid, gid, additionalGids, home } = await userOf(step, on);
  const base = on.base.id ?? null;
  const ids = { uid, gid, additionalGids, home };
  const tree = await parts.snapshotter.observed(on.snapshot, on.base.depth);
  const definition = { ...action.definition, base, ids, isPlain: tree.isPlain };
  return { action: { ...action, definition }, inputs, tree };
}

async function userOf(step: RunStep, on: Standing): Promise<ImageUser> {
  const user = await lookUpUser(treeOf(on), step.user);
  if (!user.ok) stop('unknown-user', user.error, { range: step.info.range });
  return user.value;
}

/** Why it cannot be told what a step sees; undefined where it can. */
function untraceable({ security, devices }: RunStep): string | undefined {
  if (security === 'insecure') return 'with --security=insecure a command can see what no trace tells of';
  return devices.length > 0 ? 'what a device says no trace tells' : undefined;
}

function isTraced(step: RunStep): boolean {
  return step.caching.mode !== 'exact' && untraceable(step) === undefined;
}

interface RunWork {
  readonly step: RunStep;
  readonly found: FoundMounts;
  readonly bound: BoundTrees | undefined;
  readonly devices: readonly FoundDevice[];
  readonly on: Standing;
  readonly parts: RunParts;
}

async function run(
  { step, found, bound, devices, on, parts }: RunWork,
  signal: AbortSignal,
): Promise<Executed> {
  const { home, ...user } = await userOf(step, on);
  await parts.emulation.need(step.platform, step.info.range, signal);
  await checkPlaces(step, found.sources, treeOf(on));
  await using script = await scriptMount(step, parts.temporary);
  await using opened = await openMounts({ step, found, bound, parts }, signal);
  const tracing = isTraced(step) ? { traceAbove: on.base.depth } : {};
  await using active = await parts.snapshotter.prepare(on.snapshot, tracing);
  const environment = new Map([
    ['HOME', home],
    ...Object.entries(step.hiddenEnvironment),
    ...Object.entries(step.environment),
    ...devices.flatMap(({ edits }) => edits.env.map(variableOf)),
    ...opened.secrets,
  ]);
  const { limits } = step;
  const spec: SandboxSpec = {
    root: active.root,
    readonlyRoot: false,
    mounts: [...devices.flatMap(({ edits }) => edits.mounts), ...opened.mounts, ...script.mounts],
    devices: devices.flatMap(({ edits }) => edits.rules),
    hooks: devices.flatMap(({ edits }) => edits.hooks),
    args: step.args,
    env: formatEnvironment(environment),
    cwd: step.workdir,
    user: {
      ...user,
      additionalGids: [...user.additionalGids, ...devices.flatMap(({ edits }) => edits.additionalGids)],
    },
    hostname: step.hostname ?? HOSTNAME,
    network: step.network,
    extraHosts: limits.extraHosts ?? [],
    limits: limits.resources ?? {},
    shmSizeBytes: limits.shmSizeBytes ?? DEFAULT_SHM_BYTES,
    ...(limits.ulimits === undefined ? {} : { ulimits: limits.ulimits }),
    ...(limits.cgroupParent === undefined ? {} : { cgroupParent: limits.cgroupParent }),
    hasSecretEnvironment: opened.secrets.size > 0,
    security: step.security === 'insecure' ? 'insecure' : 'default',
    noNewPrivileges: limits.noNewPrivileges === true,
    id: `build-${parts.buildId}-${step.info.index}`,
    tellChanges: true,
  };
  const child = await parts.runner.start(spec, { mode: 'pipe', onOutput: parts.onOutput }, { signal });
  const end = await endOf(child);
  const failure = failureOf(step, end.outcome);
  // What is mounted from folders that are given back now must be gone first.
  if (signal.aborted || failure !== undefined || spec.mounts.length > 0) await child.outcome;
  signal.throwIfAborted();
  if (failure !== undefined) throw new BuildStop(failure);
  const reason = untraceable(step);
  const seen: Executed['seen'] =
    reason !== undefined
      ? { kind: 'unknown', reason }
      : seenBy(end, { bound, root: active.root, driver: parts.snapshotter.driver });
  const rest = child.outcome.then(() => undefined);
  rest.catch(() => undefined);
  return { frozen: await active.freeze({ changes: end.changes }), seen, rest };
}

/** What a sandbox came to, as soon as it is known. */
async function endOf(child: SandboxProcess): Promise<SandboxEnd> {
  if (child.end !== undefined) return child.end;
  const outcome = await child.outcome;
  const mountTraces = await child.mountTraces;
  return { outcome, trace: await child.trace, ...(mountTraces === undefined ? {} : { mountTraces }) };
}

/** A variable of `NAME=value`. */
function variableOf(text: string): readonly [string, string] {
  const [name, value = ''] = splitPair(text);
  return [name, value];
}

/**
 * Where nothing lies above the base image, nothing of the root is traced. That there is nothing then is all that could have been read, and
 * what an observation of the root's empty listing says.
 */
const NOTHING_ABOVE: readonly Observation[] = [{ path: ROOT_PATH, uses: USE.METADATA | USE.LISTING }];

function seenBy(
  { trace, mountTraces = new Map() }: SandboxEnd,
  {
    bound,
    root,
    driver,
  }: {
    readonly bound: BoundTrees | undefined;
    readonly root: RootMount;
    readonly driver: Snapshotter['driver'];
  },
): Executed['seen'] {
  if (trace?.kind === 'untraced') return { kind: 'unknown', reason: trace.reason };
  if (driver === 'copy') return { kind: 'unknown', reason: 'what is read of a plain copy cannot be told' };
  const isBare = root.type === 'overlay' && root.traced === undefined;
  if (bound !== undefined && !bound.isEmpty && (trace !== undefined || isBare)) {
    const inMounts = bound.observations(mountTraces);
    if (inMounts !== undefined) {
      return { kind: 'observed', observations: [...(trace?.observations ?? NOTHING_ABOVE), ...inMounts] };
    }
    // The second question, in which mounts are known by their digests.
    if (trace !== undefined) return { kind: 'observed', observations: trace.observations, question: 1 };
  }
  return trace === undefined ? { kind: 'unknown' } : { kind: 'observed', observations: trace.observations };
}

/** The failure of a command that did not succeed, in the words of `docker build`. */
function failureOf(step: RunStep, outcome: SandboxOutcome): BuildFailure | undefined {
  const command = JSON.stringify(step.args.join(' '));
  const failure = (code: string, message: string, details: Partial<BuildFailure> = {}): BuildFailure => ({
    kind: 'build-failure',
    code,
    message: `process ${command} ${message}`,
    range: step.info.range,
    ...details,
  });
  switch (outcome.kind) {
    case 'exited': {
      const { code: exitCode } = outcome;
      if (exitCode === 0) return undefined;
      return failure('run-failed', `did not complete successfully: exit code: ${exitCode}`, { exitCode });
    }
    case 'signaled':
      return failure('run-failed', `was killed by ${outcome.signal}`, {
        exitCode: 128 + outcome.signalNumber,
      });
    case 'out-of-memory':
      return failure('run-out-of-memory', 'was killed: out of memory', { exitCode: 137 });
    case 'not-started':
      return failure('run-not-started', `could not be started: ${outcome.message}`, {
        exitCode: outcome.code,
        hint: 'Shell-form commands need the shell of the base image (/bin/sh, or what SHELL says); exec-form commands need their program.',
      });
    case 'timed-out':
    case 'cancelled':
      return failure('run-cancelled', 'was cancelled');
    default:
      return unreachable(outcome);
  }
}

/** A heredoc that is a program of its own, as a file that the sandbox sees. */
async function scriptMount(
  step: RunStep,
  temporary: HostPath,
): Promise<{ readonly mounts: readonly Mount[] } & AsyncDisposable> {
  const { script } = step;
  if (script === undefined) return { mounts: [], [Symbol.asyncDispose]: async () => {} };
  const folder = (await mkdtemp(joinHost(temporary, 'script-'))) as HostPath;
  const source = joinHost(folder, 'script');
  await writeFile(source, encodePath(script.text));
  await chmod(source, 0o755);
  const target = imagePath(`${SCRIPT_FOLDER}/${script.name}`);
  return {
    mounts: [{ type: 'bind', source, target, readonly: true }],
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}
