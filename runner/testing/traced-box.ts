import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type CommittedSnapshot,
  DEFAULT_SHM_BYTES,
  type DiffId,
  digestOf,
  type HostPath,
  type MountableSnapshot,
  type Observation,
  type ObservedTree,
  ROOT_PATH,
  ROOT_USER,
  type RootMount,
  type Runner,
  type SandboxOutcome,
  type SandboxSpec,
  type Snapshotter,
  type TraceReport,
  USE,
} from '../../core/index.ts';
import { createSnapshotter } from '../../snapshotter/index.ts';
import { createRunner } from '../runner.ts';
import { createTreeOps } from '../tree-ops.ts';
import { TESTED_NATIVE } from './box.ts';

export interface TracedRun {
  readonly outcome: SandboxOutcome;
  readonly stdout: string;
  readonly trace: TraceReport | undefined;
  /** What the program left in the writable layer. */
  readonly upper: HostPath;
}

export type OverlayRoot = Extract<RootMount, { readonly type: 'overlay' }>;

/** A busybox image in a real store; layers are put on it, and steps run on top with these layers traced, or not. */
export class TracedBox {
  readonly folder: string;
  readonly runner: Runner;
  readonly snapshotter: Snapshotter;
  readonly #tree = createTreeOps(TESTED_NATIVE);
  #top: CommittedSnapshot | undefined;
  #base = 0;
  #time = 0;

