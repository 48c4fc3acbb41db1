import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { HostPath } from '../core/index.ts';
import { devicesNamed, readDevices } from './cdi.ts';
import { Box, CAN_SANDBOX } from './testing/box.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-cdi-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const SPECIFICATION = {
  cdiVersion: '0.6.0',
  kind: 'vendor.com/net',
  containerEdits: { env: ['ALL=1'] },
  devices: [
    {
      name: 'zero',
      containerEdits: { env: ['ZERO=1'], deviceNodes: [{ path: '/dev/null0', hostPath: '/dev/null' }] },
    },
    {
      name: 'tun',
      annotations: { 'org.mobyproject.buildkit.device.class': 'tunnel' },
      containerEdits: { mounts: [{ hostPath: '/etc', containerPath: '/host', options: ['ro'] }] },
    },
  ],
};
const write = (name: string, content: unknown): void =>
  writeFileSync(join(folder, name), JSON.stringify(content));

describe('readDevices', () => {
  it('reads nodes, variables and mounts; those of a later folder win', async () => {
    write('a.json', SPECIFICATION);
    const later = join(folder, 'later');
    mkdirSync(later);
    writeFileSync(
      join(later, 'b.yaml'),
      'kind: vendor.com/net\ndevices:\n  - name: tun\n    containerEdits: {env: [LATER=1]} # in YAML\n',
    );
    expect(await readDevices([folder, join(folder, 'none'), later])).toEqual([
      {
        name: 'vendor.com/net=zero',
        edits: {
          env: ['ALL=1', 'ZERO=1'],
          mounts: [{ type: 'bind', source: '/dev/null', target: 'dev/null0', readonly: false }],
          rules: [{ type: 'char', major: 1, minor: 3 }],
        },
      },
      { name: 'vendor.com/net=tun', edits: { env: ['LATER=1'], mounts: [], rules: [] } },
    ]);
  });

  it.each([
    ['x.json', { kind: 'net', devices: [] }, 'its kind is no vendor/class'],
    [
      'x.json',
      { kind: 'v.com/n', containerEdits: { hooks: [{}] } },
      'it asks for hooks, which varve does not run',
    ],
    [
      'x.json',
      { kind: 'v.com/n', containerEdits: { deviceNodes: [{ path: '/dev/nothing-here' }] } },
      'is not there (ENOENT)',
    ],
    ['x.yaml', { kind: 'net', devices: [] }, 'its kind is no vendor/class'],
  ])('refuses %s %j', async (name, content, message) => {
    write(name, content);
    await expect(readDevices([folder])).rejects.toThrow(message);
  });
});

it('devicesNamed: one, the first of a kind, all of a kind, all of a class', async () => {
  write('a.json', SPECIFICATION);
  const devices = await readDevices([folder]);
  const named = (name: string) => devicesNamed(name, devices).map((device) => device.name.split('=')[1]);
  expect(named('vendor.com/net=tun')).toEqual(['tun']);
  expect(named('vendor.com/net')).toEqual(['zero']);
  expect(named('vendor.com/net=*')).toEqual(['zero', 'tun']);
  expect(named('tunnel')).toEqual(['tun']);
  expect([...named('vendor.com/net=no'), ...named('other.com/net'), ...named('net')]).toEqual([]);
});

it.skipIf(!CAN_SANDBOX)(
  'a device of the machine can be opened where the spec names it, and nowhere else',
  async () => {
    const box = Box.make();
    try {
      // 10:229 is /dev/fuse: nothing happens where it is merely opened.
      const script = 'mknod /tmp/fuse c 10 229; cat /tmp/fuse 2>&1';
      const rule = { type: 'char', major: 10, minor: 229 } as const;
      expect((await box.sh(script)).stdout).toContain('Operation not permitted');
      const other = await box.sh(script, { devices: [{ ...rule, minor: 228 }] });
      expect(other.stdout).toContain('Operation not permitted');
      const opened = await box.sh(script, { devices: [{ ...rule, type: 'block' }, rule] });
      expect(opened.stdout).not.toContain("can't open");
      const mounts = [
        { type: 'bind', source: '/dev/null' as HostPath, target: 'dev/other' as never, readonly: false },
      ] as const;
      expect((await box.sh('echo x > /dev/other; stat -c %F /dev/other', { mounts })).stdout).toBe(
        'character special file\n',
      );
    } finally {
      box.remove();
    }
  },
);
