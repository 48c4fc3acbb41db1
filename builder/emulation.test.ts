import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { HostPath, Runner, SandboxOutcome, SandboxSpec } from '../core/index.ts';
import { temporaryFolder } from '../fixtures/temporary.ts';
import { Emulation } from './emulation.ts';
import { probeProgram } from './probe-program.ts';
import { stopped } from './testing/stopped.ts';

const AMD64 = { os: 'linux', architecture: 'amd64' };
const RANGE = { start: { line: 1, column: 1, offset: 0 }, end: { line: 1, column: 2, offset: 1 } };

async function emulation(outcome: SandboxOutcome) {
  const folder = await temporaryFolder();
  const started: SandboxSpec[] = [];
  const runner: Runner = {
    start: async (spec) => {
      started.push(spec);
      if (spec.root.type === 'directory')
        expect(readFileSync(join(spec.root.path, 'probe')).subarray(1, 4).toString()).toBe('ELF');
      return {
        outcome: Promise.resolve(outcome),
        trace: Promise.resolve(undefined),
        signal: () => {},
        resize: () => {},
      };
    },
  };
  const tried = new Emulation({ runner, temporary: folder.path as HostPath, platform: AMD64 });
  const need = (architecture: string, os = 'linux') =>
    tried.need({ os, architecture }, RANGE, new AbortController().signal);
  return { folder, started, need };
}

test('a platform whose programs do not run here ends the build with what to install', async () => {
  const { folder, need } = await emulation({ kind: 'not-started', code: 126, message: 'exec format error' });
  await using _ = folder;
  const failure = await stopped(() => need('arm64'));
  expect(failure.code).toBe('no-emulator');
  expect(failure.message).toBe('programs for linux/arm64 do not run on this machine (linux/amd64)');
  expect(failure.hint).toContain('qemu-user-static');
  expect(failure.range).toEqual(RANGE);
  expect(readdirSync(folder.path)).toEqual([]);
});

test('each architecture is tried once, this machine’s never', async () => {
  const { folder, need, started } = await emulation({ kind: 'exited', code: 0 });
  await using _ = folder;
  await need('amd64');
  await Promise.all([need('arm64'), need('arm64'), need('s390x')]);
  expect(started).toHaveLength(2);
});

test('no program is known for another system or an unheard-of architecture', async () => {
  const { folder, need, started } = await emulation({ kind: 'exited', code: 0 });
  await using _ = folder;
  for (const [architecture, os] of [['amd64', 'windows'], ['unheard-of']] as const)
    expect((await stopped(() => need(architecture, os))).code).toBe('no-emulator');
  expect(started).toEqual([]);
});

test.skipIf(!existsSync('/usr/bin/qemu-aarch64-static')).each([
  ['386', 'i386'],
  ['amd64', 'x86_64'],
  ['arm', 'arm'],
  ['arm64', 'aarch64'],
  ['riscv64', 'riscv64'],
  ['ppc64le', 'ppc64le'],
  ['s390x', 's390x'],
  ['loong64', 'loongarch64'],
])('probeProgram(%s) ends with exit code 0', async (architecture, emulator) => {
  const program = `/usr/bin/qemu-${emulator}-static`;
  await using folder = await temporaryFolder();
  const file = join(folder.path, 'probe');
  writeFileSync(file, probeProgram(architecture) ?? '', { mode: 0o755 });
  const { status, stderr } = spawnSync(program, [file]);
  expect(`${stderr}`).toBe('');
  expect(status).toBe(0);
});
