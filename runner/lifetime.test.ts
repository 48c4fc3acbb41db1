import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findCgroups } from './cgroup-host.ts';
import { Box, CAN_SANDBOX, childProcesses, machineMounts, serverProcess } from './testing/box.ts';

const RUN_AND_WAIT = `
  const { createRunner } = await import(process.argv[1]);
  const [spec, options] = JSON.parse(process.argv[2]);
  const started = await createRunner(options).start(spec, { mode: 'pipe' });
  console.log('started');
  await started.outcome;
`;

function isRunning(name: string): boolean {
  return readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === name;
    } catch {
      return false;
    }
  });
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error('waited in vain');
    await sleep(20);
  }
}

function cgroupsOf(pid: number): string {
  return execFileSync('find', ['/sys/fs/cgroup', '-path', `*/varve/*.${pid}.*`, '-type', 'd']).toString();
}

describe.skipIf(!CAN_SANDBOX)('a sandbox whose varve is killed by SIGKILL', () => {
  let box: Box;
  beforeAll(() => {
    box = Box.make({ attack: true });
  });
  afterAll(() => box.remove());

  async function startVarve(
    daemon: string,
    where: Box = box,
    options: { readonly nativeProgram?: string } = {},
  ): Promise<{ readonly varve: ChildProcess; readonly pid: number }> {
    const spec = where.spec({
      args: ['sh', '-c', `attack daemon ${daemon} & exec sleep 600`],
      limits: { pids: 50, memoryBytes: 64 * 1024 * 1024 },
    });
    const module = join(import.meta.dirname, 'runner.ts');
    const varve = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        RUN_AND_WAIT,
        module,
        JSON.stringify([spec, { tempFolder: where.folder, ...options }]),
      ],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    await new Promise((resolve) => varve.stdout?.once('data', resolve));
    await until(() => isRunning(daemon));
    return { varve, pid: varve.pid ?? 0 };
  }

  it('leaves no process, mount, cgroup or file', async () => {
    const mounts = machineMounts(box.folder);
    const { varve, pid } = await startVarve('sbx-orphan-a');
    expect(cgroupsOf(pid)).not.toBe('');
    const supervisors = [...childProcesses(pid), serverProcess(pid) ?? NaN];
    varve.kill('SIGKILL');
    await until(() => supervisors.every((supervisor) => !isAlive(supervisor)));
    expect(isRunning('sbx-orphan-a')).toBe(false);
    expect(cgroupsOf(pid)).toBe('');
    expect(readdirSync(box.folder).filter((name) => name.startsWith('varve-sandbox-'))).toEqual([]);
    expect(machineMounts(box.folder)).toBe(mounts);
    expect(box.left()).toEqual([]);
  });

  it('leaves no process even when its supervisor is killed at the same moment', async () => {
    const { varve, pid } = await startVarve('sbx-orphan-b');
    const [supervisor = NaN] = childProcesses(pid);
    process.kill(supervisor, 'SIGKILL');
    varve.kill('SIGKILL');
    await until(() => !isRunning('sbx-orphan-b'));
    // The cgroups of the dead are removed by the next varve.
    await until(() => !isAlive(pid));
    await box.run(['true']);
    const next = Box.make();
    await next.run(['true']);
    next.remove();
    expect(cgroupsOf(pid)).toBe('');
  });

  it.skipIf(!existsSync('/usr/sbin/runc'))('leaves no process either where runc runs it', async () => {
    const other = Box.make({ attack: true });
    try {
      const { varve } = await startVarve('sbx-orphan-d', other, { nativeProgram: '/no/native' });
      varve.kill('SIGKILL');
      await until(() => !isRunning('sbx-orphan-d'));
    } finally {
      other.remove();
    }
  });

  it('rejects with an error when only its supervisor is killed', async () => {
    const started = await box.runner.start(box.spec({ args: ['attack', 'daemon', 'sbx-orphan-c'] }), {
      mode: 'pipe',
    });
    const supervisor =
      childProcesses().find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'varve-sandbox\n') ?? NaN;
    process.kill(supervisor, 'SIGKILL');
    await expect(started.outcome).rejects.toMatchObject({ code: 'sandbox-lost' });
    await until(() => !isRunning('sbx-orphan-c'));
  });

  it('rejects with an error when the server is killed that it was started by, and the next one has another', async () => {
    const started = await box.runner.start(box.spec({ args: ['attack', 'daemon', 'sbx-orphan-e'] }), {
      mode: 'pipe',
    });
    process.kill(serverProcess() ?? NaN, 'SIGKILL');
    await expect(started.outcome).rejects.toMatchObject({ code: 'sandbox-lost' });
    await until(() => !isRunning('sbx-orphan-e'));
    expect((await box.run(['echo', 'next'])).stdout).toBe('next\n');
  });

  const unified = CAN_SANDBOX ? findCgroups().v2?.folder : undefined;

  it.skipIf(unified === undefined)('does not take the cgroups of a varve that lives', async () => {
    const home = join(unified ?? '', 'varve');
    mkdirSync(home, { recursive: true });
    const start = readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ')[19];
    const namespace = execFileSync('readlink', ['/proc/self/ns/pid']).toString().replace(/\D/g, '');
    const mine = join(home, `${namespace}.${process.pid}.${start}.0.keep`);
    mkdirSync(mine);
    try {
      const next = Box.make();
      await next.run(['true']);
      next.remove();
      expect(readdirSync(home)).toContain(mine.slice(home.length + 1));
    } finally {
      rmdirSync(mine);
    }
  });
});

function isAlive(pid: number): boolean {
  try {
    // A zombie that nobody has reaped yet holds nothing any more.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
