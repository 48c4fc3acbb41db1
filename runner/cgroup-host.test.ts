import { describe, expect, it } from 'vitest';
import { findCgroups } from './cgroup-host.ts';

function machine(files: Readonly<Record<string, string>>) {
  return findCgroups((path) => {
    const text = files[path];
    if (text === undefined) throw new Error(`no ${path} on this machine`);
    return text;
  });
}

describe('findCgroups', () => {
  it('version 2 alone (systemd): all controllers at the mount', () => {
    const host = machine({
      '/proc/self/mountinfo':
        '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n',
      '/proc/self/cgroup': '0::/user.slice/user-0.slice/session-1.scope\n',
      '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory hugetlb pids rdma misc\n',
    });
    expect(host.v1.size).toBe(0);
    expect(host.v2?.folder).toBe('/sys/fs/cgroup');
    expect(host.v2?.controllers.has('memory')).toBe(true);
  });

  it('version 1 with several controllers in one hierarchy, and an empty version 2 beside it', () => {
    const host = machine({
      '/proc/self/mountinfo': [
        '34 32 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
        '36 32 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:13 - cgroup cgroup rw,cpu,cpuacct',
        '37 32 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
        '38 32 0:33 / /odd\\040place rw - cgroup cgroup rw,pids',
      ].join('\n'),
      '/proc/self/cgroup': '7:cpu,cpuacct:/\n6:memory:/a/b\n5:pids:/x\n0::/\n',
      '/sys/fs/cgroup/unified/cgroup.controllers': '\n',
    });
    expect(Object.fromEntries(host.v1)).toEqual({
      cpu: '/sys/fs/cgroup/cpu,cpuacct',
      memory: '/sys/fs/cgroup/memory/a/b',
      pids: '/odd place/x',
    });
    expect(host.v2?.controllers.has('memory')).toBe(false);
  });

  it('in a container of version 1 the mount shows the own cgroup as its root', () => {
    const host = machine({
      '/proc/self/mountinfo': '37 32 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n',
      '/proc/self/cgroup': '6:memory:/docker/abc/inner\n5:cpu:/docker/abc\n',
    });
    expect(Object.fromEntries(host.v1)).toEqual({ memory: '/sys/fs/cgroup/memory/inner' });
    expect(host.v2).toBeUndefined();
  });

  it('a path outside of the cgroup namespace gives way to the mount', () => {
    const host = machine({
      '/proc/self/mountinfo': '37 32 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n',
      '/proc/self/cgroup': '6:memory:/../other\n',
    });
    expect(host.v1.get('memory')).toBe('/sys/fs/cgroup/memory');
  });
});
