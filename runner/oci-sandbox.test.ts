import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type HostPath, imagePath, type SandboxHook } from '../core/index.ts';
import { createRunner } from './runner.ts';
import { Box, CAN_SANDBOX, machineMounts } from './testing/box.ts';

const HAS_RUNC = existsSync('/usr/sbin/runc') || existsSync('/usr/bin/runc');

describe('createRunner without a native program', () => {
  it('says what to install where there is no OCI runtime either', async () => {
    const box = Box.make({ nativeProgram: '/no/native', searchPath: ['/no/such/folder'] });
    try {
      await expect(box.run(['true'])).rejects.toMatchObject({
        code: 'no-sandbox',
        hint: expect.stringContaining('gcc'),
      });
    } finally {
      box.remove();
    }
  });
});

describe('createRunner with hooks', () => {
  const hook = (stage: SandboxHook['stage'], script: string): SandboxHook => ({
    stage,
    path: '/bin/sh',
    args: ['sh', '-c', script],
    env: ['PATH=/usr/bin:/bin'],
    timeoutSeconds: 60,
  });

  it.skipIf(!CAN_SANDBOX || !HAS_RUNC)(
    'starts them with runc where they belong, beside a native program too',
    async () => {
      const box = Box.make();
      const told = join(box.folder, 'told');
      try {
        const hooks = [
          hook('createRuntime', `cat > ${told}`),
          hook(
            'createContainer',
            'read state; bundle=${state#*bundle\\":\\"}; echo made > "${bundle%%\\"*}/root/by-hook"',
          ),
        ];
        expect((await box.sh('cat /by-hook', { hooks })).stdout).toBe('made\n');
        expect(readFileSync(told, 'utf8')).toMatch(/"bundle":"/);
        await expect(box.sh('true', { hooks: [hook('createRuntime', 'exit 3')] })).rejects.toMatchObject({
          code: 'sandbox-setup',
          message: expect.stringContaining('hook'),
        });
        await expect(box.sh('true', { hooks, hasSecretEnvironment: true })).rejects.toMatchObject({
          message: 'a secret and a device that asks for hooks do not go together',
        });
      } finally {
        box.remove();
      }
    },
  );

  it('says what to install where there is no runtime', async () => {
    const box = Box.make({ searchPath: ['/no/such/folder'] });
    try {
      await expect(box.run(['true'], { hooks: [hook('createRuntime', '')] })).rejects.toMatchObject({
        message: 'a device asks for hooks, and neither runc nor crun is there to run them',
        hint: 'install runc',
      });
    } finally {
      box.remove();
    }
  });
});

describe.skipIf(!CAN_SANDBOX || !HAS_RUNC)('createRunner with runc', () => {
  let box: Box;
  beforeAll(() => {
    box = Box.make({ attack: true, nativeProgram: '/no/native' });
  });
  afterAll(() => box.remove());
  afterEach(() => {
    expect(readdirSync(box.folder).filter((name) => /^varve-/.test(name))).toEqual([]);
  });

  it('runs the program and keeps its exit code and its streams', async () => {
    const ran = await box.sh('echo out; echo err > /dev/stderr; cat /etc/hostname; exit 7');
    expect(ran).toEqual({ outcome: { kind: 'exited', code: 7 }, stdout: 'out\nbox\n', stderr: 'err\n' });
  });

  it('leaves what the program wrote and nothing else', async () => {
    await box.sh('echo x > /made');
    expect(box.left()).toEqual(['made']);
  });

  it('mounts traced diffs like others, and says that nothing is known of what was read', async () => {
    const home = join(box.folder, 'diff');
    mkdirSync(join(home, 'fs'), { recursive: true });
    writeFileSync(join(home, 'fs/file'), 'of the diff\n');
    const { root } = box.spec();
    const traced = { ...root, traced: [home as HostPath] };
    const chunks: Uint8Array[] = [];
    const io = {
      mode: 'pipe',
      onOutput: (_stream: string, chunk: Uint8Array) => chunks.push(chunk),
    } as const;
    const started = await box.runner.start(box.spec({ root: traced, args: ['cat', '/file'] }), io);
    expect(await started.outcome).toEqual({ kind: 'exited', code: 0 });
    expect(Buffer.concat(chunks).toString()).toBe('of the diff\n');
    expect(await started.trace).toEqual({
      kind: 'untraced',
      reason: expect.stringContaining('native program'),
    });
  });

  it('a program that is not there is 127', async () => {
    expect((await box.run(['no-such'])).outcome).toEqual({
      kind: 'not-started',
      code: 127,
      message: 'exec: "no-such": executable file not found in $PATH',
    });
  });

  it.each([
    ['mount', 'EPERM'],
    ['unshare-user', 'EPERM'],
    ['clone-user', 'EPERM'],
    ['clone3', 'ENOSYS'],
    ['keyctl', 'EPERM'],
    ['bpf', 'EPERM'],
    ['alg', 'EPERM'],
    ['kmem', 'EPERM'],
    ['inet', 'ok'],
  ])('the policy holds there too: %s gives %s', async (name, answer) => {
    expect(await box.attack(name)).toBe(answer);
  });

  it('insecure takes the restrictions away', async () => {
    expect(await box.attack('mount', '', { security: 'insecure' })).toBe('ok');
  });

  it('mounts are there, and a limit is kept', async () => {
    const { stdout } = await box.run(['sh', '-c', 'ls /host | head -1; attack fork-bomb'], {
      mounts: [{ type: 'bind', source: box.lower as HostPath, target: imagePath('host'), readonly: true }],
      limits: { pids: 10 },
    });
    expect(stdout).toMatch(/^bin\n\d children, then fork-bomb EAGAIN\n$/);
  });

  it('timeoutMs and abort end it', async () => {
    expect((await box.run(['sleep', '60'], {}, { timeoutMs: 500 })).outcome).toEqual({ kind: 'timed-out' });
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 500);
    expect((await box.run(['sleep', '60'], {}, { signal: abort.signal })).outcome).toEqual({
      kind: 'cancelled',
    });
  });

  it('signals reach a program that handles them', async () => {
    let seen = '';
    const started = await box.runner.start(
      box.spec({ args: ['sh', '-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done'] }),
      {
        mode: 'pipe',
        onOutput: (_stream, chunk) => {
          seen += Buffer.from(chunk).toString();
        },
      },
    );
    while (!seen.includes('ready')) await sleep(20);
    started.signal('SIGTERM');
    expect(await started.outcome).toEqual({ kind: 'exited', code: 9 });
  });

  it('a terminal is refused with a reason', async () => {
    await expect(box.run(['true'], {}, { io: { mode: 'terminal' } })).rejects.toMatchObject({
      code: 'no-sandbox',
    });
  });

  it('mounts nothing on the host', async () => {
    const before = machineMounts(box.folder);
    let during = '';
    const started = await box.runner.start(box.spec({ args: ['sleep', '0.5'] }), { mode: 'pipe' });
    await sleep(300);
    during = machineMounts(box.folder);
    await started.outcome;
    expect(during).toBe(before);
    expect(existsSync(join(box.lower, 'proc'))).toBe(false);
  });

  it('createRunner does not look for programs before it is used', () => {
    expect(() =>
      createRunner({ tempFolder: '/tmp', nativeProgram: '/no/native', searchPath: [] }),
    ).not.toThrow();
  });
});
