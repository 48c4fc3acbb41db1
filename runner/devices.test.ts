import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SandboxIo } from '../core/index.ts';
import { createCgroups } from './cgroup.ts';
import { findCgroups } from './cgroup-host.ts';
import { locateNative } from './native-program.ts';
import { startNativeSandbox } from './native-sandbox.ts';
import { NativeServer } from './native-server.ts';
import { encodeSandbox, type HostSide } from './sandbox-wire.ts';
import { Box, CAN_SANDBOX } from './testing/box.ts';

const HAS_V1 = CAN_SANDBOX && findCgroups().v1.has('devices');
const HAS_V2 = CAN_SANDBOX && findCgroups().v2 !== undefined;

describe.skipIf(!CAN_SANDBOX)('device nodes cannot be opened', () => {
  let box: Box;
  beforeAll(() => {
    box = Box.make({ attack: true });
  });
  afterAll(() => box.remove());

  async function attack(name: string, host: Partial<HostSide>): Promise<string> {
    let seen = '';
    const io: SandboxIo = {
      mode: 'pipe',
      onOutput: (_stream, chunk) => {
        seen += Buffer.from(chunk).toString();
      },
    };
    const side: HostSide = { mounts: [], cgroupProcs: [], devices: 'elsewhere', leftovers: [], ...host };
    const orders = encodeSandbox(box.spec({ args: ['attack', name] }), io, side);
    const sandbox = await startNativeSandbox(new NativeServer(locateNative), orders, io);
    await sandbox.told;
    await sandbox.gone;
    return seen.trim();
  }

  it('where nothing forbids it, they can: the tests below measure something', async () => {
    expect(await attack('kmem', {})).not.toBe('kmem EPERM');
    expect(await attack('kmem', {})).not.toBe('kmem EACCES');
  });

  it('by the mount option nodev, on a machine without cgroups', async () => {
    expect(await attack('kmem', { devices: 'nodev' })).toBe('kmem EACCES');
  });

  it.skipIf(!HAS_V1)('by rules of cgroup version 1, on a machine that has no version 2', async () => {
    const { v1 } = findCgroups();
    const cgroup = await createCgroups(() => ({ v1, v2: undefined })).make({
      limits: {},
      deviceRules: true,
      id: 'v1',
    });
    try {
      expect(cgroup.devices).toBe('rules');
      expect(await attack('kmem', { cgroupProcs: cgroup.procs })).toBe('kmem EPERM');
      expect(await attack('own-null', { cgroupProcs: cgroup.procs })).toBe('own-null ok');
    } finally {
      await cgroup.remove();
    }
  });

  it.skipIf(!HAS_V2)('by a filter on cgroup version 2', async () => {
    const { v2 } = findCgroups();
    const cgroup = await createCgroups(() => ({ v1: new Map(), v2 })).make({
      limits: {},
      deviceRules: true,
      id: 'v2',
    });
    try {
      expect(cgroup.devices).toBe('filter');
      const host = { unifiedCgroup: cgroup.unified, devices: 'filter' } as const;
      expect(await attack('kmem', host)).toBe('kmem EPERM');
      expect(await attack('own-null', host)).toBe('own-null ok');
    } finally {
      await cgroup.remove();
    }
  });

  it('without any cgroup a limit is refused and a sandbox without limits still made', async () => {
    const cgroups = createCgroups(() => ({ v1: new Map(), v2: undefined }));
    const cgroup = await cgroups.make({ limits: {}, deviceRules: true, id: 'none' });
    expect(cgroup.devices).toBe('nobody');
    await expect(cgroups.make({ limits: { pids: 5 }, deviceRules: true, id: 'none' })).rejects.toMatchObject({
      code: 'limit-unsupported',
      message: '--pids-limit cannot be kept: this machine has no pids cgroup',
    });
  });
});
