import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { SandboxProcess } from '../core/index.ts';
import { CAN_SANDBOX, childProcesses, machineMounts } from './testing/box.ts';
import { TracedBox, usesOf } from './testing/traced-box.ts';

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

/** Neither gone nor a zombie, which holds nothing any more. */
function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

function descendants(pid: number): readonly number[] {
  return childProcesses(pid).flatMap((child) => [child, ...descendants(child)]);
}

async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error('waited in vain');
    await sleep(10);
  }
}

interface Parts {
  readonly all: readonly number[];
  readonly supervisor: number;
  readonly server: number;
  /** The program in the sandbox that was started last. */
  readonly program: number;
}

function partsBelow(pid: number): Parts {
  const all = descendants(pid).filter((one) => /^(varve|sh|sleep|cat|dd)/.test(nameOf(one)));
  const find = (name: string) => all.find((one) => nameOf(one) === name) ?? 0;
  return { all, supervisor: find('varve-sandbox'), server: find('varve-files'), program: all.at(-1) ?? 0 };
}

const RUN_AND_WAIT = `
  const { createRunner } = await import(process.argv[1]);
  const [spec, tempFolder] = JSON.parse(process.argv[2]);
  const io = { mode: 'pipe', onOutput: (_stream, chunk) => process.stdout.write(chunk) };
  await (await createRunner({ tempFolder }).start(spec, io)).outcome;
`;

