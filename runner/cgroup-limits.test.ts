import { describe, expect, it } from 'vitest';
import type { ResourceLimits } from '../core/index.ts';
import { limitFiles } from './cgroup-limits.ts';

const written = (limits: ResourceLimits, version: 1 | 2) =>
  limitFiles(limits, () => version).map(({ file, value }) => `${file}=${value}`);

const ALL: ResourceLimits = {
  memoryBytes: 100,
  memorySwapBytes: 150,
  cpus: 1.5,
  cpuShares: 1024,
  cpusetCpus: '0-1',
  pids: 10,
};

describe('limitFiles', () => {
  it('version 1 counts memory and swap together', () => {
    expect(written(ALL, 1)).toEqual([
      'memory.limit_in_bytes=100',
      'memory.memsw.limit_in_bytes=150',
      'cpu.cfs_period_us=100000',
      'cpu.cfs_quota_us=150000',
      'cpu.shares=1024',
      'cpuset.cpus=0-1',
      'pids.max=11',
    ]);
  });

  it('version 2 counts swap alone and has weights in place of shares', () => {
    expect(written(ALL, 2)).toEqual([
      'memory.max=100',
      'memory.swap.max=50',
      'cpu.max=150000 100000',
      'cpu.weight=39',
      'cpuset.cpus=0-1',
      'pids.max=11',
    ]);
  });

  it('memory without a word on swap may swap as much again, where the kernel counts swap', () => {
    const files = limitFiles({ memoryBytes: 100 }, () => 1);
    expect(files.map(({ value, optional }) => [value, optional])).toEqual([
      ['100', undefined],
      ['200', true],
    ]);
    expect(written({ memoryBytes: 100 }, 2)).toEqual(['memory.max=100', 'memory.swap.max=100']);
  });

  it('-1 is unlimited swap', () => {
    expect(written({ memoryBytes: 100, memorySwapBytes: -1 }, 1)[1]).toBe('memory.memsw.limit_in_bytes=-1');
    expect(written({ memoryBytes: 100, memorySwapBytes: -1 }, 2)[1]).toBe('memory.swap.max=max');
  });

  it('nothing asked, nothing written', () => {
    expect(written({}, 1)).toEqual([]);
    expect(written({}, 2)).toEqual([]);
  });
});
