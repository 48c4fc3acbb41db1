import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { arch } from 'node:os';
import { type BuilderParts, build, startContainer } from '../builder/index.ts';
import { openFileIndex, openStepCache, type PrunableCache } from '../cache/index.ts';
import {
  asDigest,
  type BuildRequest,
  type DiffId,
  type Digest,
  errnoOf,
  fsPath,
  type HostPath,
  joinHost,
  MachineError,
  type Platform,
  type SandboxIo,
  type SandboxProcess,
  type Snapshotter,
  type TreeOps,
  UsageError,
} from '../core/index.ts';
import {
  createBlobStore,
  createCredentialStore,
  createImageStore,
  createLayerTable,
  createRegistry,
  packLayer,
} from '../image/index.ts';
import { createRunner, createTreeOps } from '../runner/index.ts';
import { chooseDriver, createSnapshotter } from '../snapshotter/index.ts';
import { EngineCache } from './engine-cache.ts';
import type {
  BuildCallOptions,
  Engine,
  EngineOptions,
  OpenEngine,
  RunRequest,
  TransferOptions,
} from './engine-contract.ts';
import { EngineImages } from './engine-images.ts';
import { readVersion } from './version.ts';

/** What the parts of the engine share. */
export interface EngineParts extends BuilderParts {
  readonly cache: PrunableCache;
  readonly root: HostPath;
}

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

/** Where the bundle keeps the packing thread; in the sources the image room knows its own. */
const BUNDLED_WORKER = new URL('./pack-worker.mjs', import.meta.url);

/** Composes the rooms into the one object that the commands use. */
export const openEngine: OpenEngine = async (options) => {
  const root = options.root as HostPath;
  await makeStateFolder(root);
  const cleanup = new AsyncDisposableStack();
  try {
    const parts = await openParts(root, options, cleanup);
    return new ComposedEngine(parts, options, cleanup);
  } catch (error) {
    await cleanup.disposeAsync();
    throw error;
  }
};

