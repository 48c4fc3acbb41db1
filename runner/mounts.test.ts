import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HostPath, imagePath } from '../core/index.ts';
import { Box, CAN_SANDBOX } from './testing/box.ts';

describe.skipIf(!CAN_SANDBOX)("the sandbox's files", () => {
  let box: Box;
  beforeAll(() => {
    box = Box.make();
  });
  afterAll(() => box.remove());

  it('places made for mounts do not stay in the layer', async () => {
    await box.run(['true']);
    expect(box.left().filter((path) => /^(proc|sys|dev|etc)/.test(path))).toEqual([]);
  });

  it('what the program itself puts there stays', async () => {
    const other = Box.make();
    try {
      await other.sh('echo mine > /etc/passwd; mkdir -p /run/x');
      expect(other.left()).toEqual(['etc', 'etc/passwd', 'run', 'run/x']);
    } finally {
      other.remove();
    }
  });

  it('a folder of the image that got a stub is not a change afterwards', async () => {
    const other = Box.make();
    try {
      mkdirSync(join(other.lower, 'etc'));
      utimesSync(join(other.lower, 'etc'), 1000, 1000);
      const { stdout } = await other.sh('stat -c %Y /etc');
      expect(stdout).toBe('1000\n');
      expect(other.left()).toEqual([]);
      await other.sh('chmod 700 /etc');
      expect(other.left()).toEqual(['etc']);
      expect(statSync(join(other.upper, 'etc')).mode & 0o777).toBe(0o700);
    } finally {
      other.remove();
    }
  });

  it('folders above a place that was made are no change either, also when two places share them', async () => {
    const other = Box.make();
    try {
      mkdirSync(join(other.lower, 'usr/local/share'), { recursive: true });
      mkdirSync(join(other.lower, 'usr/local/lib'), { recursive: true });
      const tmpfs = (target: string) => ({ type: 'tmpfs', target: imagePath(target) }) as const;
      const mounts = [tmpfs('usr/local/share/a/cache'), tmpfs('usr/local/lib/b'), tmpfs('usr/local/share/c')];
      expect((await other.sh('ls /usr/local/share', { mounts })).stdout).toBe('a\nc\n');
      expect(other.left()).toEqual([]);
      await other.sh('echo x > /usr/local/share/a/kept', { mounts });
      expect(other.left()).toEqual([
        'usr',
        'usr/local',
        'usr/local/share',
        'usr/local/share/a',
        'usr/local/share/a/kept',
      ]);
    } finally {
      other.remove();
    }
  });

  it('a dangling resolv.conf link of the image gets its target for the time of the run', async () => {
    const other = Box.make();
    try {
      mkdirSync(join(other.lower, 'etc'));
      symlinkSync('../run/resolve/stub.conf', join(other.lower, 'etc/resolv.conf'));
      const { stdout } = await other.sh('cat /etc/resolv.conf', { network: 'host' });
      expect(stdout).toBe(readFileSync('/etc/resolv.conf', 'utf8'));
      expect(other.left()).toEqual([]);
    } finally {
      other.remove();
    }
  });

  it('binds, tmpfs and trees are mounted inside each other, outer ones first', async () => {
    const host = join(box.folder, 'data');
    mkdirSync(host, { recursive: true });
    writeFileSync(join(host, 'file'), 'bound');
    const { stdout } = await box.sh(
      'cat /a/b/c/file /a/tree/bin/busybox | head -c 5; grep -c " /a" /proc/mounts; touch /a/tree/x 2>&1',
      {
        mounts: [
          { type: 'bind', source: host as HostPath, target: imagePath('a/b/c'), readonly: true },
          { type: 'tmpfs', target: imagePath('a'), sizeBytes: 4096 * 64 },
          {
            type: 'tree',
            root: { type: 'directory', path: box.lower as HostPath, readonly: true },
            target: imagePath('a/tree'),
            readonly: true,
          },
        ],
      },
    );
    expect(stdout).toBe('bound3\ntouch: /a/tree/x: Read-only file system\n');
    expect(box.left().filter((path) => path.startsWith('a'))).toEqual([]);
  });

  it('a read-only root refuses writes, mounts on it do not', async () => {
    const { stdout } = await box.sh('touch /x 2>&1; touch /t/x && echo written; echo y > /dev/null', {
      readonlyRoot: true,
      mounts: [{ type: 'tmpfs', target: imagePath('t') }],
    });
    expect(stdout).toBe('touch: /x: Read-only file system\nwritten\n');
    expect(box.left().filter((path) => /^(x|t)$/.test(path))).toEqual([]);
  });

  it('the working directory is made where it is missing', async () => {
    const other = Box.make();
    try {
      expect((await other.sh('pwd', { cwd: imagePath('made/here') })).stdout).toBe('/made/here\n');
      expect(other.left()).toEqual(['made', 'made/here']);
    } finally {
      other.remove();
    }
  });

  it('/dev/shm has the size of the spec', async () => {
    const { stdout } = await box.sh('df -k /dev/shm | tail -1', { shmSizeBytes: 1024 * 1024 });
    expect(stdout).toMatch(/\b1024\b/);
  });

  it('a plain folder can be the root', async () => {
    const root = { type: 'directory', path: box.lower as HostPath, readonly: false } as const;
    expect((await box.sh('echo $0', { root })).stdout).toBe('sh\n');
    expect(existsSync(join(box.lower, 'proc'))).toBe(false);
  });
});

