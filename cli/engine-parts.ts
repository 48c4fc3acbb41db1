import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { arch } from 'node:os';
import { type BuilderParts, createSources } from '../builder/index.ts';
import { openCacheMounts, openFileIndex, openStepCache, type PrunableCache } from '../cache/index.ts';
import {
  asDigest,
  type DiffId,
  type Digest,
  errnoOf,
  fsPath,
  type HostPath,
  joinHost,
  MachineError,
  type Platform,
  type Snapshotter,
  type TreeOps,
  UsageError,
} from '../core/index.ts';
import {
  createBlobStore,
  createCredentialStore,
  createDockerDaemons,
  createImageStore,
  createLayerTable,
  createRegistry,
  createTransport,
  type DiffSource,
  packLayer,
  sweepTemporary,
} from '../image/index.ts';
import {
  createHashTar,
  createLookInto,
  createPortableTreeOps,
  createRunner,
  createTreeOps,
  findNetworkHelper,
  GET_NATIVE,
  hasNativeProgram,
  locateNative,
  NativeServer,
  requireSandbox,
} from '../runner/index.ts';
import { chooseDriver, createSnapshotter } from '../snapshotter/index.ts';
import type { EngineOptions } from './engine-contract.ts';
import { trustOf } from './trust.ts';
import { hasOneId, isInUserNamespace } from './user-namespace.ts';
import { readVersion } from './version.ts';

