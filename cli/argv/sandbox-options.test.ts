import { describe, expect, test } from 'vitest';
import { cgroupParentOf, extraHost, limitsOf, ulimitsOf } from './sandbox-options.ts';
import { checkEntitlement } from './session-options.ts';

const NONE = {
  'cpu-period': undefined,
  'cpu-quota': undefined,
  'cpu-shares': undefined,
  'cpuset-cpus': undefined,
  'cpuset-mems': undefined,
  memory: undefined,
  'memory-swap': undefined,
};

describe('limitsOf', () => {
  test('reads what is given; 0 is no limit', () => {
    expect(limitsOf({ ...NONE, memory: 0, 'cpu-shares': 0, 'cpuset-cpus': '' })).toEqual({});
    const all = {
      memory: 2 ** 30,
      'memory-swap': -1,
      'cpu-period': 50_000,
      'cpu-quota': 25_000,
      'cpu-shares': 512,
      'cpuset-cpus': '0-1,3',
      'cpuset-mems': '0',
    };
    expect(limitsOf(all)).toEqual({
      memoryBytes: 2 ** 30,
      memorySwapBytes: -1,
      cpuPeriodUs: 50_000,
      cpuQuotaUs: 25_000,
      cpuShares: 512,
      cpusetCpus: '0-1,3',
      cpusetMems: '0',
    });
  });

  test.each([
    [{ memory: 1000 }, /minimum memory limit/],
    [{ 'memory-swap': 2 ** 30 }, /together with --memory/],
    [{ 'cpu-quota': 1.5 }, '--cpu-quota must be a whole number'],
    [{ 'cpuset-mems': 'all' }, '--cpuset-mems: "all" is no list of numbers'],
  ])('refuses %j', (flags, message) => {
    expect(() => limitsOf({ ...NONE, ...flags })).toThrow(message);
  });

  test('--cpus and --cpu-quota do not go together', () => {
    expect(() => limitsOf({ ...NONE, 'cpu-quota': 1000 }, { cpus: 1 })).toThrow('one or the other');
  });
});

describe('ulimitsOf', () => {
  test('the hard limit is the soft one where it is not given; the last word of a name counts', () => {
    expect(ulimitsOf(['nofile=10', 'core=0:-1', 'nofile=20:30'])).toEqual([
      { name: 'nofile', soft: 20, hard: 30 },
      { name: 'core', soft: 0, hard: -1 },
    ]);
  });

  test.each([
    ['nofile', 'cannot be read'],
    ['nofile=many', 'cannot be read'],
    ['nofiles=1', '"nofiles" is no resource limit'],
    ['nofile=2:1', 'the soft limit must not be above the hard one'],
    ['core=-1:5', 'the soft limit must not be above the hard one'],
  ])('refuses %s', (text, message) => {
    expect(() => ulimitsOf([text])).toThrow(message);
  });
});

test('extraHost, cgroupParentOf and checkEntitlement', () => {
  expect(extraHost('a:1.2.3.4')).toEqual({ name: 'a', address: '1.2.3.4' });
  expect(extraHost('a=[::1]')).toEqual({ name: 'a', address: '::1' });
  expect(extraHost('here:host-gateway')).toEqual({ name: 'here', address: '127.0.0.1' });
  expect(() => extraHost('a')).toThrow('must be NAME:ADDRESS');
  expect([cgroupParentOf('/a/b/'), cgroupParentOf(''), cgroupParentOf(undefined)]).toEqual([
    'a/b',
    undefined,
    undefined,
  ]);
  expect(() => cgroupParentOf('a/../..')).toThrow('is no path of a cgroup');
  for (const right of ['network.host', 'security.insecure', 'device', 'device=x/y=z'])
    checkEntitlement(right);
  expect(() => checkEntitlement('network')).toThrow('"network" is no right that a build can take');
});
