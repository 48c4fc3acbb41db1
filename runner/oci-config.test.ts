import { describe, expect, it } from 'vitest';
import {
  DEFAULT_SHM_BYTES,
  type HostPath,
  imagePath,
  ROOT_PATH,
  ROOT_USER,
  type SandboxSpec,
} from '../core/index.ts';
import { capabilitiesOf, DEFAULT_CAPABILITIES } from './docker-defaults.ts';
import { type Json, toOciConfig } from './oci-config.ts';

const SPEC: SandboxSpec = {
  root: { type: 'directory', path: '/r' as HostPath, readonly: false },
  readonlyRoot: true,
  mounts: [],
  args: ['sh'],
  env: ['A=b'],
  cwd: ROOT_PATH,
  user: ROOT_USER,
  hostname: 'box',
  network: 'none',
  extraHosts: [],
  limits: {},
  shmSizeBytes: DEFAULT_SHM_BYTES,
  security: 'default',
  noNewPrivileges: false,
  id: 'x',
};
const BUNDLE = {
  rootPath: '/mounted',
  mounts: [],
  treePaths: new Map<string, string>(),
  cgroupsPath: '/c',
  architecture: 'x64' as const,
  ownCapabilities: ['CAP_SYS_ADMIN'],
};

/** The value at a path of keys and indexes. */
function at(value: Json, ...path: readonly (string | number)[]): Json | undefined {
  let here: Json | undefined = value;
  for (const key of path) {
    const entries: readonly (readonly [string, Json])[] =
      typeof here === 'object' && here !== null ? Object.entries(here) : [];
    here = entries.find(([name]) => name === String(key))?.[1];
  }
  return here;
}

describe('toOciConfig', () => {
  it('root, names and network follow the spec', () => {
    const config = toOciConfig(SPEC, BUNDLE);
    expect(at(config, 'root')).toEqual({ path: '/mounted', readonly: true });
    expect(at(config, 'hostname')).toBe('box');
    expect(JSON.stringify(at(config, 'linux', 'namespaces'))).toContain('network');
    const shared = toOciConfig({ ...SPEC, network: 'host' }, BUNDLE);
    expect(JSON.stringify(at(shared, 'linux', 'namespaces'))).not.toContain('network');
  });

  it('capabilities are in force for root only, and never inheritable', () => {
    expect(at(toOciConfig(SPEC, BUNDLE), 'process', 'capabilities', 'effective')).toHaveLength(14);
    const user = { uid: 7, gid: 7, additionalGids: [] };
    const other = toOciConfig({ ...SPEC, user }, BUNDLE);
    expect(at(other, 'process', 'capabilities', 'effective')).toEqual([]);
    expect(at(other, 'process', 'capabilities', 'bounding')).toHaveLength(14);
    expect(at(other, 'process', 'capabilities', 'inheritable')).toEqual([]);
  });

  it('insecure drops policy, masks and capability limits', () => {
    const config = toOciConfig({ ...SPEC, security: 'insecure' }, BUNDLE);
    expect(at(config, 'linux', 'seccomp')).toBeUndefined();
    expect(at(config, 'linux', 'maskedPaths')).toEqual([]);
    expect(at(config, 'process', 'capabilities', 'effective')).toEqual(['CAP_SYS_ADMIN']);
  });

  it('limits are in the units of the runtime', () => {
    const limits = { memoryBytes: 100, cpus: 0.5, cpuShares: 7, cpusetCpus: '1', pids: 9 };
    const resources = at(toOciConfig({ ...SPEC, limits }, BUNDLE), 'linux', 'resources') ?? null;
    expect(at(resources, 'memory')).toEqual({ limit: 100, swap: 200 });
    expect(at(resources, 'cpu')).toEqual({ quota: 50_000, period: 100_000, shares: 7, cpus: '1' });
    expect(at(resources, 'pids')).toEqual({ limit: 9 });
  });

  it('each kind of mount becomes one entry, trees at the place where they were mounted', () => {
    const root = { type: 'directory', path: '/t' as HostPath, readonly: true } as const;
    const config = toOciConfig(SPEC, {
      ...BUNDLE,
      treePaths: new Map([['t', '/mounted-tree']]),
      mounts: [
        { type: 'bind', source: '/s' as HostPath, target: imagePath('b'), readonly: true },
        { type: 'tmpfs', target: imagePath('m'), sizeBytes: 4096, mode: 0o700 },
        { type: 'tmpfs', target: imagePath('n'), devices: true },
        { type: 'tree', root, target: imagePath('t'), readonly: false },
      ],
    });
    const mounts = at(config, 'mounts');
    expect(Array.isArray(mounts) ? mounts.slice(-4) : mounts).toEqual([
      { destination: '/b', type: 'bind', source: '/s', options: ['rbind', 'rprivate', 'ro'] },
      {
        destination: '/m',
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['nosuid', 'nodev', 'mode=700', 'size=4096'],
      },
      { destination: '/n', type: 'tmpfs', source: 'tmpfs', options: ['nosuid'] },
      { destination: '/t', type: 'bind', source: '/mounted-tree', options: ['rbind', 'rprivate', 'rw'] },
    ]);
  });
});

describe('capabilitiesOf', () => {
  it('the default set is what proc shows of it', () => {
    expect(capabilitiesOf('00000000a80425fb').toSorted()).toEqual(DEFAULT_CAPABILITIES.toSorted());
    expect(capabilitiesOf('0000000000000000')).toEqual([]);
    expect(capabilitiesOf('000001ffffffffff')).toHaveLength(41);
  });
});
