import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type HostPath, imagePath } from '../core/index.ts';
import { Box, CAN_SANDBOX, childProcesses } from './testing/box.ts';

/** Names of running processes on the whole machine. */
function processNames(): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/comm`, 'utf8').trim()];
      } catch {
        // It ended while we looked.
        return [];
      }
    });
}

/** Folders of this process's sandboxes in all cgroup hierarchies. */
function cgroupFolders(pid: number = process.pid): readonly string[] {
  return execFileSync('find', ['/sys/fs/cgroup', '-path', `*/varve/*.${pid}.*`, '-type', 'd'])
    .toString()
    .split('\n')
    .filter(Boolean);
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error('waited in vain');
    await sleep(20);
  }
}

describe.skipIf(!CAN_SANDBOX)('createRunner', () => {
  let box: Box;
  beforeAll(() => {
    box = Box.make({ attack: true });
  });
  afterAll(() => box.remove());
  afterEach(() => {
    expect(cgroupFolders()).toEqual([]);
    expect(childProcesses()).toEqual([]);
    expect(readdirSync(box.folder).filter((name) => name.startsWith('varve-sandbox-'))).toEqual([]);
  });

  describe('outcome', () => {
    it.each([0, 1, 42, 125, 255])('exit code %i is reported as it is', async (code) => {
      expect((await box.sh(`exit ${code}`)).outcome).toEqual({ kind: 'exited', code });
    });

    it.each([
      ['SIGTERM', 15],
      ['SIGSEGV', 11],
      ['SIGKILL', 9],
      ['SIGABRT', 6],
    ] as const)('death by %s is a signal, not an exit code', async (signal, signalNumber) => {
      const { outcome } = await box.sh(`kill -${signalNumber} $$`);
      expect(outcome).toEqual({ kind: 'signaled', signal, signalNumber });
    });

    it('a program that is not there is 127 with the words of Docker', async () => {
      expect((await box.run(['no-such'])).outcome).toEqual({
        kind: 'not-started',
        code: 127,
        message: 'exec: "no-such": executable file not found in $PATH',
      });
      expect((await box.run(['/no/such'])).outcome).toEqual({
        kind: 'not-started',
        code: 127,
        message: 'exec: "/no/such": stat /no/such: no such file or directory',
      });
    });

    it('a file that cannot be executed is 126', async () => {
      writeFileSync(join(box.lower, 'plain'), 'text', { mode: 0o644 });
      writeFileSync(join(box.lower, 'garbage'), 'no program', { mode: 0o755 });
      writeFileSync(join(box.lower, 'orphan'), '#!/no/shell\n', { mode: 0o755 });
      const message = async (program: string) => (await box.run([program])).outcome;
      expect(await message('/plain')).toEqual({
        kind: 'not-started',
        code: 126,
        message: 'exec: "/plain": permission denied',
      });
      expect(await message('/bin')).toEqual({
        kind: 'not-started',
        code: 126,
        message: 'exec: "/bin": is a directory: permission denied',
      });
      expect(await message('/garbage')).toEqual({
        kind: 'not-started',
        code: 126,
        message: 'exec: "/garbage": exec format error',
      });
      expect(await message('/orphan')).toEqual({
        kind: 'not-started',
        code: 127,
        message: 'exec: "/orphan": no such file or directory',
      });
    });

    it('timeoutMs ends a program that ignores signals', async () => {
      const { outcome } = await box.sh(
        'trap "" TERM INT HUP; while :; do sleep 1; done',
        {},
        { timeoutMs: 200 },
      );
      expect(outcome).toEqual({ kind: 'timed-out' });
    });

    it('an abort cancels, also one that came before the start', async () => {
      const abort = new AbortController();
      setTimeout(() => abort.abort(), 150);
      expect((await box.run(['sleep', '60'], {}, { signal: abort.signal })).outcome).toEqual({
        kind: 'cancelled',
      });
      expect((await box.run(['true'], {}, { signal: abort.signal })).outcome).toEqual({ kind: 'cancelled' });
    });

    it('a set-up that fails rejects with a MachineError that names the place', async () => {
      const mounts = [
        { type: 'bind', source: '/no/such/source' as HostPath, target: imagePath('x'), readonly: true },
      ] as const;
      await expect(box.run(['true'], { mounts })).rejects.toMatchObject({
        code: 'sandbox-setup',
        message: expect.stringContaining('/no/such/source: ENOENT'),
      });
    });
  });

  describe('streams', () => {
    it('200 MB arrive complete and in order', async () => {
      const size = 200 * 1024 * 1024;
      const hash = createHash('sha256');
      let bytes = 0;
      const script = `dd if=/dev/zero bs=1M count=200 2>/dev/null | tr '\\0' 'x'`;
      const { outcome } = await box.sh(
        script,
        {},
        {
          io: {
            onOutput: (stream, chunk) => {
              if (stream !== 'stdout') return;
              hash.update(chunk);
              bytes += chunk.length;
            },
          },
        },
      );
      expect(outcome).toEqual({ kind: 'exited', code: 0 });
      expect(bytes).toBe(size);
      const expected = createHash('sha256');
      const block = Buffer.alloc(1024 * 1024, 'x');
      for (let i = 0; i < 200; i++) expected.update(block);
      expect(hash.digest('hex')).toBe(expected.digest('hex'));
    });

    it('what a program writes last is not lost when it dies', async () => {
      for (let i = 0; i < 20; i++) {
        const { stdout, stderr } = await box.sh('echo out; echo err >&2; kill -9 $$');
        expect([stdout, stderr]).toEqual(['out\n', 'err\n']);
      }
    });

    it('the two streams are kept apart, and /dev/stdout can be opened again by another user', async () => {
      const user = { uid: 1000, gid: 1000, additionalGids: [] };
      const ran = await box.sh(
        'echo one > /dev/stdout; echo two > /dev/stderr; echo three > /proc/self/fd/1',
        { user },
      );
      expect([ran.stdout, ran.stderr]).toEqual(['one\nthree\n', 'two\n']);
    });

    it('a slow reader makes the program wait', async () => {
      let most = 0;
      const ran = await box.sh(
        'i=0; while [ $i -lt 400 ]; do head -c 1000 /dev/zero; i=$((i+1)); date +%s%N >&2; done',
        {},
        {
          io: {
            onOutput: (stream, chunk) => {
              if (stream !== 'stdout') return;
              most = Math.max(most, chunk.length);
              const end = Date.now() + 2;
              while (Date.now() < end);
            },
          },
        },
      );
      expect(ran.outcome).toEqual({ kind: 'exited', code: 0 });
      expect(most).toBeLessThanOrEqual(1024 * 1024);
    });

    it('standard input arrives, ends, and is /dev/null where none is given', async () => {
      async function* source() {
        for (let i = 0; i < 300; i++) yield Buffer.alloc(10_000, 'y');
      }
      expect((await box.sh('wc -c', {}, { io: { stdin: source() } })).stdout.trim()).toBe('3000000');
      expect((await box.sh('readlink /proc/self/fd/0; cat')).stdout).toBe('/dev/null\n');
    });

    it('a program that never reads its input ends all the same', async () => {
      async function* endless() {
        for (;;) {
          yield Buffer.alloc(65536, 'n');
          await sleep(1);
        }
      }
      expect((await box.sh('exit 7', {}, { io: { stdin: endless() } })).outcome).toEqual({
        kind: 'exited',
        code: 7,
      });
    });

    it('standard input that fails ends the sandbox and is what the outcome rejects with', async () => {
      async function* broken() {
        yield Buffer.from('x');
        throw new Error('source broke');
      }
      await expect(box.run(['sleep', '60'], {}, { io: { stdin: broken() } })).rejects.toThrow('source broke');
    });
  });

  describe('terminal', () => {
    it('the program has a controlling terminal whose size follows resize', async () => {
      const chunks: Uint8Array[] = [];
      const text = () => Buffer.concat(chunks).toString();
      const input = new TransformStream<Uint8Array, Uint8Array>();
      const writer = input.writable.getWriter();
      const started = await box.runner.start(
        box.spec({
          args: ['sh', '-c', 'tty; ls /dev/pts; read x; stty size; echo "got $x"; (echo ctty > /dev/tty)'],
        }),
        { mode: 'terminal', stdin: input.readable, onOutput: (_stream, chunk) => chunks.push(chunk) },
      );
      started.resize({ columns: 123, rows: 45 });
      await until(() => text().includes('ptmx'));
      await writer.write(Buffer.from('line\n'));
      expect(await started.outcome).toEqual({ kind: 'exited', code: 0 });
      expect(text()).toContain('/dev/pts/0');
      expect(text()).toContain('45 123\r\ngot line\r\nctty\r\n');
    });

    it('Ctrl-C in the terminal reaches the program', async () => {
      const input = new TransformStream<Uint8Array, Uint8Array>();
      const writer = input.writable.getWriter();
      let seen = '';
      const started = await box.runner.start(box.spec({ args: ['sh', '-c', 'echo ready; exec sleep 60'] }), {
        mode: 'terminal',
        stdin: input.readable,
        onOutput: (_stream, chunk) => {
          seen += Buffer.from(chunk).toString();
        },
      });
      await until(() => seen.includes('ready'));
      await sleep(50);
      await writer.write(Buffer.from('\x03'));
      expect(await started.outcome).toEqual({ kind: 'signaled', signal: 'SIGINT', signalNumber: 2 });
    });
  });

  describe('processes', () => {
    it('signals are passed on to the program', async () => {
      let seen = '';
      const started = await box.runner.start(
        box.spec({
          args: ['sh', '-c', 'trap "echo usr1; exit 5" USR1; echo ready; while :; do sleep 0.05; done'],
        }),
        {
          mode: 'pipe',
          onOutput: (_stream, chunk) => {
            seen += Buffer.from(chunk).toString();
          },
        },
      );
      await until(() => seen.includes('ready'));
      started.signal('SIGUSR1');
      expect(await started.outcome).toEqual({ kind: 'exited', code: 5 });
      expect(seen).toContain('usr1');
    });

    it('orphans are reaped', async () => {
      expect(await box.attack('reaped')).toBe('ok');
    });

    it('a daemon in a session of its own that ignores every signal dies with the program', async () => {
      const { outcome } = await box.run(['attack', 'daemon', 'sbx-daemon-a']);
      expect(outcome).toEqual({ kind: 'exited', code: 0 });
      expect(processNames()).not.toContain('sbx-daemon-a');
    });

    it('a daemon dies on cancel too', async () => {
      const abort = new AbortController();
      const started = await box.runner.start(
        box.spec({ args: ['sh', '-c', 'attack daemon sbx-daemon-b & exec sleep 60'] }),
        { mode: 'pipe' },
        { signal: abort.signal },
      );
      await until(() => processNames().includes('sbx-daemon-b'));
      abort.abort();
      expect(await started.outcome).toEqual({ kind: 'cancelled' });
      expect(processNames()).not.toContain('sbx-daemon-b');
    });
  });

  describe('limits', () => {
    it('a fork bomb stops at the pids limit', async () => {
      const { stdout } = await box.run(['attack', 'fork-bomb'], { limits: { pids: 20 } });
      expect(stdout).toBe('19 children, then fork-bomb EAGAIN\n');
    });

    it('a memory hog is killed and reported as out of memory', async () => {
      const limits = { memoryBytes: 32 * 1024 * 1024, memorySwapBytes: 32 * 1024 * 1024 };
      expect((await box.run(['attack', 'memory'], { limits })).outcome).toEqual({ kind: 'out-of-memory' });
      expect((await box.sh('attack memory; exit $?', { limits })).outcome).toEqual({ kind: 'out-of-memory' });
      // A program that deals with its child's death ends as it says.
      expect((await box.sh('attack memory; exit 3', { limits })).outcome).toEqual({
        kind: 'exited',
        code: 3,
      });
    });

    it('a SIGKILL under a memory limit that was not reached is no out-of-memory', async () => {
      const limits = { memoryBytes: 64 * 1024 * 1024 };
      const { outcome } = await box.sh('kill -9 $$', { limits });
      expect(outcome).toEqual({ kind: 'signaled', signal: 'SIGKILL', signalNumber: 9 });
    });

    it('cpus and cpuset hold', async () => {
      const { stdout } = await box.sh('grep Cpus_allowed_list /proc/self/status', {
        limits: { cpusetCpus: '1' },
      });
      expect(stdout).toBe('Cpus_allowed_list:\t1\n');
      const script =
        'i=0; while [ $i -lt 40 ]; do i=$((i+1)); head -c 3000000 /dev/zero | md5sum >/dev/null; done';
      const seconds = async (cpus: number) => {
        const begun = performance.now();
        await box.sh(script, { limits: { cpus, cpuShares: 512 } });
        return performance.now() - begun;
      };
      expect(await seconds(0.1)).toBeGreaterThan(2 * (await seconds(2)));
    });

    it('a limit that the machine cannot keep is refused by its name, and nothing is left behind', async () => {
      await expect(box.run(['true'], { limits: { cpusetCpus: '4095' } })).rejects.toMatchObject({
        code: 'limit-unsupported',
        message: expect.stringContaining('--cpuset-cpus'),
      });
    });
  });

  describe('network and names', () => {
    it('none: loopback only, and it is up', async () => {
      const { stdout } = await box.sh('ls /sys/class/net; ip -o addr show lo; cat /etc/resolv.conf');
      expect(stdout).toMatch(/^lo\n/);
      expect(stdout).toContain('inet 127.0.0.1/8');
      expect(stdout).not.toContain('nameserver');
    });

    it("host: the machine's interfaces and its resolv.conf", async () => {
      const { stdout } = await box.sh('readlink /proc/self/ns/net; cat /etc/resolv.conf', {
        network: 'host',
      });
      const own = execFileSync('readlink', ['/proc/self/ns/net']).toString();
      expect(stdout).toBe(own + readFileSync('/etc/resolv.conf', 'utf8'));
    });

    it('hostname and extra hosts', async () => {
      const { stdout } = await box.sh('hostname; cat /etc/hostname /etc/hosts', {
        hostname: 'some-host',
        extraHosts: [{ name: 'db', address: '10.1.2.3' }],
      });
      expect(stdout).toMatch(/^some-host\nsome-host\n127\.0\.0\.1\tlocalhost\n/);
      expect(stdout).toContain('10.1.2.3\tdb\n');
    });
  });
});