/** What the parts of the engine share. */
export interface EngineParts extends BuilderParts {
  readonly cache: PrunableCache;
  readonly root: HostPath;
  /** Where the native program lies; undefined where it is missing. */
  readonly nativeProgram: string | undefined;
  /** Did the store say anything to the user? */
  readonly hasWarned: () => boolean;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

/** Where the bundle keeps the packing thread; in the sources the image room knows its own. */
const BUNDLED_WORKER = new URL('./pack-worker.mjs', import.meta.url);

/** One level after the other: `mkdir` with `recursive` never returns below /proc. */
function makeFolders(folder: HostPath): void {
  const parts = folder.split('/').filter((part) => part !== '');
  for (let depth = 1; depth <= parts.length; depth += 1) {
    const path = `/${parts.slice(0, depth).join('/')}`;
    if (existsSync(path)) continue;
    try {
      mkdirSync(path, { mode: 0o700 });
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    }
  }
}

function makeStateFolder(root: HostPath): void {
  try {
    makeFolders(root);
  } catch (cause) {
    throw new MachineError(
      'store-io',
      `cannot make the state folder ${root}: ${errnoOf(cause) ?? 'unknown error'}`,
      {
        hint: 'Choose another folder with --root or VARVE_ROOT.',
        cause,
      },
    );
  }
}

/**
 * What is stored with the ids of one user reads wrongly with those of another: owners, and the marks of overlays.
 * @throws MachineError `foreign-store` where the store is somebody else's.
 */
function checkOwner(root: HostPath): void {
  const owner = ownerOf(joinHost(root, 'varve.db'));
  if (owner === undefined || owner === (process.getuid?.() ?? 0)) return;
  throw new MachineError('foreign-store', `the state folder ${root} is that of another user`, {
    hint: 'Run varve as that user, or choose another folder with --root or VARVE_ROOT.',
  });
}

/** Undefined where the file cannot be looked at: opening it will tell why. */
function ownerOf(file: HostPath): number | undefined {
  try {
    return statSync(file).uid;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

/** Opens the store in `root` and puts the rooms together on it; what must be closed again goes onto `cleanup`. */
export async function openParts(
  root: HostPath,
  options: EngineOptions,
  cleanup: AsyncDisposableStack,
): Promise<EngineParts> {
  const { now, config, dockerConfig, env, stallMs } = options;
  makeStateFolder(root);
  checkOwner(root);
  const session = `${process.pid}-${randomBytes(6).toString('hex')}`;
  let hasWarned = false;
  const onWarning = (message: string): void => {
    hasWarned = true;
    warn(message);
  };
  const cache = openStepCache({ root, clock: now, session, onWarning });
  cleanup.defer(() => cache.close());
  const programs = programsOf(env);
  const hasNative = hasNativeProgram(programs.nativeProgram);
  const native = new NativeServer(() => locateNative(programs.nativeProgram));
  cleanup.defer(() => native.close());
  const treeOps = hasNative ? createTreeOps({ native }) : createPortableTreeOps();
  const temporary = joinHost(root, 'tmp', session);
  mkdirSync(temporary, { recursive: true, mode: 0o700 });
  cleanup.defer(() => rm(temporary, { recursive: true, force: true }));
  const layerTable = createLayerTable({ root });
  const hashing = hasNative ? { hashTar: createHashTar(native) } : bundledWorker();
  const pack: EngineParts['packLayer'] = (source, packOptions) =>
    packLayer(source, { ...packOptions, ...hashing });
  const makesLayer = async (diffId: DiffId, files: DiffSource) => {
    const { sourceDateEpoch } = await layerTable.get(diffId);
    const packed = await pack(files, sourceDateEpoch === undefined ? {} : { sourceDateEpoch });
    return packed.diffId === diffId;
  };
  const snapshotter = await openSnapshotter({
    ...{ root, session, treeOps, env, hasNative },
    ...{ clock: now, makesLayer },
  });
  cleanup.defer(() => snapshotter.close());
  const blobs = createBlobStore({ root });
  await sweep(root, { snapshotter, cache, blobs });
  const openDiff = async (diffId: DiffId) => (await snapshotter.stack(undefined, diffId))?.top();
  const dropDiff = (diffId: DiffId) => snapshotter.remove([diffId]);
  const images = createImageStore({ root, blobs, table: layerTable, openDiff, dropDiff });
  const credentials = createCredentialStore({ configDir: dockerConfig as HostPath, env });
  const trust = trustOf(env, temporary);
  const transport = createTransport({
    proxyEnv: env,
    roots: trust.roots,
    ...(stallMs === undefined ? {} : { stallMs }),
  });
  const registry = createRegistry({
    credentials,
    config: config.registries,
    transport,
    userAgent: `varve/${readVersion()}`,
  });
  const sources = createSources({
    folder: joinHost(root, 'sources'),
    temporary,
    blobs,
    transport,
    userAgent: `varve/${readVersion()}`,
    env,
    certificates: trust.file,
    exclusively: (key, work, signal) => cache.exclusively(key, work, signal),
    now,
  });
  const networkHelper = isInUserNamespace() ? findNetworkHelper(programs.searchPath) : undefined;
  const runner = createRunner({ ...programs, native, networkHelper, tempFolder: temporary });
  return {
    root,
    nativeProgram: hasNative ? locateNative(programs.nativeProgram) : undefined,
    hasWarned: () => hasWarned,
    snapshotter,
    runner,
    treeOps,
    cache,
    cacheMounts: openCacheMounts({ root, clock: now }),
    buildLog: cache.builds,
    openFileIndex: (context, looks) => openFileIndex({ root, temporary, context, clock: now, looks }),
    ...(hasNative ? { lookInto: createLookInto(native) } : {}),
    images,
    blobs,
    layerTable,
    registry,
    daemon: createDockerDaemons({ dockerHost: env['DOCKER_HOST'] }),
    sources,
    packLayer: pack,
    temporary,
    owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    hasOneId: hasOneId(),
    platform: thisPlatform(),
    now,
    writeReport: async (report) => {
      // Hardly ever needed: not worth its time at every start.
      const { writeHitReport } = await import('../builder/index.ts');
      return await writeHitReport(joinHost(root, 'reports'), report, {
        nowMs: now(),
        version: readVersion(),
      });
    },
  };
}

/** Where programs are looked for. */
export function programsOf(env: EngineOptions['env']) {
  const native = env['VARVE_NATIVE'];
  const searchPath = env['PATH']?.split(':').filter((folder) => folder.startsWith('/'));
  return {
    ...(native === undefined ? {} : { nativeProgram: native }),
    ...(searchPath === undefined ? {} : { searchPath }),
  };
}

/**
 * Makes sure, before any work, that this machine can do what builds and containers need, and says what it lacks.
 * @throws MachineError `no-sandbox`
 */
export function checkPrograms(env: EngineOptions['env']): void {
  const programs = programsOf(env);
  if (hasNativeProgram(programs.nativeProgram)) return;
  requireSandbox(programs);
  warn(
    `the native program is missing: trees of files are copied instead of mounted, and runc or crun runs the commands; ${GET_NATIVE}`,
  );
}

/** Without root, says where commands come nearer to the machine than they would have to. @returns what was said */
export function checkNetwork(env: EngineOptions['env']): string {
  if (!isInUserNamespace() || findNetworkHelper(programsOf(env).searchPath) !== undefined) return '';
  return warn(
    "commands have the machine's own network: there is neither pasta (Debian's package passt) nor slirp4netns, or /dev/net/tun is closed to this user",
  );
}

async function openSnapshotter(options: {
  readonly root: HostPath;
  readonly session: string;
  readonly treeOps: TreeOps;
  readonly env: EngineOptions['env'];
  /** Without it only copies can be made, whatever was found out about overlays before. */
  readonly hasNative: boolean;
  readonly clock: () => number;
  readonly makesLayer: (diffId: DiffId, files: DiffSource) => Promise<boolean>;
}): Promise<Snapshotter> {
  const { root, session, treeOps, env, hasNative, clock, makesLayer } = options;
  const userXattrs = isInUserNamespace();
  const wanted = env['VARVE_SNAPSHOTTER'];
  if (wanted !== undefined && wanted !== 'overlay' && wanted !== 'copy') {
    throw new UsageError(
      `VARVE_SNAPSHOTTER is ${JSON.stringify(wanted)}`,
      'Set it to overlay or copy, or leave it unset.',
    );
  }
  const driver = hasNative ? (wanted ?? (await chooseDriver({ root, tree: treeOps, userXattrs }))) : 'copy';
  return createSnapshotter({
    root,
    session,
    driver,
    tree: treeOps,
    userXattrs,
    digestFile,
    clock: { now: clock },
    makesLayer,
  });
}

async function digestFile(path: HostPath): Promise<Digest> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(fsPath(path))) hash.update(chunk);
  return asDigest(`sha256:${hash.digest('hex')}`);
}

/** Is there a process of this number on this machine? */
export function isProcess(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

function warn(message: string): string {
  const text = `varve: warning: ${message}\n`;
  process.stderr.write(text);
  return text;
}

function bundledWorker(): { readonly workerUrl?: URL } {
  return import.meta.url.endsWith('.ts') ? {} : { workerUrl: BUNDLED_WORKER };
}

function thisPlatform(): Platform {
  return { os: 'linux', architecture: ARCHITECTURES[arch()] ?? arch() };
}

/** Folders of the store with files that are replaced as a whole. */
const WRITTEN_WHOLE = ['images/names', 'images/manifests', 'layers'];

/**
 * Removes what processes that died left in the store; what lives is left alone. Every session has its lock for as long as it lives and
 * its folder below `tmp` for most of that time, so that without either there is nothing to look for.
 */
async function sweep(
  root: HostPath,
  parts: Pick<EngineParts, 'snapshotter' | 'cache' | 'blobs'>,
): Promise<void> {
  const { snapshotter, cache, blobs } = parts;
  const folder = joinHost(root, 'tmp');
  const isDead = (session: string) => !cache.isAlive(session);
  // Of a session that is just beginning the lock comes first: it may look dead without a folder, but not with one.
  const dead = readdirSync(folder).filter(isDead);
  if (dead.length === 0 && !cache.sessions().some(isDead)) return;
  cache.sweep();
  await snapshotter.sweep((session) => cache.isAlive(session));
  await blobs.sweep(isProcess);
  for (const name of WRITTEN_WHOLE) await sweepTemporary(joinHost(root, name), isProcess);
  for (const session of dead) await rm(joinHost(folder, session), { recursive: true, force: true });
}
