import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { HostPath } from '../core/index.ts';
import { devicesNamed, editsOf, readDevices } from './cdi.ts';
import { Box, CAN_SANDBOX } from './testing/box.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-cdi-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const SPECIFICATION = {
  cdiVersion: '0.6.0',
  kind: 'vendor.com/net',
  annotations: { 'org.mobyproject.buildkit.device.autoallow': 'true' },
  containerEdits: { env: ['ALL=1'], additionalGids: [0, 44] },
  devices: [
    {
      name: 'zero',
      annotations: { 'org.mobyproject.buildkit.device.autoallow': false },
      containerEdits: { env: ['ZERO=1'], deviceNodes: [{ path: '/dev/null0', hostPath: '/dev/null' }] },
    },
    {
      name: 'tun',
      annotations: { 'org.mobyproject.buildkit.device.class': 'tunnel' },
      containerEdits: {
        mounts: [{ hostPath: '/etc', containerPath: '/host', options: ['ro'] }],
        hooks: [{ hookName: 'createContainer', path: '/bin/x', args: ['x', 'y'], env: ['A=1'], timeout: 5 }],
      },
    },
    { name: 'gone', containerEdits: { deviceNodes: [{ path: '/dev/nothing-here' }] } },
    { name: 'odd', containerEdits: { hooks: [{ hookName: 'beforeAll', path: '/bin/x' }] } },
  ],
};
const write = (name: string, content: unknown): void =>
  writeFileSync(join(folder, name), JSON.stringify(content));

describe('readDevices', () => {
  it('gives devices by name; those of a later folder win, and what cannot be read is told and left out', async () => {
    write('a.json', SPECIFICATION);
    write('bad.json', { kind: 'net', devices: [] });
    writeFileSync(join(folder, 'bad.yaml'), '{');
    const later = join(folder, 'later');
    mkdirSync(later);
    writeFileSync(
      join(later, 'b.yaml'),
      'kind: vendor.com/net\ndevices:\n  - name: tun\n    containerEdits: {env: [LATER=1]} # in YAML\n',
    );
    const { devices, faults } = await readDevices([folder, join(folder, 'none'), later]);
    expect(devices.map(({ name, isForAll }) => `${name} ${isForAll}`)).toEqual([
      'vendor.com/net=gone true',
      'vendor.com/net=odd true',
      'vendor.com/net=tun false',
      'vendor.com/net=zero false',
    ]);
    expect(faults).toEqual([
      `${folder}/bad.json: its kind is no vendor/class`,
      expect.stringContaining(`${folder}/bad.yaml: `),
    ]);
    expect(devices.slice(2).map(editsOf)).toEqual([
      { env: ['LATER=1'], mounts: [], rules: [], hooks: [], additionalGids: [] },
      {
        env: ['ALL=1', 'ZERO=1'],
        mounts: [{ type: 'bind', source: '/dev/null', target: 'dev/null0', readonly: false }],
        rules: [{ type: 'char', major: 1, minor: 3 }],
        hooks: [],
        additionalGids: [44],
      },
    ]);
  });
});

describe('editsOf', () => {
  it('has mounts and hooks', async () => {
    write('a.json', SPECIFICATION);
    const { devices } = await readDevices([folder]);
    const [device] = devicesNamed('vendor.com/net=tun', devices);
    expect(device === undefined ? undefined : editsOf(device)).toMatchObject({
      mounts: [{ type: 'bind', source: '/etc', target: 'host', readonly: true }],
      hooks: [
        { stage: 'createContainer', path: '/bin/x', args: ['x', 'y'], env: ['A=1'], timeoutSeconds: 5 },
      ],
    });
  });

  it.each([
    ['gone', 'is not there (ENOENT)'],
    ['odd', '"beforeAll" is no hook that an OCI runtime knows'],
  ])('refuses %s: it %s', async (name, message) => {
    write('a.json', SPECIFICATION);
    const { devices } = await readDevices([folder]);
    const [device] = devicesNamed(`vendor.com/net=${name}`, devices);
    expect(() => device !== undefined && editsOf(device)).toThrow(message);
  });
});

it('devicesNamed: one, the first of a kind, all of a kind, all of a class', async () => {
  write('a.json', SPECIFICATION);
  const { devices } = await readDevices([folder]);
  const named = (name: string) => devicesNamed(name, devices).map((device) => device.name.split('=')[1]);
  expect(named('vendor.com/net=tun')).toEqual(['tun']);
  expect(named('vendor.com/net')).toEqual(['gone']);
  expect(named('vendor.com/net=*')).toEqual(['gone', 'odd', 'tun', 'zero']);
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