describe.skipIf(!CAN_SANDBOX)('mounts of RUN', () => {
  let box: Box;
  let tree: string;
  beforeAll(() => {
    box = Box.make();
    tree = join(box.folder, 'tree');
    mkdirSync(join(tree, 'in/deep'), { recursive: true });
    writeFileSync(join(tree, 'in/deep/file'), 'inside\n');
    symlinkSync('/in/deep', join(tree, 'absolute'));
    symlinkSync('/etc/shadow', join(tree, 'escape'));
  });
  afterAll(() => box.remove());
  const mountOf = (source: string, target: string) =>
    ({
      type: 'tree',
      root: { type: 'directory', path: tree as HostPath, readonly: true },
      source: imagePath(source),
      target: imagePath(target),
      readonly: true,
    }) as const;
  const fileAt = (target: string, content: string) =>
    ({
      type: 'file',
      target: imagePath(target),
      content: Buffer.from(content),
      mode: 0o400,
      uid: 7,
      gid: 8,
    }) as const;

  it('a part of a tree is mounted, a folder or a file, with symlinks resolved inside of the tree', async () => {
    const mounts = [mountOf('in/deep/file', 'a/b'), mountOf('absolute', 'c')];
    const { stdout } = await box.sh('cat /a/b /c/file; touch /c/x 2>&1; ls /dev | grep varve; ls -a /c', {
      mounts,
    });
    expect(stdout).toBe('inside\ninside\ntouch: /c/x: Read-only file system\n.\n..\nfile\n');
    expect(box.left()).toEqual([]);
  });

  it('a symlink in a tree leads to no file of the host', async () => {
    const other = Box.make();
    try {
      const reading = other.sh('cat /a', { mounts: [mountOf('escape', 'a')] });
      await expect(reading).rejects.toThrow(/source of a mount/);
      await expect(
        other.sh('cat /a', { mounts: [mountOf('../../../../etc/shadow', 'a')] }),
      ).rejects.toThrow();
    } finally {
      other.remove();
    }
  });

  it('a target under a symlink of the image, also a hostile one, lies inside of the root', async () => {
    const other = Box.make();
    try {
      const host = join(other.folder, 'host');
      mkdirSync(host);
      symlinkSync(`../../../../../..${host}`, join(other.lower, 'up'));
      symlinkSync(host, join(other.lower, 'out'));
      const mounts = [
        fileAt('up/secret', 'one'),
        fileAt('out/other/secret', 'two'),
        mountOf('in', 'out/tree'),
      ];
      const { stdout } = await other.sh(`cat /up/secret /out/other/secret ${host}/tree/deep/file`, {
        mounts,
      });
      expect(stdout).toBe('onetwoinside\n');
      expect(existsSync(join(host, 'secret')) || existsSync(join(host, 'other'))).toBe(false);
      // The folders that were made for the links' targets are gone with their mounts.
      expect(other.left()).toEqual([]);
    } finally {
      other.remove();
    }
  });

  it('a file in memory has its owner and mode, cannot be written, and lies on a tmpfs of its own', async () => {
    const content = `${'x'.repeat(300_000)}end`;
    const mounts = [fileAt('run/secrets/s', content)];
    const script =
      'stat -c "%a %u:%g %s" /run/secrets/s; tail -c 3 /run/secrets/s; echo; echo no > /run/secrets/s';
    const { stdout, stderr } = await box.sh(`${script}; grep " /run/secrets/s " /proc/mounts`, { mounts });
    expect(stdout).toMatch(/^400 7:8 300003\nend\ntmpfs \/run\/secrets\/s tmpfs ro,nosuid,nodev,noexec/);
    expect(stderr).toMatch(/Read-only file system/);
    expect(box.left()).toEqual([]);
  });

  it('a read-only tmpfs, and resource limits of the process', async () => {
    const mounts = [{ type: 'tmpfs', target: imagePath('t'), readonly: true }] as const;
    const ulimits = [
      { name: 'nofile', soft: 100, hard: 200 },
      { name: 'core', soft: 0, hard: -1 },
    ] as const;
    const { stdout } = await box.sh('touch /t/x 2>&1; ulimit -n; ulimit -Hn; ulimit -Hc', {
      mounts,
      ulimits,
    });
    expect(stdout).toBe('touch: /t/x: Read-only file system\n100\n200\nunlimited\n');
  });

  it('a tmpfs has the mode of the folder that it covers, and devices in it only where that is said', async () => {
    mkdirSync(join(box.lower, 'private'));
    chmodSync(join(box.lower, 'private'), 0o700);
    const tmpfs = (target: string) => ({ type: 'tmpfs', target: imagePath(target) }) as const;
    const mounts = [
      tmpfs('private'),
      tmpfs('new'),
      tmpfs('new'),
      tmpfs('new/inner'),
      { ...tmpfs('own'), mode: 0o750 },
      { ...tmpfs('nodes'), devices: true },
    ];
    const node = (folder: string) => `mknod ${folder}/null c 1 3; echo x 2>&1 > ${folder}/null && echo open;`;
    const script = `stat -c '%a' /private /new /new/inner /own; ${node('/nodes')} ${node('/new')}`;
    const { stdout } = await box.sh(`( ${script} ) 2>&1`, { mounts });
    expect(stdout).toMatch(/^700\n1777\n1777\n750\nopen\n.*\/new\/null: Permission denied\n$/);
  });

  it('a resource limit that nobody may have is told by its name', async () => {
    const ulimits = [{ name: 'nofile', soft: 1, hard: 2 ** 40 }] as const;
    await expect(box.sh('true', { ulimits })).rejects.toThrow(
      'cannot set this resource limit: nofile: EPERM',
    );
  });

  it('a target with a name that is too long is refused, and mounted nowhere else', async () => {
    const mounts = [{ type: 'tmpfs', target: imagePath('x'.repeat(300)) }] as const;
    await expect(box.sh('true', { mounts })).rejects.toThrow('ENAMETOOLONG');
  });

  it('a parent cgroup is joined where one is named, and loses the sandbox afterwards', async () => {
    const parent = `varve-test-${process.pid}`;
    const { stdout, outcome } = await box.sh('cat /proc/self/cgroup', { cgroupParent: parent });
    expect(outcome).toEqual({ kind: 'exited', code: 0 });
    expect(stdout).toContain('0::/');
    rmdirSync(join('/sys/fs/cgroup', existsSync('/sys/fs/cgroup/unified') ? 'unified' : '', parent));
  });
});