describe.skipIf(!CAN_SANDBOX)('the file server of a traced sandbox', () => {
  let box: TracedBox;
  let mounts: string;
  let parts: Parts | undefined;
  beforeAll(async () => {
    box = await TracedBox.make();
    mounts = machineMounts(box.folder);
    await box.layer(
      'mkdir /app; cd /app; echo a > a; dd if=/dev/urandom of=large bs=1M count=64; for i in $(seq 500); do echo $i > f$i; done',
    );
  });
  afterAll(() => box.remove());
  afterEach(async () => {
    const left = () => (parts?.all ?? []).filter(isAlive);
    await until(() => left().length === 0);
    expect(childProcesses()).toEqual([]);
    expect(machineMounts(box.folder)).toBe(mounts);
  });

  /** Starts `script`, waits until it says `ready`, and calls `act` while it runs. */
  async function during(
    script: string,
    act: (process: SandboxProcess, found: Parts) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    await using active = await box.prepare();
    const ready = Promise.withResolvers<void>();
    const started = await box.runner.start(
      box.spec(active.root, ['sh', '-c', script]),
      { mode: 'pipe', onOutput: () => ready.resolve() },
      signal === undefined ? {} : { signal },
    );
    await ready.promise;
    parts = partsBelow(process.pid);
    expect(parts.server).toBeGreaterThan(0);
    await act(started, parts);
  }

  it('that is killed ends the step with an error, whatever the step makes of it', async () => {
    const script =
      'echo ready; while true; do cat /app/a /app/f* /app/none$((n++)) >/dev/null 2>&1; done; exit 0';
    await during(script, async (started, { server }) => {
      process.kill(server, 'SIGKILL');
      await expect(started.outcome).rejects.toMatchObject({ code: 'trace-lost' });
      await expect(started.trace).rejects.toMatchObject({ code: 'trace-lost' });
    });
  });

  it.each([
    ['missing', (file: string) => rmSync(file)],
    ['cut short', (file: string) => truncateSync(file, 1)],
  ])('ends the step where a stored file is %s, whatever the step makes of it', async (_how, damage) => {
    const own = await TracedBox.make();
    await own.layer('mkdir /app; echo content > /app/file; echo other > /app/other');
    try {
      await using active = await own.prepare();
      damage(join((await own.tracedFolders())[0] ?? '', 'fs/app/file'));
      const start = (script: string) =>
        own.runner.start(own.spec(active.root, ['sh', '-c', script]), { mode: 'pipe' });
      const failed = await start('cat /app/file; exit 0');
      await expect(failed.outcome).rejects.toMatchObject({
        code: 'snapshot-corrupt',
        message: expect.stringContaining('app/file'),
      });
      await using again = await own.prepare();
      const fine = await own.runner.start(own.spec(again.root, ['cat', '/app/other']), { mode: 'pipe' });
      expect(await fine.outcome).toEqual({ kind: 'exited', code: 0 });
    } finally {
      await own.remove();
    }
  });

  it('that is killed during a long read leaves nobody waiting', async () => {
    await during(
      'echo ready; while true; do cat /app/large; done > /dev/null',
      async (started, { server }) => {
        process.kill(server, 'SIGKILL');
        await expect(started.outcome).rejects.toMatchObject({ code: 'trace-lost' });
      },
    );
  });

  it('that hangs does not keep a step from being cancelled', async () => {
    const stop = new AbortController();
    const script = 'echo ready; while true; do cat /app/none$((n++)) 2>/dev/null; done';
    await during(
      script,
      async (started, { server }) => {
        process.kill(server, 'SIGSTOP');
        stop.abort();
        expect(await started.outcome).toEqual({ kind: 'cancelled' });
        expect(await started.trace).toEqual({ kind: 'untraced', reason: 'the step was stopped' });
      },
      stop.signal,
    );
  });

  it('that hangs when the step ends is an error, not a hang', async () => {
    await during('echo ready; exec sleep 0.2', async (started, { server }) => {
      process.kill(server, 'SIGSTOP');
      await expect(started.outcome).rejects.toMatchObject({ code: 'trace-lost' });
    });
  });

  it('dies with its supervisor, also when it hangs', async () => {
    for (const hang of [false, true]) {
      const script = 'echo ready; while true; do cat /app/none$((n++)) 2>/dev/null; done';
      await during(script, async (started, { server, supervisor, all }) => {
        if (hang) process.kill(server, 'SIGSTOP');
        process.kill(supervisor, 'SIGKILL');
        await expect(started.outcome).rejects.toMatchObject({ code: 'sandbox-lost' });
        await until(() => !all.some(isAlive));
      });
    }
  });

  it.each([false, true])('dies with varve (hanging: %s)', async (hang) => {
    await using active = await box.prepare();
    const script = 'echo ready; while true; do cat /app/none$((n++)) 2>/dev/null; done';
    const orders = JSON.stringify([box.spec(active.root, ['sh', '-c', script]), box.folder]);
    const module = join(import.meta.dirname, 'runner.ts');
    const varve = spawn(process.execPath, ['--input-type=module', '-e', RUN_AND_WAIT, module, orders], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => varve.stdout?.once('data', resolve));
    parts = partsBelow(varve.pid ?? 0);
    const { all, server } = parts;
    expect(server).toBeGreaterThan(0);
    if (hang) process.kill(server, 'SIGSTOP');
    const gone = new Promise((resolve) => varve.once('close', resolve));
    varve.kill('SIGKILL');
    await gone;
    await until(() => !all.some(isAlive));
  });

  it('tells what it knows though somebody outside still has a file of the sandbox open', {
    timeout: 20_000,
  }, async () => {
    await during('cat /app/a; exec sleep 0.5', async (started, { program }) => {
      const held = openSync(`/proc/${program}/root/app/f1`, 'r');
      try {
        expect(await started.outcome).toEqual({ kind: 'exited', code: 0 });
        expect(usesOf(await started.trace, /^app\/a/)).toEqual({ 'app/a': 'seen content' });
      } finally {
        closeSync(held);
      }
    });
  });

  it('can do little more than read', async () => {
    await during('echo ready; exec sleep 0.3', async (started, { server }) => {
      const status = readFileSync(`/proc/${server}/status`, 'utf8');
      // CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_SYS_PTRACE.
      expect(/CapEff:\t(\w+)/.exec(status)?.[1]).toBe('000000000008000c');
      expect(/CapBnd:\t(\w+)/.exec(status)?.[1]).toBe('000000000008000c');
      expect(await started.outcome).toEqual({ kind: 'exited', code: 0 });
    });
  });

  it('is one per sandbox: several run side by side', async () => {
    const runs = await Promise.all(
      ['f1', 'f2', 'f3', 'f4'].map((name) => box.sh(`cat /app/${name}; sleep 0.1`)),
    );
    for (const [index, { trace, stdout }] of runs.entries()) {
      expect(stdout).toBe(`${index + 1}\n`);
      expect(usesOf(trace, /^app\//)).toEqual({ [`app/f${index + 1}`]: 'seen content' });
    }
  });
});
