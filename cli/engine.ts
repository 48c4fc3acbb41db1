import { randomBytes, randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { build, callBuild, startContainer, verifyRecords } from '../builder/index.ts';
import type { NotedOutput } from '../cache/index.ts';
import {
  type BuildRequest,
  errnoOf,
  fsPath,
  type HostPath,
  MachineError,
  type Mount,
  type NetworkMode,
  type SandboxIo,
  type SandboxProcess,
} from '../core/index.ts';
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
import { checkNetwork, checkPrograms, type EngineParts, openParts } from './engine-parts.ts';

/** Composes the rooms into the one object that the commands use. */
export const openEngine: OpenEngine = async (options) => {
  const root = options.root as HostPath;
  const cleanup = new AsyncDisposableStack();
  try {
    const parts = await openParts(root, options, cleanup);
    return new ComposedEngine(parts, options, cleanup);
  } catch (error) {
    await cleanup.disposeAsync();
    throw error;
  }
};

/** As with Docker, a folder that `-v` names and that is not there is made. */
async function makeSources(mounts: readonly Mount[]): Promise<void> {
  for (const mount of mounts) {
    if (mount.type !== 'bind' || existsSync(fsPath(mount.source))) continue;
    try {
      await mkdir(fsPath(mount.source), { recursive: true });
    } catch (cause) {
      const why = errnoOf(cause) ?? 'unknown error';
      throw new MachineError('volume-unusable', `cannot make the folder ${mount.source}: ${why}`, {
        hint: 'Name a folder that exists with -v.',
        cause,
      });
    }
  }
}

class ComposedEngine implements Engine {
  readonly #parts: EngineParts;
  readonly #cleanup: AsyncDisposableStack;
  readonly #images: EngineImages;
  readonly #cache: EngineCache;
  readonly #env: EngineOptions['env'];
  /** What the machine lacks, in the words in which it was said. */
  #said = '';

  constructor(parts: EngineParts, options: EngineOptions, cleanup: AsyncDisposableStack) {
    this.#parts = parts;
    this.#cleanup = cleanup;
    this.#env = options.env;
    this.#images = new EngineImages(parts);
    this.#cache = new EngineCache(parts, options.config.cache.maxBytes);
  }

  async build(request: BuildRequest, options: BuildCallOptions) {
    this.#checkMachine('building', request.network);
    const result = await build(this.#parts, request, options);
    if (result.ok && result.value.steps.some((step) => step.outcome === 'ran'))
      await this.#cache.keepLimit(options.signal);
    return result;
  }

  noteUnchanged: Engine['noteUnchanged'] = async (unchanged, told) => {
    const { noteUnchanged } = await import('./engine-unchanged.ts');
    const output: readonly NotedOutput[] = [
      ...(this.#said === '' ? [] : [{ fd: 2, pieces: [{ kind: 'text', text: this.#said }] } as const]),
      ...told.output,
    ];
    await noteUnchanged(this.#parts, this.#env, { unchanged, ...told, output });
  };

  call: Engine['call'] = (request, call, options) => callBuild(this.#parts, { ...request, call }, options);

  async run(
    request: RunRequest,
    io: SandboxIo,
    { signal, onProgress }: TransferOptions,
  ): Promise<SandboxProcess> {
    this.#checkMachine('running a container', request.network);
    const image = await this.#images.forRun(request, {
      signal,
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    await makeSources(request.mounts);
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
  findImage: Engine['findImage'] = (nameOrId, platform) => this.#images.find(nameOrId, platform);
  tag = (source: string, target: string) => this.#images.tag(source, target);
  remove: Engine['remove'] = async (nameOrId, options) => {
    const removed = await this.#images.remove(nameOrId, options);
    if (options.prune) await this.#cache.removeUnneededBlobs();
    return removed;
  };
  pull: Engine['pull'] = async (reference, options) => {
    this.#checkMachine('unpacking an image');
    return this.#images.pull(reference, options);
  };
  push: Engine['push'] = (reference, options) => this.#images.push(reference, options);
  save: Engine['save'] = (names, signal, platform) => this.#images.save(names, signal, platform);
  load: Engine['load'] = (archive, signal) => this.#images.load(archive, signal);
  checkLogin: Engine['checkLogin'] = (host, credentials, signal) =>
    this.#parts.registry.ping(host, { kind: 'basic', ...credentials }, signal);

  /** Owners of files and sandboxes can be made by root alone, who is an ordinary user in a user namespace (`bin/varve`). */
  #checkMachine(what: string, network?: NetworkMode): void {
    const { uid } = this.#parts.owner;
    if (uid === 0) {
      checkPrograms(this.#env);
      this.#said = network === 'default' ? checkNetwork(this.#env) : '';
      return;
    }
    throw new MachineError(
      'not-root',
      `${what} needs root: this is user ${uid}, who can make neither other owners' files nor sandboxes`,
      {
        hint: 'Run varve as root, or let users have user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone).',
      },
    );
  }

  report: Engine['report'] = async (id) => this.#parts.buildLog.load(id);
  reads: Engine['reads'] = async (key) => this.#parts.cache.reads(key);
  reports: Engine['reports'] = async (limit) => this.#parts.buildLog.list(limit);
  cacheRecords: Engine['cacheRecords'] = () => this.#cache.records();
  diskUsage: Engine['diskUsage'] = () => this.#cache.diskUsage();
  verify: Engine['verify'] = async ({ sample, noise, onStep, signal }) => {
    this.#checkMachine('running steps');
    const keys = this.#parts.cache.usage().flatMap(({ kind, key }) => (kind === 'RUN' ? [key] : []));
    const id = randomBytes(6).toString('hex');
    const damaged = await this.#cache.dropDamaged(signal);
    const verified = await verifyRecords(chosen(keys, sample), this.#parts, { id, noise, onStep, signal });
    return [...damaged, ...verified];
  };
  prune: Engine['prune'] = (options) => this.#cache.prune(options);

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanup.disposeAsync();
  }
}

/** `count` of `items` at random, in random order; all of them where nothing is said. */
function chosen<T>(items: readonly T[], count = items.length): readonly T[] {
  const rest = [...items];
  const picked: T[] = [];
  while (picked.length < count && rest.length > 0) picked.push(...rest.splice(randomInt(rest.length), 1));
  return picked;
}
