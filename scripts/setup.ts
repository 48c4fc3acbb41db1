// Brings to this checkout what the demo, the tests and the benchmarks need: `node scripts/setup.ts demo|test|bench`. A
// second run finds everything in place and does nothing.
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

export type SetupPurpose = 'demo' | 'test' | 'bench';

/** The machine lacks something that this script cannot bring. The message says what, and which command brings it. */
export class SetupError extends Error {
  override readonly name = 'SetupError';
}

const CHECKOUT = join(import.meta.dirname, '..');

/** Debian packages by purpose; every `apt-get install` of the project is in this table. */
const PACKAGES: Readonly<Record<SetupPurpose, readonly string[]>> = {
  demo: [
    'gcc', // compiles runner/native
    'libc6-dev', // its headers and static library
    'mmdebstrap', // makes the Debian base image
    'skopeo', // turns it into an archive for `varve load`
  ],
  test: [
    'gcc',
    'libc6-dev',
    'mmdebstrap',
    'skopeo', // also a judge: copies and inspects images
    'umoci', // a judge: unpacks images
    'procps', // ps
    'slirp4netns', // networks without root
    'passt',
    'iproute2', // ip
    'uidmap', // maps the ids of ordinary users, for builds without root
    'buildah', // a judge: builds the same Dockerfiles
    'docker-registry', // the registry on loopback
    'apache2-utils', // htpasswd, for a registry with passwords
    'busybox-static', // the smallest base image
    'qemu-user-static', // runs programs for another architecture
    'attr', // getfattr and setfattr
    'bzip2', // ADD of such archives
    'xz-utils',
    'libcap2-bin', // setcap, for files with capabilities
    'openssh-client', // ssh-agent, for keys that --ssh lends
    'openssh-server', // a server for repositories by SSH; tests start one of their own on loopback
    'openssl', // certificates of an authority that nobody knows
    'git', // repositories as contexts and for ADD, with its servers (http-backend, daemon)
    'gcc-aarch64-linux-gnu', // the published package brings the native program for both architectures
    'libc6-dev-arm64-cross',
    'clang-14', // with libFuzzer, for made-up input to the native program
    'libclang-rt-14-dev',
    'binutils', // readelf
    'runc', // stand in for the native program where there is no compiler
    'crun',
  ],
  bench: [
    'gcc',
    'libc6-dev',
    'mmdebstrap',
    'skopeo',
    'buildah', // measured beside varve
    'docker.io', // likewise, with a daemon that the benchmark starts for itself
    'docker-registry', // what images are pulled from and pushed to
    'crun', // runs a step's command alone
    'umoci', // makes crun's bundles
  ],
};

const BUNDLE = 'dist/varve.mjs';
/** What the bundle is made of. */
const BUNDLED = [
  'core',
  'parser',
  'builder',
  'snapshotter',
  'runner',
  'cache',
  'image',
  'cli',
  'scripts/bundle.ts',
];

/** True where `bin/varve` would start a bundle that was made before the sources were changed. */
export function isBundleStale(): boolean {
  return existsSync(join(CHECKOUT, BUNDLE)) && isOlderThanSources(BUNDLE, BUNDLED);
}

/**
 * Installs missing Debian packages, compiles the native program and bundles the command line where they are older than
 * their sources.
 *
 * @throws SetupError where this needs a person: not root, no apt, no network.
 */
export function setUp(purpose: SetupPurpose): void {
  installPackages(PACKAGES[purpose]);
  if (
    isOlderThanSources(`dist/native/varve-native-${process.arch}`, [
      'runner/native',
      'scripts/build-native.mjs',
    ])
  ) {
    runScript('scripts/build-native.mjs');
  }
  if (isOlderThanSources(BUNDLE, BUNDLED)) runScript('scripts/bundle.ts');
}

function installPackages(packages: readonly string[]): void {
  if (spawnSync('dpkg-query', ['--version']).status !== 0) {
    throw new SetupError(`this is no Debian system: install what these packages hold: ${packages.join(' ')}`);
  }
  const missing = missingPackages(packages);
  if (missing.length === 0) return;
  const command = `apt-get update && apt-get install --no-install-recommends ${missing.join(' ')}`;
  if (process.getuid?.() !== 0) {
    throw new SetupError(`missing Debian packages: ${missing.join(' ')}\nInstall them as root: ${command}`);
  }
  console.log(`setup: installing ${missing.join(' ')}`);
  // Package lists that are missing or too old make the first attempt fail; only then are they fetched.
  let attempt = aptInstall(missing);
  if (attempt.status !== 0) {
    const update = apt(['update']);
    attempt = update.status === 0 ? aptInstall(missing) : update;
  }
  const absent = missingPackages(packages);
  if (attempt.status !== 0 || absent.length > 0) {
    throw new SetupError(
      `apt could not install: ${absent.join(' ')}\n${attempt.stdout}${attempt.stderr}Try by hand: ${command}`,
    );
  }
}

/** Those of `packages` that dpkg does not list as installed. */
function missingPackages(packages: readonly string[]): readonly string[] {
  const query = spawnSync('dpkg-query', ['-W', '-f', '${Package} ${db:Status-Status}\\n', ...packages], {
    encoding: 'utf8',
  });
  const installed = new Set(query.stdout.split('\n').filter((line) => line.endsWith(' installed')));
  return packages.filter((name) => !installed.has(`${name} installed`));
}

type Run = SpawnSyncReturns<string>;

function aptInstall(packages: readonly string[]): Run {
  return apt(['install', '-y', '--no-install-recommends', ...packages]);
}

/** Runs apt-get without questions; what it prints is shown only where it fails for good. */
function apt(args: readonly string[]): Run {
  return spawnSync('apt-get', ['-qq', '-o', 'Dpkg::Use-Pty=0', '-o', 'DPkg::Lock::Timeout=300', ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
}

function isOlderThanSources(output: string, sources: readonly string[]): boolean {
  const made = join(CHECKOUT, output);
  if (!existsSync(made)) return true;
  const madeAt = statSync(made).mtimeMs;
  return sources.some((source) => newestChange(join(CHECKOUT, source)) > madeAt);
}

/** The newest time stamp of a file, or of the files in a folder; tests do not count. */
function newestChange(path: string): number {
  if (path.endsWith('.test.ts')) return 0;
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newestChange(join(path, name))));
}

function runScript(script: string): void {
  const run = spawnSync(process.execPath, [join(CHECKOUT, script)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (run.status !== 0)
    throw new SetupError(`${script} failed with exit code ${run.status}; its reason is above`);
}

if (import.meta.main) {
  const purpose = process.argv[2] ?? 'test';
  if (purpose !== 'demo' && purpose !== 'test' && purpose !== 'bench') {
    throw new Error('usage: setup.ts demo|test|bench');
  }
  try {
    setUp(purpose);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`setup: ${error.message}`);
    process.exitCode = 1;
  }
}
