import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tryExec } from '../fixtures/index.ts';
import { FUZZ_TARGETS, fuzz } from '../scripts/fuzz.ts';
import { buildFuzzer, buildSanitized, FUZZING_COMPILER } from '../scripts/native-variants.ts';
import { hasNativeProgram, locateNative } from './native-program.ts';
import { CAN_SANDBOX } from './testing/box.ts';

const isRoot = process.getuid?.() === 0;
const has = (program: string) => spawnSync(program, ['--version']).status === 0;

describe('the native program', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'varve-faults-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** What readelf(1) says of it, on single blanks. */
  const read = (flag: string) =>
    execFileSync('readelf', ['-W', flag, locateNative()], {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    }).replaceAll(/ +/g, ' ');

  it.skipIf(!hasNativeProgram() || !has('readelf'))('is hardened', () => {
    expect(read('-h')).toContain('Type: DYN (Position-Independent Executable file)');
    const segments = read('-l');
    expect(segments).toMatch(/GNU_RELRO/);
    expect(segments).toMatch(/GNU_STACK .* RW /);
    expect(segments).not.toMatch(/ RWE /);
    expect(segments).not.toContain('INTERP');
    expect(read('-d')).toMatch(/BIND_NOW[\s\S]*Flags: NOW PIE/);
    expect(read('-d')).not.toContain('TEXTREL');
    const symbols = read('-s');
    // Stack protector and _FORTIFY_SOURCE leave calls of these.
    for (const name of ['__stack_chk_fail', '__snprintf_chk', '__memcpy_chk'])
      expect(symbols).toContain(name);
    const code = execFileSync(
      'objdump',
      ['-d', '--no-show-raw-insn', '--disassemble=wire_u32', locateNative()],
      { encoding: 'utf8' },
    );
    expect(code).toMatch(process.arch === 'x64' ? /endbr64/ : /(bti|paciasp)/);
  });

  it.skipIf(!CAN_SANDBOX)(
    'does nothing that a sanitizer reports, in tests of sandboxes and trees',
    { timeout: 10 * 60_000 },
    async () => {
      const program = join(folder, 'varve-native');
      buildSanitized(program);
      expect(execFileSync('readelf', ['-Ws', program], { encoding: 'utf8' })).toContain(
        '__asan_report_load8',
      );
      const inRunner = ['escapes', 'mounts', 'tree-ops', 'trace-tree'].map(
        (name) => `runner/${name}.test.ts`,
      );
      const files = [...inRunner, 'cli/unchanged.test.ts'];
      const vitest = join(import.meta.dirname, '../node_modules/vitest/vitest.mjs');
      const { code, stdout, stderr } = await tryExec([process.execPath, vitest, 'run', ...files], {
        cwd: join(import.meta.dirname, '..'),
        env: { VARVE_NATIVE: program },
      });
      expect(code, `${stdout.slice(-8000)}${stderr.slice(-8000)}`).toBe(0);
    },
  );

  it.skipIf(!isRoot || !has(FUZZING_COMPILER))(
    'takes made-up input without a fault',
    {
      timeout: 5 * 60_000,
    },
    async () => {
      const fuzzer = join(folder, 'fuzzer');
      buildFuzzer(fuzzer);
      const ends = await Promise.all(FUZZ_TARGETS.map((target) => fuzz({ fuzzer, target, seconds: 4 })));
      for (const end of ends) {
        expect(end.kind, end.kind === 'fault' ? `${end.log}\n${end.input?.toString('base64')}` : '').toBe(
          'quiet',
        );
      }
    },
  );
});