  private constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'varve-traced-'));
    mkdirSync(join(this.folder, 'store'));
    this.runner = createRunner({ tempFolder: this.folder, ...TESTED_NATIVE });
    this.snapshotter = createSnapshotter({
      root: join(this.folder, 'store') as HostPath,
      session: 'one',
      driver: 'overlay',
      tree: this.#tree,
      userXattrs: false,
      digestFile: async (path) => digestOf(readFileSync(path)),
      clock: { now: () => this.#time++ },
    });
  }

  /** `probe`: the image has `/bin/probe`, see probe.c. `files`: more of the base image, by path. */
  static async make(base: { readonly probe?: boolean; readonly script?: string } = {}): Promise<TracedBox> {
    const box = new TracedBox();
    await box.write((upper) => {
      mkdirSync(join(upper, 'bin'));
      mkdirSync(join(upper, 'tmp'));
      cpSync('/bin/busybox', join(upper, 'bin/busybox'), { dereference: true });
      execFileSync('chroot', [upper, '/bin/busybox', '--install', '-s', '/bin']);
      if (base.probe) compileProbe(join(upper, 'bin/probe'));
    });
    if (base.script !== undefined) await box.layer(base.script);
    box.#base = box.#top?.diffIds.length ?? 0;
    return box;
  }

  /** A layer of what `write` does to an empty upper folder. */
  async write(write: (upper: HostPath) => void): Promise<void> {
    await using active = await this.snapshotter.prepare(this.#top);
    write(overlay(active.root).writable?.upper ?? ('' as HostPath));
    await using frozen = await active.freeze();
    this.#top = await frozen.commit(digestOf(`layer ${this.#time}`) as DiffId);
  }

  /** A layer of what a shell script does in a sandbox. */
  async layer(script: string): Promise<void> {
    await using active = await this.snapshotter.prepare(this.#top);
    const process = await this.runner.start(this.spec(active.root, ['sh', '-euc', script]), { mode: 'pipe' });
    const outcome = await process.outcome;
    if (outcome.kind !== 'exited' || outcome.code !== 0)
      throw new Error(`${script}: ${JSON.stringify(outcome)}`);
    await using frozen = await active.freeze();
    this.#top = await frozen.commit(digestOf(`layer ${this.#time}`) as DiffId);
  }

  /** An active snapshot on all layers, with those above the base to be traced. */
  async prepare(traced = true): Promise<AsyncDisposable & { readonly root: OverlayRoot }> {
    const options = traced ? { traceAbove: this.#base } : {};
    const active = await this.snapshotter.prepare(this.#top, options);
    return { root: overlay(active.root), [Symbol.asyncDispose]: () => active[Symbol.asyncDispose]() };
  }

  /** Data folders of the layers above the base, topmost first. */
  async tracedFolders(): Promise<readonly HostPath[]> {
    await using active = await this.prepare();
    return active.root.traced ?? [];
  }

  /** All layers, the base's among them, as a tree to be mounted by itself. */
  async mountable(traced = true): Promise<MountableSnapshot> {
    return this.snapshotter.mountable(this.#committed(), { traced });
  }

  /** What all layers say of paths. */
  observed(): Promise<ObservedTree> {
    return this.snapshotter.observed(this.#committed(), 0);
  }

  #committed(): CommittedSnapshot {
    if (this.#top === undefined) throw new Error('an image without layers');
    return this.#top;
  }

  async run(args: readonly string[], options: RunOptions = {}): Promise<TracedRun> {
    await using active = await this.prepare(options.traced);
    const chunks: Uint8Array[] = [];
    const root = options.root?.(active.root) ?? active.root;
    const started = await this.runner.start(
      { ...this.spec(root, args), ...options.spec },
      { mode: 'pipe', onOutput: (_stream, chunk) => chunks.push(chunk) },
      options.signal === undefined ? {} : { signal: options.signal },
    );
    const outcome = await started.outcome;
    const trace = await started.trace;
    options.inspect?.(active.root.writable?.upper ?? ('' as HostPath));
    const upper = active.root.writable?.upper ?? ('' as HostPath);
    return { outcome, trace, upper, stdout: Buffer.concat(chunks).toString('latin1') };
  }

  sh(script: string, options: RunOptions = {}): Promise<TracedRun> {
    return this.run(['sh', '-c', script], options);
  }

  spec(root: RootMount, args: readonly string[]): SandboxSpec {
    return {
      root,
      args,
      readonlyRoot: false,
      mounts: [],
      env: ['PATH=/bin'],
      cwd: ROOT_PATH,
      user: ROOT_USER,
      hostname: 'box',
      network: 'none',
      extraHosts: [],
      limits: {},
      shmSizeBytes: DEFAULT_SHM_BYTES,
      security: 'default',
      noNewPrivileges: false,
      id: 'traced',
    };
  }

  async remove(): Promise<void> {
    await this.snapshotter.close();
    await this.#tree.removeAll([this.folder as HostPath]);
  }
}

export interface RunOptions {
  readonly traced?: boolean;
  readonly spec?: Partial<SandboxSpec>;
  readonly root?: (root: OverlayRoot) => RootMount;
  readonly signal?: AbortSignal;
  /** Called with the writable layer before it is thrown away. */
  readonly inspect?: (upper: HostPath) => void;
}

function overlay(root: RootMount): OverlayRoot {
  if (root.type !== 'overlay') throw new Error('no overlay');
  return root;
}

/** `path: uses` in words, sorted; `filter` keeps the paths that a test is about. @throws Error where nothing was traced. */
export function usesOf(
  trace: TraceReport | undefined,
  filter: RegExp = /./,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    observationsOf(trace)
      .filter(({ path }) => filter.test(path))
      .map(({ path, uses }): [string, string] => [path, words(uses)])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

export function observationsOf(trace: TraceReport | undefined): readonly Observation[] {
  if (trace?.kind !== 'traced') throw new Error(`not traced: ${JSON.stringify(trace)}`);
  return trace.observations;
}

/** `seen` for the two uses that every look-up has. */
function words(uses: number): string {
  const seen = USE.METADATA | USE.ATTRIBUTES;
  const rest = Object.entries(USE).filter(([, bit]) => (uses & bit) !== 0 && (seen & bit) === 0);
  const names = rest.map(([name]) => name.toLowerCase());
  return [...((uses & seen) === seen ? ['seen'] : []), ...names].join(' ');
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function compileProbe(output: string): void {
  const source = fileURLToPath(new URL('./probe.c', import.meta.url));
  execFileSync('cc', ['-std=gnu11', '-O1', '-static', '-o', output, source]);
}

/** A file of `size` bytes that look like nothing. */
export function writeNoise(path: string, size: number): void {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i + 4 <= size; i += 4) bytes.writeUInt32LE(Math.imul(i + size, 0x9e3779b1) >>> 0, i);
  writeFileSync(path, bytes);
}
