// Compiles runner/native into one static program. Plain JavaScript: it also runs at install time, under Node 20.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const sources = join(root, 'runner/native');
const output = join(root, 'dist/native/varve-native');

const FLAGS = [
  '-std=gnu11',
  '-O2',
  '-Wall',
  '-Wextra',
  '-Wshadow',
  '-Wconversion',
  '-Wno-sign-conversion',
  '-Werror',
  '-D_FORTIFY_SOURCE=2',
  '-fstack-protector-strong',
  '-fPIE',
  '-static-pie',
  '-Wl,-z,relro,-z,now',
];

/** Returns undefined when the program was built, else what went wrong in words for the user. */
export function buildNative() {
  const files = readdirSync(sources).filter((name) => name.endsWith('.c'));
  mkdirSync(dirname(output), { recursive: true });
  const fresh = `${output}.${process.pid}`;
  const compiler = process.env.CC ?? 'cc';
  const run = spawnSync(compiler, [...FLAGS, '-o', fresh, ...files.map((name) => join(sources, name))], { encoding: 'utf8' });
  if (run.error) return `no C compiler: ${compiler} cannot be started (${run.error.message}). Install gcc and libc6-dev.`;
  if (run.status !== 0) return `${compiler} failed:\n${run.stderr}`;
  renameSync(fresh, output);
  return undefined;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const problem = buildNative();
  if (problem !== undefined) {
    process.stderr.write(`varve: ${problem}\n`);
    process.exit(1);
  }
}