async function makeStateFolder(root: HostPath): Promise<void> {
  try {
    await mkdir(root, { recursive: true, mode: 0o711 });
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

async function openParts(
  root: HostPath,
  options: EngineOptions,
  cleanup: AsyncDisposableStack,
): Promise<EngineParts> {
  const { now, config, dockerConfig, env } = options;
  const session = `${process.pid}-${randomBytes(6).toString('hex')}`;
  const cache = openStepCache({ root, clock: now, session, onWarning: warn });
  cleanup.defer(() => cache.close());
  const native = env['VARVE_NATIVE'];
  const treeOps = createTreeOps(native === undefined ? {} : { nativeProgram: native });
  const temporary = joinHost(root, 'tmp', session);
  await mkdir(temporary, { recursive: true, mode: 0o700 });
  cleanup.defer(() => rm(temporary, { recursive: true, force: true }));
  const snapshotter = await openSnapshotter({ root, session, treeOps, env, clock: now });
  cleanup.defer(() => snapshotter.close());
  const blobs = createBlobStore({ root });
  await sweep(root, { snapshotter, cache, blobs });
  const layerTable = createLayerTable({ root });
  const openDiff = async (diffId: DiffId) => (await snapshotter.stack(undefined, diffId))?.top();
  const images = createImageStore({ root, blobs, table: layerTable, openDiff });
  const credentials = createCredentialStore({ configDir: dockerConfig as HostPath, env });
  const registry = createRegistry({
    credentials,
    config: config.registries,
    proxyEnv: env,
    userAgent: `varve/${readVersion()}`,
  });
  const searchPath = env['PATH']?.split(':').filter((folder) => folder.startsWith('/'));
  const runner = createRunner({
    ...(searchPath === undefined ? {} : { searchPath }),
    tempFolder: temporary,
    ...(native === undefined ? {} : { nativeProgram: native }),
  });
  return {
    root,
    snapshotter,
    runner,
    treeOps,
    cache,
    buildLog: cache.builds,
    openFileIndex: (context) => openFileIndex({ root, context, clock: now }),
    images,
    blobs,
    layerTable,
    registry,
    packLayer: (source, packOptions) => packLayer(source, { ...packOptions, ...bundledWorker() }),
    temporary,
    owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    platform: thisPlatform(),
    now,
  };
}

async function openSnapshotter(options: {
  readonly root: HostPath;
  readonly session: string;
  readonly treeOps: TreeOps;
  readonly env: EngineOptions['env'];
  readonly clock: () => number;
}): Promise<Snapshotter> {
  const { root, session, treeOps, env, clock } = options;
  const userXattrs = process.getuid?.() !== 0;
  const wanted = env['VARVE_SNAPSHOTTER'];
  if (wanted !== undefined && wanted !== 'overlay' && wanted !== 'copy') {
    throw new UsageError(
      `VARVE_SNAPSHOTTER is ${JSON.stringify(wanted)}`,
      'Set it to overlay or copy, or leave it unset.',
    );
  }
  const driver = wanted ?? (await chooseDriver({ root, tree: treeOps, userXattrs }));
  return createSnapshotter({
    root,
    session,
    driver,
    tree: treeOps,
    userXattrs,
    digestFile,
    clock: { now: clock },
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

function warn(message: string): void {
  process.stderr.write(`varve: warning: ${message}\n`);
}

function bundledWorker(): { readonly workerUrl?: URL } {
  return import.meta.url.endsWith('.ts') ? {} : { workerUrl: BUNDLED_WORKER };
}

function thisPlatform(): Platform {
  return { os: 'linux', architecture: ARCHITECTURES[arch()] ?? arch() };
}

/**
 * Removes what processes that died left in the store; what lives is left alone. Every session has its folder below `tmp` for as
 * long as it lives, so that without such a folder there is nothing to look for.
 */
async function sweep(
  root: HostPath,
  parts: Pick<EngineParts, 'snapshotter' | 'cache' | 'blobs'>,
): Promise<void> {
  const { snapshotter, cache, blobs } = parts;
  const folder = joinHost(root, 'tmp');
  const dead = (await readdir(folder)).filter((session) => !cache.isAlive(session));
  if (dead.length === 0) return;
  cache.sweep();
  await snapshotter.sweep((session) => cache.isAlive(session));
  await blobs.sweep(isProcess);
  for (const session of dead) await rm(joinHost(folder, session), { recursive: true, force: true });
}

class ComposedEngine implements Engine {
  readonly #parts: EngineParts;
  readonly #cleanup: AsyncDisposableStack;
  readonly #images: EngineImages;
  readonly #cache: EngineCache;

  constructor(parts: EngineParts, options: EngineOptions, cleanup: AsyncDisposableStack) {
    this.#parts = parts;
    this.#cleanup = cleanup;
    this.#images = new EngineImages(parts);
    this.#cache = new EngineCache(parts, options.config.cache.maxBytes);
  }

  async build(request: BuildRequest, options: BuildCallOptions) {
    const result = await build(this.#parts, request, options);
    if (result.ok && result.value.steps.some((step) => step.outcome === 'ran'))
      await this.#cache.keepLimit(options.signal);
    return result;
  }

  async run(
    request: RunRequest,
    io: SandboxIo,
    { signal, onProgress }: TransferOptions,
  ): Promise<SandboxProcess> {
    const image = await this.#images.forRun(request, {
      signal,
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    const id = request.name ?? randomBytes(6).toString('hex');
    const { hostname = randomBytes(6).toString('hex') } = request;
    const { name: _name, image: _image, pull: _pull, interactive: _interactive, ...rest } = request;
    return startContainer(this.#parts, image, {
      request: { ...rest, hostname, id: `run-${id}` },
      io,
      signal,
    });
  }

  images = () => this.#images.list();
  findImage = (nameOrId: string) => this.#images.find(nameOrId);
  tag = (source: string, target: string) => this.#images.tag(source, target);
  remove = async (nameOrId: string, options: { readonly force: boolean; readonly prune: boolean }) => {
    const removed = await this.#images.remove(nameOrId, options);
    if (options.prune) await this.#cache.removeUnneededBlobs();
    return removed;
  };
  pull: Engine['pull'] = (reference, options) => this.#images.pull(reference, options);
  push: Engine['push'] = (reference, options) => this.#images.push(reference, options);
  save: Engine['save'] = (names, signal) => this.#images.save(names, signal);
  load: Engine['load'] = (archive, signal) => this.#images.load(archive, signal);
  checkLogin: Engine['checkLogin'] = (host, credentials, signal) =>
    this.#parts.registry.ping(host, { kind: 'basic', ...credentials }, signal);

  report: Engine['report'] = async (id) => this.#parts.buildLog.load(id);
  reports: Engine['reports'] = async (limit) => this.#parts.buildLog.list(limit);
  cacheRecords: Engine['cacheRecords'] = () => this.#cache.records();
  diskUsage: Engine['diskUsage'] = () => this.#cache.diskUsage();
  prune: Engine['prune'] = (options) => this.#cache.prune(options);

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanup.disposeAsync();
  }
}
