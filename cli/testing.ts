import { EventEmitter } from 'node:events';
import { Readable } from 'node:stream';
import type { BuildRequest, DiffId, Digest, ImageConfig, SandboxIo, SandboxOutcome } from '../core/index.ts';
import type { StoredImage } from '../image/index.ts';
import type { InputStream } from './command.ts';
import type { Engine, ImageDetails, RunRequest } from './engine-contract.ts';
import { main, type Surroundings } from './main.ts';
import { captureStream } from './progress/testing.ts';

/** 2026-01-01. */
export const NOW = Date.parse('2026-01-01T00:00:00Z');

export const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;

/** An image of two layers, one day old. */
export function storedImage(names: readonly string[], change: Partial<ImageConfig> = {}): StoredImage {
  const created = '2025-12-31T00:00:00Z';
  const config: ImageConfig = {
    created,
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['sh'], Labels: { a: 'b' } },
    rootfs: { type: 'layers', diff_ids: [digest('1') as DiffId, digest('2') as DiffId] },
    history: [
      { created, created_by: 'ADD rootfs.tar / # base' },
      { created, created_by: 'ENV PATH=/bin', empty_layer: true },
      { created, created_by: `RUN echo ${'long '.repeat(20)}`, comment: 'varve' },
    ],
    ...change,
  };
  const descriptor = { mediaType: 'x', digest: digest('c'), size: 1 };
  return {
    manifestDigest: digest('d'),
    manifest: { schemaVersion: 2, mediaType: 'x', config: descriptor, layers: [] },
    configDigest: digest('c'),
    config,
    names,
  };
}

export function imageDetails(names: readonly string[] = ['docker.io/library/app:latest']): ImageDetails {
  return { image: storedImage(names), size: 3_000_000, layerSizes: [2_500_000, 500_000] };
}

/** What a test says that the engine does; anything else that is asked of it is a bug in the test. */
export type FakeEngine = Partial<Engine>;

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandLine {
  readonly engine?: FakeEngine;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin?: InputStream;
  readonly signals?: EventEmitter;
  readonly exitNow?: (code: number) => void;
}

/** Runs one command line on a fake engine, to its end. */
export async function varve(argv: readonly string[], around: CommandLine = {}): Promise<Ran> {
  const stdout = captureStream();
  const stderr = captureStream();
  const surroundings: Surroundings = {
    argv,
    env: { HOME: '/nonexistent', VARVE_CONFIG: '', ...around.env },
    cwd: around.cwd ?? '/nonexistent',
    uid: 0,
    cpus: 2,
    temporaryFolder: process.env['TMPDIR'] ?? '/tmp',
    streams: { stdin: around.stdin ?? Readable.from([]), stdout, stderr },
    signals: around.signals ?? new EventEmitter(),
    exitNow: around.exitNow ?? (() => {}),
    now: () => NOW,
    newId: () => 'build-1',
    openEngine: async () => completed(around.engine ?? {}),
  };
  const code = await main(surroundings);
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

/** A whole engine from part of one: every other call fails by its name. */
function completed(part: FakeEngine): Engine {
  const missing = (name: string) => (): never => {
    throw new Error(`the test's engine has no ${name}`);
  };
  return {
    build: missing('build'),
    noteUnchanged: missing('noteUnchanged'),
    call: missing('call'),
    run: missing('run'),
    images: missing('images'),
    findImage: missing('findImage'),
    tag: missing('tag'),
    remove: missing('remove'),
    pull: missing('pull'),
    push: missing('push'),
    checkLogin: missing('checkLogin'),
    save: missing('save'),
    load: missing('load'),
    report: missing('report'),
    reads: missing('reads'),
    verify: missing('verify'),
    reports: missing('reports'),
    cacheRecords: missing('cacheRecords'),
    diskUsage: missing('diskUsage'),
    prune: missing('prune'),
    [Symbol.asyncDispose]: async () => {},
    ...part,
  };
}

/** An engine whose containers end as told; what was asked for is kept. */
export function runningEngine(outcome: SandboxOutcome): FakeEngine & {
  readonly asked: { request?: RunRequest; io?: SandboxIo; signals: NodeJS.Signals[] };
  readonly end: (outcome: SandboxOutcome) => void;
} {
  const asked: { request?: RunRequest; io?: SandboxIo; signals: NodeJS.Signals[] } = { signals: [] };
  const ended = Promise.withResolvers<SandboxOutcome>();
  return {
    asked,
    end: ended.resolve,
    run: async (request, io) => {
      Object.assign(asked, { request, io });
      io.onOutput?.('stdout', Buffer.from('hello\n'));
      if (outcome.kind !== 'cancelled') ended.resolve(outcome);
      return {
        outcome: ended.promise,
        trace: Promise.resolve(undefined),
        signal: (signal) => void asked.signals.push(signal),
        resize: () => {},
      };
    },
  };
}

/** An engine that notes the request and builds nothing, successfully. */
export function buildingEngine(): FakeEngine & { readonly requests: BuildRequest[] } {
  const requests: BuildRequest[] = [];
  return {
    requests,
    build: async (request, { onEvent }) => {
      requests.push(request);
      const image = { manifestDigest: digest('d'), configDigest: digest('c'), names: request.tags };
      onEvent({ type: 'build.started', at: 0, id: request.id, dockerfile: 'Dockerfile' });
      onEvent({ type: 'build.finished', at: 1, ok: true, image });
      const step = {
        name: 'RUN npm ci',
        stage: 'build',
        outcome: 'ran',
        reason: 'never ran before',
        ms: 12,
      } as const;
      return { ok: true, value: { image, steps: [step] } };
    },
  };
}
