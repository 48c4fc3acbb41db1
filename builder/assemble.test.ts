import { describe, expect, test } from 'vitest';
import {
  type CommittedSnapshot,
  DEFAULT_CACHING,
  type DiffId,
  digestOf,
  type ImageConfig,
  type ImageManifest,
  MEDIA_TYPE,
  type Reference,
} from '../core/index.ts';
import { assembleImage } from './assemble.ts';
import type { SolvedStep } from './attempt.ts';
import type { UsableImage } from './base-image.ts';
import type { BuildGraph, StagePlan, Step } from './graph.ts';

const range = { start: { line: 1, column: 1, offset: 0 }, end: { line: 1, column: 2, offset: 1 } };
const diff = (name: string) => digestOf(name) as DiffId;
const REFERENCE: Reference = { host: 'docker.io', repository: 'library/base', tag: 'latest' };

const platform = { os: 'linux', architecture: 'amd64' };
const BASE_CONFIG: ImageConfig = {
  architecture: 'amd64',
  os: 'linux',
  created: '2020-01-01T00:00:00Z',
  rootfs: { type: 'layers', diff_ids: [diff('base')] },
  history: [{ created_by: 'base layer' }],
};
const BASE_LAYER = { mediaType: MEDIA_TYPE.ociLayerGzip, digest: digestOf('base.gz'), size: 9 };
const BASE: UsableImage = {
  reference: REFERENCE,
  manifestDigest: digestOf('manifest'),
  manifest: { layers: [BASE_LAYER] } as Partial<ImageManifest> as ImageManifest,
  config: BASE_CONFIG,
  platform,
};

function runStep(index: number, stage: number): Step {
  return {
    kind: 'RUN',
    info: { index, kind: 'RUN', name: `RUN ${index}`, stage: String(stage), range },
    stage,
    noCache: false,
    caching: DEFAULT_CACHING,
    slot: String(index),
    platform,
    args: [],
    environment: {},
    hiddenEnvironment: {},
    user: '',
    workdir: '' as Extract<Step, { kind: 'RUN' }>['workdir'],
    network: 'default',
    mounts: [],
    security: 'sandbox',
    devices: [],
    limits: {},
  };
}

function solved(step: Step, layer: string | undefined, createdAtMs: number): SolvedStep {
  const made = layer === undefined ? {} : { layer: { diffId: diff(layer), size: 1024 } };
  return { step, outcome: 'ran', reason: '', ms: 1, createdAtMs, ...made };
}

const FIRST: StagePlan = {
  index: 0,
  name: 'first',
  base: { kind: 'image', image: { reference: REFERENCE, manifestDigest: BASE.manifestDigest, range } },
  steps: [runStep(0, 0), runStep(1, 0)],
  config: {},
  platform,
  history: [{ createdBy: 'ENV a=b' }, { createdBy: 'RUN 0', step: 0 }, { createdBy: 'RUN 1', step: 1 }],
};
const SECOND: StagePlan = {
  index: 1,
  name: 'second',
  base: { kind: 'stage', index: 0 },
  steps: [runStep(2, 1)],
  config: { Cmd: ['x'] },
  author: 'me',
  platform,
  history: [{ createdBy: 'RUN 2', step: 0 }, { createdBy: 'CMD x' }],
};
const TARGET = { stage: 1, platform };
const GRAPH: BuildGraph = { stages: [FIRST, SECOND], targets: [TARGET] };

function snapshotOf(...names: string[]): CommittedSnapshot {
  return { diffIds: names.map(diff) } as Partial<CommittedSnapshot> as CommittedSnapshot;
}

function assemble(layers: readonly (string | undefined)[], sourceDateEpoch?: number) {
  const steps = [...FIRST.steps, ...SECOND.steps];
  const stack = ['base', ...layers.filter((layer) => layer !== undefined)];
  return assembleImage({
    graph: GRAPH,
    target: TARGET,
    solved: new Map(steps.map((step, nth) => [nth, solved(step, layers[nth], Date.UTC(2021, nth))])),
    snapshot: snapshotOf(...stack),
    sourceDateEpoch,
    imageOf: (stage) => (stage.index === 0 ? BASE : undefined),
  });
}

describe('assembleImage', () => {
  test('stacks the layers of base and stages, those of the base as they came, built ones as plain tars', () => {
    const { config, layers } = assemble(['one', 'two', 'three']);
    expect(layers).toEqual([
      BASE_LAYER,
      ...['one', 'two', 'three'].map((name) => ({
        mediaType: MEDIA_TYPE.ociLayer,
        digest: diff(name),
        size: 1024,
      })),
    ]);
    expect(config.rootfs.diff_ids).toEqual(['base', 'one', 'two', 'three'].map(diff));
    expect(config).toMatchObject({
      config: { Cmd: ['x'] },
      author: 'me',
      os: 'linux',
      architecture: 'amd64',
    });
  });

  test('has one history entry a layer that is not empty, and marks the others', () => {
    const { config, layers } = assemble(['one', undefined, 'three']);
    const history = config.history ?? [];
    expect(history.map((entry) => [entry.created_by, entry.empty_layer ?? false])).toEqual([
      ['base layer', false],
      ['ENV a=b', true],
      ['RUN 0', false],
      ['RUN 1', true],
      ['RUN 2', false],
      ['CMD x', true],
    ]);
    expect(history.filter((entry) => entry.empty_layer !== true)).toHaveLength(layers.length);
  });

  test('takes its times from the records, so that the same records give the same bytes', () => {
    const first = assemble(['one', 'two', 'three']);
    expect(JSON.stringify(assemble(['one', 'two', 'three']))).toBe(JSON.stringify(first));
    expect(first.config.created).toBe('2021-03-01T00:00:00.000Z');
    // What stands before the first step has its time: the base's is older than this build.
    expect(first.config.history?.[1]?.created).toBe('2021-01-01T00:00:00.000Z');
  });

  test('SOURCE_DATE_EPOCH stands for every time of this build, not for those of the base', () => {
    const { config } = assemble(['one', 'two', 'three'], 1_000_000_000);
    expect(config.created).toBe('2001-09-09T01:46:40.000Z');
    expect(config.history?.[0]?.created).toBe(BASE_CONFIG.history?.[0]?.created);
    expect(new Set(config.history?.slice(1).map((entry) => entry.created))).toEqual(
      new Set([config.created]),
    );
  });

  test('layers that do not fit the snapshot are a bug, not an image', () => {
    expect(() =>
      assembleImage({
        graph: GRAPH,
        target: TARGET,
        solved: new Map([...FIRST.steps, ...SECOND.steps].map((step, nth) => [nth, solved(step, 'x', 0)])),
        snapshot: snapshotOf('base'),
        sourceDateEpoch: undefined,
        imageOf: () => BASE,
      }),
    ).toThrow(/1 layers and 4 descriptors/);
  });
});
