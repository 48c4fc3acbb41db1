// Compiles runner/native into one static program for this machine, or with `--all` for every architecture that the
// published package serves; `--number` prints what tells whether program and bundle are of the same sources. Plain JavaScript: it also runs at install time, under Node 20.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { arch } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const sources = join(root, 'runner/native');

/** Debian's cross compilers, by Node's names of architectures. */
const CROSS_COMPILERS = { x64: 'x86_64-linux-gnu-gcc', arm64: 'aarch64-linux-gnu-gcc' };

/** What the sources are held to, whoever compiles them. */
const WARNINGS = [
  '-std=gnu11',
  '-Wall',
  '-Wextra',
  '-Wshadow',
  '-Wconversion',
  '-Wno-sign-conversion',
  '-Wformat=2',
  '-Wno-format-nonliteral',
  '-Wstrict-prototypes',
  '-Wmissing-prototypes',
  '-Wold-style-definition',
  '-Wundef',
  '-Wvla',
  '-Wpointer-arith',
  '-Wnull-dereference',
  '-Werror',
];

const FLAGS = [
  '-O2',
  '-pthread',
  '-fstack-protector-strong',
  '-fPIE',
  '-static-pie',
  '-Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code',
];

/** Younger than some compilers; `runner/hardening.test.ts` looks for what they leave. */
const CONTROL_FLOW = { x64: '-fcf-protection=full', arm64: '-mbranch-protection=standard' };
const harder = (architecture) => [
  '-D_FORTIFY_SOURCE=3',
  '-fstack-clash-protection',
  '-ftrivial-auto-var-init=zero',
  CONTROL_FLOW[architecture],
];

/** Where the program for `architecture` (Node's name) lies; the runner room looks there. */
export function nativeProgram(architecture = arch()) {
  return join(root, 'dist/native', `varve-native-${architecture}`);
}

/** A number that changes with the sources, never 0. The program and the bundle each hold that of their making. */
function sourcesNumber() {
  const hash = createHash('sha256');
  for (const name of readdirSync(sources)
    .filter((one) => /\.[ch]$/.test(one))
    .sort()) {
    hash.update(`${name}\0`).update(readFileSync(join(sources, name)));
  }
  return hash.digest().readUInt32LE(0) || 1;
}

/** Returns undefined when the program was built, else what went wrong in words for the user. */
export function buildNative(architecture = arch()) {
  const output = nativeProgram(architecture);
  const files = readdirSync(sources).filter((name) => name.endsWith('.c'));
  mkdirSync(dirname(output), { recursive: true });
  const fresh = `${output}.${process.pid}`;
  const compiler = architecture === arch() ? (process.env.CC ?? 'cc') : CROSS_COMPILERS[architecture];
  const compile = (...hardening) =>
    spawnSync(
      compiler,
      [
        ...WARNINGS,
        ...FLAGS,
        ...hardening,
        `-DVARVE_SOURCES=${sourcesNumber()}u`,
        '-o',
        fresh,
        ...files.map((name) => join(sources, name)),
      ],
      { encoding: 'utf8' },
    );
  let run = compile(...harder(architecture));
  if (run.error)
    return `no C compiler: ${compiler} cannot be started (${run.error.message}). Install gcc and libc6-dev.`;
  if (run.status !== 0) run = compile('-D_FORTIFY_SOURCE=2');
  if (run.status !== 0) return `${compiler} failed:\n${run.stderr}`;
  renameSync(fresh, output);
  return undefined;
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv.includes('--number')) {
  console.log(sourcesNumber());
} else if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const architectures = process.argv.includes('--all') ? Object.keys(CROSS_COMPILERS) : [arch()];
  for (const architecture of architectures) {
    const problem = buildNative(architecture);
    if (problem === undefined) continue;
    process.stderr.write(`varve: ${architecture}: ${problem}\n`);
    process.exit(1);
  }
}
