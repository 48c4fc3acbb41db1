import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HostPath, imagePath, type SandboxSpec } from '../core/index.ts';
import { Box, CAN_SANDBOX } from './testing/box.ts';
import { compileEscape, escapes, hasScopes, openTargets, readAttempts, unproven } from './testing/escape.ts';

describe.skipIf(!CAN_SANDBOX)('ways out of the sandbox that others had', () => {
  let box: Box;
  let secret: string;

  beforeAll(() => {
    box = Box.make();
    secret = join(box.folder, 'secret');
    writeFileSync(secret, 'host secret');
    compileEscape(join(box.lower, 'bin/escape'));
  });
  afterAll(() => box.remove());

  it('lead nowhere, and each would be noticed', async () => {
    using targets = await openTargets(secret);
    const attempt = async (changes: Partial<SandboxSpec>) => {
      const { stdout } = await box.run(['escape', ...targets.args], { network: 'host', ...changes });
      return readAttempts(stdout);
    };
    const inside = await attempt({});
    const unrestricted = await attempt({ security: 'insecure' });
    expect(inside.size).toBeGreaterThan(70);
    expect(escapes(inside).filter((name) => name !== 'abstract' || hasScopes())).toEqual([]);
    expect(unproven(inside, unrestricted)).toEqual([]);
  });

  /** The host's secret, as seen by a program whose working directory is `cwd`. */
  const secretFrom = async (cwd: string, changes: Partial<SandboxSpec> = {}): Promise<string> => {
    const up = '../'.repeat(30);
    const script = `cat ./${up}${secret} 2>/dev/null; ls ${up}; echo end`;
    try {
      return (await box.sh(script, { cwd: imagePath(cwd), ...changes })).stdout;
    } catch (error) {
      return String(error);
    }
  };

  it('no working directory leads out through a descriptor (CVE-2024-21626)', async () => {
    const numbers = Array.from({ length: 14 }, (_, number) => `self/fd/${number}`);
    for (const link of ['self/root', 'self/cwd', '1/root', '1/cwd', ...numbers]) {
      expect(await secretFrom(`proc/${link}`), link).not.toContain('host secret');
    }
    const mounts = [
      { type: 'bind', source: '/' as HostPath, target: imagePath('host'), readonly: true },
    ] as const;
    expect(await secretFrom(`host${box.folder}`, { mounts })).not.toContain('host secret');
    // What is mounted from the host is found in the same way: the attempts above would be noticed.
    const { stdout } = await box.sh(`cat ./${'../'.repeat(3)}host${secret}`, {
      mounts,
      cwd: imagePath('host/proc/self'),
    });
    expect(stdout).toBe('host secret');
  });

  it.each([
    ['proc', 'self/oom_score_adj'],
    ['proc', '1/oom_score_adj'],
    ['dev', 'null'],
  ])(
    "what a mount has in the place of /%s is not written to with varve's rights: %s",
    async (target, file) => {
      const source = join(box.folder, `fake-${target}`);
      mkdirSync(join(source, file, '..'), { recursive: true });
      const victim = join(source, 'victim');
      writeFileSync(victim, 'untouched', { mode: 0o600 });
      symlinkSync('/'.concat(target, '/victim'), join(source, file));
      const mounts = [
        { type: 'bind', source: source as HostPath, target: imagePath(target), readonly: false },
      ] as const;
      const user = { uid: 1000, gid: 1000, additionalGids: [] };
      await box.sh('echo written >&0', { mounts, user }).catch(() => undefined);
      expect(readFileSync(victim, 'utf8')).toBe('untouched');
    },
  );

  it('what the image has at /dev is not what hides files or is the console (CVE-2025-31133, -52565)', async () => {
    const other = Box.make();
    try {
      mkdirSync(join(other.lower, 'dev'));
      for (const name of ['null', 'console', 'pts', 'ptmx']) {
        symlinkSync('/proc/sys/kernel/core_pattern', join(other.lower, 'dev', name));
      }
      const script =
        'stat -c %t:%T /dev/null /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null; [ /dev/console -ef $(tty) ] && echo terminal';
      const { stdout } = await other.sh(script, {}, { io: { mode: 'terminal' } });
      const seen = new Set(stdout.replaceAll('\r', '').trim().split('\n'));
      expect([...seen]).toEqual(['1:3', 'terminal']);
    } finally {
      other.remove();
    }
  });

  it('places that were made for mounts are removed where they were made, whatever leads there now (CVE-2024-23652)', async () => {
    const other = Box.make();
    try {
      const victim = join(box.folder, 'victim');
      mkdirSync(join(victim, 'place'), { recursive: true });
      const mounts = [{ type: 'tmpfs', target: imagePath('a/b/place') }] as const;
      const { stdout } = await other.sh(`mv /a/b /a/c && ln -s ${victim} /a/b && echo moved`, { mounts });
      expect(stdout).toBe('moved\n');
      expect(existsSync(join(victim, 'place'))).toBe(true);
      expect(other.left()).not.toContain('a/c/place');
    } finally {
      other.remove();
    }
  });
});
