// Builds of the native program that look for faults: with sanitizers, and as a fuzzer's target.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const CHECKOUT = join(import.meta.dirname, '..');
const NATIVE = join(CHECKOUT, 'runner/native');
const TESTING = join(CHECKOUT, 'runner/testing');

/** A report ends the program, so that nothing goes on after a fault. */
const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
/** Warnings are the business of build-native.mjs. */
const COMMON = ['-std=gnu11', '-g', '-O1', '-fno-omit-frame-pointer'];

/** Debian's clang; its libFuzzer comes with libclang-rt-14-dev. */
export const FUZZING_COMPILER = 'clang-14';

/** Calls of the native program that runner/testing/fuzz.c takes over. */
const RENAMED = 'calloc realloc free strdup strndup asprintf mmap _exit read write writev';

/** Sources of the native program, less those that are named. */
function sources(without: readonly string[] = []): readonly string[] {
  const names = readdirSync(NATIVE).filter((name) => name.endsWith('.c') && !without.includes(name));
  return names.map((name) => join(NATIVE, name));
}

/** @throws Error with what the compiler says. */
function compile(compiler: string, args: readonly string[], cwd = CHECKOUT): void {
  const run = spawnSync(compiler, args, { cwd, encoding: 'utf8' });
  if (run.error !== undefined) throw new Error(`${compiler} cannot be started: ${run.error.message}`);
  if (run.status !== 0) throw new Error(`${compiler} failed:\n${run.stderr}`);
}

/** The native program with AddressSanitizer and UBSan, as `output`; for `VARVE_NATIVE`. */
export function buildSanitized(output: string): void {
  const options = join(TESTING, 'sanitizers.c');
  compile('gcc', [...COMMON, ...SANITIZERS, '-o', output, ...sources(), options]);
}

/** libFuzzer with all targets of runner/testing/fuzz.c, as `output`. */
export function buildFuzzer(output: string): void {
  const objects = mkdtempSync(join(tmpdir(), 'varve-fuzzer-'));
  const flags = [...COMMON, ...SANITIZERS];
  const renamed = RENAMED.split(' ').map((name) => `-D${name}=fuzz_${name.replace(/^_/, '')}`);
  try {
    const own = [...flags, '-fsanitize=fuzzer-no-link', '-Dmain=native_main', ...renamed];
    compile(FUZZING_COMPILER, [...own, '-c', ...sources(['failure.c'])], objects);
    const parts = readdirSync(objects).map((name) => join(objects, name));
    compile(FUZZING_COMPILER, [
      ...flags,
      '-fsanitize=fuzzer',
      '-o',
      output,
      join(TESTING, 'fuzz.c'),
      ...parts,
    ]);
  } finally {
    rmSync(objects, { recursive: true, force: true });
  }
}
