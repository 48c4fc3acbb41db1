import { type ResourceLimits, ULIMITS, type Ulimit, UsageError } from '../../core/index.ts';
import { nearest } from './nearest.ts';
import type { FlagSpecs } from './spec.ts';

/** Flags that say how much of the machine a sandbox may use; `build` and `run` have them in common. */
export const LIMIT_FLAGS = {
  'cgroup-parent': { type: 'string', help: 'Parent cgroup of the sandbox, below that of varve itself' },
  'cpu-period': { type: 'number', placeholder: 'int', help: 'Limit the CPU CFS period' },
  'cpu-quota': { type: 'number', placeholder: 'int', help: 'Limit the CPU CFS quota' },
  'cpu-shares': { type: 'number', short: 'c', placeholder: 'int', help: 'CPU shares (relative weight)' },
  'cpuset-cpus': { type: 'string', help: 'CPUs in which to allow execution (0-3, 0,1)' },
  'cpuset-mems': { type: 'string', help: 'MEMs in which to allow execution (0-3, 0,1)' },
  memory: { type: 'size', short: 'm', help: 'Memory limit' },
  'memory-swap': {
    type: 'size',
    help: "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
  },
  ulimit: { type: 'list', placeholder: 'list', help: 'Ulimit options (format: "nofile=1024:2048")' },
} as const satisfies FlagSpecs;

interface LimitValues {
  readonly 'cpu-period': number | undefined;
  readonly 'cpu-quota': number | undefined;
  readonly 'cpu-shares': number | undefined;
  readonly 'cpuset-cpus': string | undefined;
  readonly 'cpuset-mems': string | undefined;
  readonly memory: number | undefined;
  readonly 'memory-swap': number | undefined;
}

/** @throws UsageError where limits do not go together, or a file of the kernel's could not hold them. */
export function limitsOf(
  flags: LimitValues,
  further: { readonly cpus?: number | undefined; readonly pids?: number | undefined } = {},
): ResourceLimits {
  const { memory } = flags;
  const { cpus, pids } = further;
  const swap = flags['memory-swap'];
  if (memory !== undefined && memory !== 0 && memory < 6 * 2 ** 20) {
    throw new UsageError('--memory: the minimum memory limit allowed is 6MB');
  }
  if (swap !== undefined && swap !== 0 && memory === undefined) {
    throw new UsageError('--memory-swap can only be given together with --memory');
  }
  if (swap !== undefined && swap > 0 && memory !== undefined && swap < memory) {
    throw new UsageError('--memory-swap counts memory and swap together: it must not be below --memory');
  }
  if (cpus !== undefined && cpus < 0) throw new UsageError('--cpus must not be below 0');
  const period = wholeNumber(flags['cpu-period'], '--cpu-period');
  const quota = wholeNumber(flags['cpu-quota'], '--cpu-quota');
  if (isLimit(cpus) && (isLimit(period) || isLimit(quota))) {
    throw new UsageError('--cpus says the same as --cpu-period and --cpu-quota: give one or the other');
  }
  const shares = wholeNumber(flags['cpu-shares'], '--cpu-shares');
  const cpusetCpus = cpuset(flags['cpuset-cpus'], '--cpuset-cpus');
  const cpusetMems = cpuset(flags['cpuset-mems'], '--cpuset-mems');
  return {
    ...(isLimit(memory) ? { memoryBytes: memory } : {}),
    ...(swap === undefined || swap === 0 ? {} : { memorySwapBytes: swap }),
    ...(isLimit(cpus) ? { cpus } : {}),
    ...(isLimit(period) ? { cpuPeriodUs: period } : {}),
    ...(isLimit(quota) ? { cpuQuotaUs: quota } : {}),
    ...(isLimit(shares) ? { cpuShares: shares } : {}),
    ...(cpusetCpus === undefined ? {} : { cpusetCpus }),
    ...(cpusetMems === undefined ? {} : { cpusetMems }),
    ...(isLimit(pids) ? { pids } : {}),
  };
}

/** 0 and -1 mean "no limit" to Docker. */
function isLimit(value: number | undefined): value is number {
  return value !== undefined && value > 0;
}

function wholeNumber(value: number | undefined, flag: string): number | undefined {
  if (value === undefined || Number.isInteger(value)) return value;
  throw new UsageError(`${flag} must be a whole number`);
}

function cpuset(text: string | undefined, flag: string): string | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*$/.test(text)) return text;
  throw new UsageError(`${flag}: ${JSON.stringify(text)} is no list of numbers`, 'Write 0-3 or 0,1.');
}

/** `name=soft[:hard]`; -1: unlimited (docker/go-units, ParseUlimit). */
export function ulimitsOf(texts: readonly string[]): readonly Ulimit[] {
  const limits = new Map<string, Ulimit>();
  for (const text of texts) {
    const limit = ulimitOf(text);
    limits.set(limit.name, limit);
  }
  return [...limits.values()];
}

function ulimitOf(text: string): Ulimit {
  const match = /^([^=]*)=(-1|\d+)(?::(-1|\d+))?$/.exec(text);
  if (match === null) {
    throw new UsageError(
      `--ulimit: ${JSON.stringify(text)} cannot be read`,
      'Write NAME=SOFT[:HARD], as in nofile=1024:2048.',
    );
  }
  const [, written = '', soft = '', hard = soft] = match;
  const name = NAMES.find((one) => one === written);
  if (name === undefined) {
    const near = nearest(written, NAMES);
    throw new UsageError(
      `--ulimit: ${JSON.stringify(written)} is no resource limit`,
      near === undefined ? `There are ${NAMES.join(', ')}.` : `Did you mean ${near}?`,
    );
  }
  const limit = { name, soft: Number(soft), hard: Number(hard) };
  const isAbove = limit.hard !== -1 && (limit.soft === -1 || limit.soft > limit.hard);
  if (isAbove) throw new UsageError(`--ulimit ${text}: the soft limit must not be above the hard one`);
  return limit;
}

/** Every way to say `no-new-privileges` to `--security-opt`. */
export const NO_NEW_PRIVILEGES = [
  'no-new-privileges',
  ...['true', 'false'].flatMap((word) => [`no-new-privileges:${word}`, `no-new-privileges=${word}`]),
];

/** What the last of the `--security-opt` says of `no-new-privileges`. */
export function noNewPrivilegesOf(options: readonly string[]): boolean {
  const last = options.findLast((option) => NO_NEW_PRIVILEGES.includes(option));
  return last !== undefined && !last.endsWith('false');
}

const NAMES = Object.keys(ULIMITS) as readonly Ulimit['name'][];

/** `name:address` or `name=address`; the address may be IPv6, plain or in brackets. `host-gateway` is the machine, whose network the sandbox has. */
export function extraHost(text: string): { name: string; address: string } {
  const match = /^([^:=\s]+)[:=](?:\[?([0-9a-fA-F:.]+)\]?|(host-gateway))$/.exec(text);
  const [, name, address, gateway] = match ?? [];
  if (name === undefined || (address === undefined && gateway === undefined)) {
    throw new UsageError(`--add-host: ${JSON.stringify(text)} must be NAME:ADDRESS`);
  }
  return { name, address: address ?? '127.0.0.1' };
}

/** A cgroup as a path whose parts are plain names. */
export function cgroupParentOf(text: string | undefined): string | undefined {
  const path = text?.replace(/^\/+|\/+$/g, '') ?? '';
  if (path === '') return undefined;
  const isPlain = path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
  if (isPlain && !path.includes('\0')) return path;
  throw new UsageError(`--cgroup-parent: ${JSON.stringify(text)} is no path of a cgroup`);
}
