import type { ResourceLimits } from '../core/index.ts';
import type { Controller } from './cgroup-host.ts';

/** One value to write into a cgroup. */
export interface LimitFile {
  readonly controller: Controller;
  readonly file: string;
  readonly value: string;
  /** Docker's name of the limit, for messages. */
  readonly flag: string;
  /** Written where the kernel has the file; not asked for by name. */
  readonly optional?: boolean;
}

/** Length of a scheduling period in microseconds, Docker's own. */
const CPU_PERIOD = 100_000;

/** varve's own init is in the cgroup too, and shall not take one of the user's processes. */
const OWN_PROCESSES = 1;

/**
 * What to write for `limits`, in order, as Docker and runc translate them. Pure.
 *
 * @param version where a controller lives on this machine; 1 is assumed where it is nowhere.
 */
export function limitFiles(
  limits: ResourceLimits,
  version: (controller: Controller) => 1 | 2 | undefined,
): readonly LimitFile[] {
  const pick = (controller: Controller, v1: readonly LimitFile[], v2: readonly LimitFile[]) =>
    version(controller) === 2 ? v2 : v1;
  return [
    ...pick('memory', memoryV1(limits), memoryV2(limits)),
    ...pick('cpu', cpuV1(limits), cpuV2(limits)),
    ...cpuset(limits),
    ...pids(limits),
  ];
}

function memoryV1({ memoryBytes, memorySwapBytes }: ResourceLimits): readonly LimitFile[] {
  const swap = swapTotal(memoryBytes, memorySwapBytes);
  const files: LimitFile[] = [];
  if (memoryBytes !== undefined) {
    files.push(of('memory', 'memory.limit_in_bytes', `${memoryBytes}`, '--memory'));
  }
  if (swap !== undefined) {
    const optional = memorySwapBytes === undefined;
    files.push({ ...of('memory', 'memory.memsw.limit_in_bytes', `${swap}`, '--memory-swap'), optional });
  }
  return files;
}

function memoryV2({ memoryBytes, memorySwapBytes }: ResourceLimits): readonly LimitFile[] {
  const swap = swapTotal(memoryBytes, memorySwapBytes);
  const files: LimitFile[] = [];
  if (memoryBytes !== undefined) files.push(of('memory', 'memory.max', `${memoryBytes}`, '--memory'));
  if (swap !== undefined) {
    // Version 2 counts swap by itself, not together with memory.
    const value = swap === -1 ? 'max' : `${Math.max(0, swap - (memoryBytes ?? 0))}`;
    const optional = memorySwapBytes === undefined;
    files.push({ ...of('memory', 'memory.swap.max', value, '--memory-swap'), optional });
  }
  return files;
}

/** Docker: memory without a word on swap may use as much swap again. */
function swapTotal(memory: number | undefined, swap: number | undefined): number | undefined {
  if (swap !== undefined) return swap;
  return memory === undefined ? undefined : memory * 2;
}

/** How much CPU time in how long a period, in microseconds; absent: as it is. */
function cpuTime({ cpus, cpuQuotaUs, cpuPeriodUs }: ResourceLimits) {
  if (cpus !== undefined) return { period: CPU_PERIOD, quota: Math.round(cpus * CPU_PERIOD), flag: '--cpus' };
  if (cpuQuotaUs !== undefined)
    return { period: cpuPeriodUs ?? CPU_PERIOD, quota: cpuQuotaUs, flag: '--cpu-quota' };
  return { period: cpuPeriodUs, quota: undefined, flag: '--cpu-period' };
}

function cpuV1(limits: ResourceLimits): readonly LimitFile[] {
  const { cpuShares } = limits;
  const { period, quota, flag } = cpuTime(limits);
  const files: LimitFile[] = [];
  if (period !== undefined) files.push(of('cpu', 'cpu.cfs_period_us', `${period}`, flag));
  if (quota !== undefined) files.push(of('cpu', 'cpu.cfs_quota_us', `${quota}`, flag));
  if (cpuShares !== undefined) files.push(of('cpu', 'cpu.shares', `${cpuShares}`, '--cpu-shares'));
  return files;
}

function cpuV2(limits: ResourceLimits): readonly LimitFile[] {
  const { cpuShares } = limits;
  const { period, quota, flag } = cpuTime(limits);
  const files: LimitFile[] = [];
  if (period !== undefined) files.push(of('cpu', 'cpu.max', `${quota ?? 'max'} ${period}`, flag));
  if (cpuShares !== undefined) {
    // runc's line from 2..262144 shares to a weight of 1..10000.
    const weight = 1 + Math.floor(((cpuShares - 2) * 9999) / 262142);
    files.push(of('cpu', 'cpu.weight', `${Math.min(10000, Math.max(1, weight))}`, '--cpu-shares'));
  }
  return files;
}

function cpuset({ cpusetCpus, cpusetMems }: ResourceLimits): readonly LimitFile[] {
  return [
    ...(cpusetCpus === undefined ? [] : [of('cpuset', 'cpuset.cpus', cpusetCpus, '--cpuset-cpus')]),
    ...(cpusetMems === undefined ? [] : [of('cpuset', 'cpuset.mems', cpusetMems, '--cpuset-mems')]),
  ];
}

function pids({ pids: most }: ResourceLimits): readonly LimitFile[] {
  return most === undefined ? [] : [of('pids', 'pids.max', `${most + OWN_PROCESSES}`, '--pids-limit')];
}

function of(controller: Controller, file: string, value: string, flag: string): LimitFile {
  return { controller, file, value, flag };
}
