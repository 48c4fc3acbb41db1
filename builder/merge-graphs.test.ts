import { expect, test } from 'vitest';
import { digestOf, type Platform, parseReference } from '../core/index.ts';
import { parse } from '../parser/index.ts';
import { Linter } from './checks/linter.ts';
import { DEFAULT_CHECKS } from './checks/options.ts';
import type { BuildGraph } from './graph.ts';
import { mergeGraphs } from './merge-graphs.ts';
import { planBuild } from './plan.ts';

const AMD64: Platform = { os: 'linux', architecture: 'amd64' };
const ARM64: Platform = { os: 'linux', architecture: 'arm64' };

async function graphFor(text: string, targetPlatform: Platform): Promise<BuildGraph> {
  const { dockerfile } = parse(text);
  if (dockerfile === undefined) throw new Error('it cannot be read');
  const request = {
    buildArgs: {},
    labels: {},
    noCache: false,
    noCacheFilter: [],
    network: 'default',
  } as const;
  const planned = await planBuild(
    {
      dockerfile,
      request,
      buildPlatform: AMD64,
      targetPlatform,
      isOneOfSeveral: true,
      isPlatformGiven: true,
      slotPrefix: 'p',
      lint: { linter: new Linter(DEFAULT_CHECKS) },
    },
    async ({ name }, platform, range) => {
      const reference = parseReference(name);
      if (!reference.ok) throw new Error(reference.error);
      return {
        use: {
          reference: reference.value,
          manifestDigest: digestOf(`${name} ${platform.architecture}`),
          range,
        },
        config: { ...platform, rootfs: { type: 'layers', diff_ids: [] } },
      };
    },
  );
  return planned.graph;
}

const TEXT = `FROM --platform=$BUILDPLATFORM base AS tool
RUN one
FROM base AS own
RUN two
FROM own
COPY --from=tool /a /a
COPY --from=own /b /b
RUN three
`;

test('mergeGraphs keeps a stage once that is the same for both platforms, and numbers all that points to stages anew', async () => {
  const merged = mergeGraphs([await graphFor(TEXT, AMD64), await graphFor(TEXT, ARM64)]);
  expect(merged.targets).toEqual([
    { stage: 2, platform: AMD64 },
    { stage: 4, platform: ARM64 },
  ]);
  expect(
    merged.stages.map(({ index, name, platform }) => `${index} ${name} ${platform.architecture}`),
  ).toEqual(['0 tool amd64', '1 own amd64', '2 2 amd64', '3 own arm64', '4 2 arm64']);
  const last = merged.stages[4];
  expect(last?.base).toEqual({ kind: 'stage', index: 3 });
  expect(last?.steps.map((step) => [step.info.index, step.stage])).toEqual([
    [6, 4],
    [7, 4],
    [8, 4],
  ]);
  expect(
    last?.steps.map((step) =>
      'sources' in step ? step.sources.map((one) => ('from' in one ? one.from : 0)) : [],
    ),
  ).toEqual([[{ kind: 'stage', index: 0, name: 'tool' }], [{ kind: 'stage', index: 3, name: 'own' }], []]);
});

test('mergeGraphs leaves the graph of one platform as it is', async () => {
  const graph = await graphFor(TEXT, AMD64);
  expect(mergeGraphs([graph])).toBe(graph);
});
