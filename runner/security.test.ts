import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HostPath, imagePath, type SandboxSpec } from '../core/index.ts';
import { locateNative } from './native-program.ts';
import { Box, CAN_SANDBOX, childProcesses, endServer } from './testing/box.ts';

describe.skipIf(!CAN_SANDBOX)('the sandbox against a hostile program', () => {
  let box: Box;
  let secret: string;

  beforeAll(() => {
    box = Box.make({ attack: true });
    secret = join(box.folder, 'secret');
    writeFileSync(secret, 'host secret');
  });
  afterAll(() => box.remove());

  it.each([
    ['mount', 'EPERM'],
    ['umount', 'EPERM'],
    ['remount', 'EPERM'],
    ['fsopen', 'EPERM'],
    ['pivot_root', 'EPERM'],
    ['unshare-user', 'EPERM'],
    ['unshare-mount', 'EPERM'],
    ['setns', 'EPERM'],
    ['clone-user', 'EPERM'],
    ['clone3', 'ENOSYS'],
    ['init_module', 'EPERM'],
    ['finit_module', 'EPERM'],
    ['bpf', 'EPERM'],
    ['keyctl', 'EPERM'],
    ['add_key', 'EPERM'],
    ['io_uring', 'EPERM'],
    ['perf', 'EPERM'],
    ['userfaultfd', 'EPERM'],
    ['kexec', 'EPERM'],
    ['reboot', 'EPERM'],
    ['swapon', 'EPERM'],
    ['settime', 'EPERM'],
    ['sethostname', 'EPERM'],
    ['open_by_handle', 'EPERM'],
    ['vsock', 'EPERM'],
    ['alg', 'EPERM'],
    ['personality', 'EPERM'],
    ['old-unknown-call', 'EPERM'],
    ['new-call', 'ENOSYS'],
    ['inet', 'ok'],
    ['personality-ok', 'ok'],
    ['chroot', 'ok'],
  ])('seccomp answers %s with %s, as Docker does', async (name, answer) => {
    expect(await box.attack(name)).toBe(answer);
  });

  it.runIf(process.arch === 'x64').each([
    ['x32', 'ENOSYS'],
    ['i386-getpid', 'ok'],
    ['i386-unshare', 'EPERM'],
    ['i386-mount', 'EPERM'],
  ])('the policy holds in the other ABIs of the machine: %s gives %s', async (name, answer) => {
    expect(await box.attack(name)).toBe(answer);
  });

  it('mount and unshare are refused by missing capabilities alone, were seccomp not there', async () => {
    const { stdout } = await box.sh('grep -E "^(Cap|Seccomp:|NoNewPrivs)" /proc/self/status');
    expect(stdout).toBe(
      [
        'CapInh:\t0000000000000000',
        'CapPrm:\t00000000a80425fb',
        'CapEff:\t00000000a80425fb',
        'CapBnd:\t00000000a80425fb',
        'CapAmb:\t0000000000000000',
        'NoNewPrivs:\t0',
        'Seccomp:\t2',
        '',
      ].join('\n'),
    );
  });

  it('another user has no capability but keeps the bounding set, and only the groups of the spec', async () => {
    const user = { uid: 1000, gid: 1001, additionalGids: [7, 8] };
    const { stdout } = await box.sh(
      'grep -E "^(Uid|Gid|Groups|CapPrm|CapEff|CapBnd|CapAmb)" /proc/self/status',
      { user },
    );
    expect(stdout).toContain('Uid:\t1000\t1000\t1000\t1000\n');
    expect(stdout).toContain('Gid:\t1001\t1001\t1001\t1001\n');
    expect(stdout).toMatch(/Groups:\s7 8\s/);
    expect(stdout).toMatch(/CapPrm:\t0{16}\nCapEff:\t0{16}\nCapBnd:\t00000000a80425fb\nCapAmb:\t0{16}/);
  });

  it('noNewPrivileges is set by spec only', async () => {
    const { stdout } = await box.sh('grep NoNewPrivs /proc/self/status', { noNewPrivileges: true });
    expect(stdout).toBe('NoNewPrivs:\t1\n');
  });

  it('insecure takes the restrictions away, so that the other tests measure something', async () => {
    expect(await box.attack('mount', '', { security: 'insecure' })).toBe('ok');
    expect(await box.attack('unshare-user', '', { security: 'insecure' })).toBe('ok');
  });

  it.each([['ptrace-init'], ['read-init'], ['init-exe'], ['init-root'], ['init-fd']])(
    'process 1 is out of reach: %s',
    async (name) => {
      expect(await box.attack(name)).toMatch(/^(EPERM|EACCES)$/);
    },
  );

  it('the raw disk can be named by mknod but not opened', async () => {
    const device = statSync('/').dev;
    const number = `${(device >> 8) & 0xfff}:${device & 0xff}`;
    expect(await box.attack('raw-disk', number)).toBe('EPERM');
    expect(await box.attack('kmem')).toBe('EPERM');
    expect(await box.attack('own-null')).toBe('ok');
    rmSync(join(box.upper, 'disk'));
    rmSync(join(box.upper, 'kmem'));
  });

  it('a host file cannot be read by its path, by .. or out of a chroot', async () => {
    const up = `${'../'.repeat(40)}${secret.slice(1)}`;
    const { stdout } = await box.sh(
      `cat ${secret} /${up} /proc/self/root/${up} /proc/self/cwd/${up} 2>/dev/null; echo end`,
    );
    expect(stdout).toBe('end\n');
    expect(await box.attack('chroot-escape', secret)).toBe('ENOENT');
    rmSync(join(box.upper, 'jail'), { recursive: true });
  });

  it('only the processes of the sandbox are seen, and no mount of the host', async () => {
    const { stdout } = await box.sh('ls -d /proc/[0-9]*; echo --; cat /proc/self/mountinfo');
    const [processes = '', mounts = ''] = stdout.split('--\n');
    expect(processes.trim().split('\n').length).toBeLessThanOrEqual(3);
    expect(mounts).not.toContain(' /proc/sys/fs/binfmt_misc ');
    for (const line of mounts.trim().split('\n')) expect(line).not.toMatch(/(shared|master):/);
  });

  it('kernel settings cannot be written', async () => {
    for (const path of [
      '/proc/sys/kernel/hostname',
      '/proc/sysrq-trigger',
      '/proc/irq/default_smp_affinity',
      '/sys/kernel/mm/ksm/run',
    ]) {
      expect(await box.attack('write', path)).toMatch(/^(EROFS|EACCES|ENOENT)$/);
    }
    expect(await box.attack('write', '/proc/sys/vm/drop_caches')).toBe('EROFS');
  });

  it('masked paths show nothing', async () => {
    const paths = [
      '/proc/kcore',
      '/proc/keys',
      '/proc/timer_list',
      '/proc/interrupts',
      '/proc/sched_debug',
      '/proc/latency_stats',
    ];
    const { stdout } = await box.sh(
      `for f in ${paths.join(' ')}; do [ -e $f ] && head -c 10 $f; done; ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v :`,
    );
    expect(stdout.trim()).toBe('');
  });

  it('cgroup files are shown but cannot be changed', async () => {
    const { stdout } = await box.sh(
      'find /sys/fs/cgroup -name cgroup.procs -o -name release_agent | while read f; do (echo 0 > $f) 2>/dev/null && echo "wrote $f"; done; echo end',
    );
    expect(stdout).toBe('end\n');
  });

  it('descriptors of the caller are not passed on', async () => {
    const { stdout } = await box.sh('ls /proc/$$/fd; true');
    expect(stdout).toBe('0\n1\n2\n');
  });

  it('input cannot be put into a terminal', async () => {
    expect(await box.attack('tiocsti')).toMatch(/^(EPERM|EIO|ENOTTY)$/);
  });

  it('the own file of the native program cannot be overwritten by whoever got hold of /proc/PID/exe', async () => {
    const copy = join(box.folder, 'varve-native');
    copyFileSync(locateNative(), copy);
    const other = Box.make({ nativeProgram: copy });
    try {
      const started = await other.runner.start(other.spec({ args: ['sleep', '60'] }), { mode: 'pipe' });
      const supervisor = childProcesses().find(
        (pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'varve-sandbox\n',
      );
      const held = openSync(`/proc/${supervisor}/exe`, 'r');
      started.signal('SIGKILL');
      await started.outcome;
      await endServer(copy);
      // Nothing runs it any more, so "text file busy" is no protection now.
      expect(() => openSync(`/proc/self/fd/${held}`, 'r+')).toThrow(/EROFS/);
      closeSync(held);
      closeSync(openSync(copy, 'r+'));
    } finally {
      other.remove();
    }
  });

  it('/proc/self/exe as the program starts nothing but a message', async () => {
    const ran = await box.run(['/proc/self/exe']);
    expect(ran.outcome).toEqual({ kind: 'exited', code: 2 });
  });

  describe('with an image that lays traps', () => {
    const trap = async (
      lay: (lower: string) => void,
      changes: Partial<SandboxSpec> = {},
      script = 'true',
    ) => {
      const trapped = Box.make();
      try {
        lay(trapped.lower);
        return { ran: await trapped.sh(script, changes), left: trapped.left() };
      } finally {
        trapped.remove();
      }
    };

    it.each(['proc', 'sys', 'dev'])('a symlink in place of /%s is refused', async (name) => {
      await expect(trap((lower) => symlinkSync('/tmp', join(lower, name)))).rejects.toMatchObject({
        code: 'sandbox-setup',
        message: expect.stringContaining('symbolic link'),
      });
    });

    it('an absolute symlink as mount target leads into the image, not to the host', async () => {
      const target = join(box.folder, 'host-target');
      mkdirSync(target);
      const { ran } = await trap(
        (lower) => symlinkSync(target, join(lower, 'data')),
        {
          mounts: [
            { type: 'bind', source: box.folder as HostPath, target: imagePath('data'), readonly: true },
          ],
        },
        `cat ${target}/secret`,
      );
      expect(ran.stdout).toBe('host secret');
    });

    it('/etc as a symlink to a host folder leaves the host folder alone', async () => {
      const hostEtc = join(box.folder, 'host-etc');
      mkdirSync(hostEtc);
      const { ran, left } = await trap(
        (lower) => symlinkSync(`../../../../../..${hostEtc}`, join(lower, 'etc')),
        {},
        'cat /etc/hostname',
      );
      expect(ran.stdout).toBe('box\n');
      expect(execFileSync('ls', ['-A', hostEtc]).toString()).toBe('');
      expect(left.filter((path) => path.includes('hostname'))).toEqual([]);
    });

    it('a working directory that is a symlink out of the image stays inside', async () => {
      const { ran } = await trap(
        (lower) => symlinkSync('../../../../../../..', join(lower, 'cwd')),
        { cwd: imagePath('cwd') },
        'pwd -P; ls -d bin',
      );
      expect(ran.stdout).toBe('/\nbin\n');
    });
  });

  it('a host folder mounted read-only cannot be written to, whoever tries', async () => {
    const mounts = [
      { type: 'bind', source: box.folder as HostPath, target: imagePath('mnt/host'), readonly: true },
    ] as const;
    const { stderr } = await box.sh('echo x > /mnt/host/secret; mount -o remount,rw /mnt/host', { mounts });
    expect(stderr).toMatch(/Read-only file system/);
    expect(readFileSync(secret, 'utf8')).toBe('host secret');
  });
});
