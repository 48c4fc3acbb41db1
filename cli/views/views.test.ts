import { describe, expect, test } from 'vitest';
import type { BuildReport, StepReport } from '../../cache/index.ts';
import type { StepKey } from '../../core/index.ts';
import { stepInfos } from '../progress/testing.ts';
import { NO_STYLE } from '../style.ts';
import { digest, NOW, varve } from '../testing.ts';
import { formatAge } from './table.ts';
import { findStep, renderBuilds, renderWhy } from './why.ts';

const infos = stepInfos('build: COPY package.json .', 'build: RUN npm ci', '1: RUN touch /x\u001b[2J');

function report(): BuildReport {
  const outcomes = [
    { outcome: 'exact', reason: 'same command, same parent, same files', ms: 3 },
    { outcome: 'ran', reason: 'package-lock.json changed', ms: 12_400 },
    { outcome: 'failed', reason: 'exit code 1', ms: 800 },
  ] as const;
  const steps = infos.map((info, index): StepReport => {
    const outcome = outcomes[index];
    if (outcome === undefined) throw new Error('an outcome is missing');
    return { info, ...outcome };
  });
  return {
    id: '0a1b2c',
    startedAtMs: NOW - 73_300,
    finishedAtMs: NOW - 60_000,
    dockerfile: '/src/Dockerfile',
    context: '/src',
    target: '1',
    ok: false,
    error: 'RUN touch failed',
    steps,
  };
}

describe('renderWhy', () => {
  test('shows outcome, time and step in columns, the reason below', async () => {
    await expect(renderWhy(report(), { style: NO_STYLE, now: NOW })).toMatchFileSnapshot('../golden/why.txt');
  });

  test('shows one step under its own number', () => {
    const text = renderWhy(report(), { style: NO_STYLE, now: NOW, step: 2 });
    expect(text).toMatch(/^ {2}2 {2}ran +12\.4s {2}\[build\] RUN npm ci$/m);
    expect(text).not.toContain('COPY');
  });

  test.each([
    ['2', 2],
    ['npm ci', 2],
    ['0', undefined],
    ['4', undefined],
    ['RUN', undefined],
    ['yarn', undefined],
  ])('findStep %j is %s', (words, number) => {
    expect(findStep(report(), words)).toBe(number);
  });

  test('of several platforms a step is shown and found with its own', () => {
    const both = report();
    const steps = ['linux/amd64', 'linux/arm64'].flatMap((platform) =>
      both.steps.slice(1, 2).map((step) => ({ ...step, info: { ...step.info, platform } })),
    );
    const text = renderWhy({ ...both, steps }, { style: NO_STYLE, now: NOW });
    expect(text).toContain('[linux/arm64 build] RUN npm ci');
    expect(findStep({ ...both, steps }, 'npm ci')).toBeUndefined();
    expect(findStep({ ...both, steps }, 'linux/arm64 RUN npm')).toBe(2);
  });

  test('varve why asks for the last build, or the one with --build', async () => {
    const asked: (string | undefined)[] = [];
    const engine = {
      report: async (id?: string) => {
        asked.push(id);
        return id === 'none' ? undefined : report();
      },
    };
    expect((await varve(['why'], { engine })).stdout).toContain('package-lock.json changed');
    expect(JSON.parse((await varve(['why', '--format=json', '2'], { engine })).stdout)).toMatchObject({
      steps: [{ outcome: 'ran' }],
    });
    expect(await varve(['why', '--build', 'none'], { engine })).toMatchObject({
      code: 1,
      stderr:
        "varve: there is no build none [build-unknown]\nhint: 'varve why --list' lists what is known.\n",
    });
    expect(asked).toEqual([undefined, undefined, 'none']);
  });
});

test('renderBuilds lists builds with their outcomes', () => {
  expect(renderBuilds([report()], NOW)).toBe(
    [
      'BUILD    FINISHED             STATE    DOCKERFILE        STEPS',
      '0a1b2c   About a minute ago   failed   /src/Dockerfile   1 exact, 1 ran, 1 failed',
      '',
    ].join('\n'),
  );
});

describe('cache', () => {
  const entry = {
    key: digest('e') as string as StepKey,
    kind: 'RUN',
    title: 'RUN npm ci',
    createdAtMs: NOW,
    lastUsedAtMs: NOW - 7_200_000,
    uses: 3,
    durationMs: 900,
    bytes: 1_500_000,
    inUse: true,
  } as const;

  test('ls prints a line for each record', async () => {
    const { stdout } = await varve(['cache', 'ls'], { engine: { cacheRecords: async () => [entry] } });
    expect(stdout).toBe(
      [
        'KEY            STEP         SIZE    USES   LAST USED     IN USE',
        'eeeeeeeeeeee   RUN npm ci   1.5MB   3      2 hours ago   yes',
        '',
      ].join('\n'),
    );
  });

  test('du sums up', async () => {
    const rows = [
      { type: 'images', count: 2, bytes: 3_000_000, reclaimableBytes: 0 },
      { type: 'step cache', count: 5, bytes: 1_000_000, reclaimableBytes: 500_000 },
    ];
    const { stdout } = await varve(['cache', 'du'], {
      engine: { diskUsage: async () => ({ rows, limitBytes: 10e9 }) },
    });
    expect(stdout).toBe(
      [
        'TYPE         TOTAL   SIZE   RECLAIMABLE',
        'images       2       3MB    0B (0%)',
        'step cache   5       1MB    500kB (50%)',
        '',
        'Total: 4MB of 10GB',
        '',
      ].join('\n'),
    );
  });

  test('prune hands on what to keep', async () => {
    const asked: unknown[] = [];
    const prune = async ({ signal: _, ...options }: { signal: AbortSignal }) => {
      asked.push(options);
      return { removed: 1, freedBytes: 2_000_000 };
    };
    const filters = ['--filter', 'until=1h30m', '--filter', 'type=exec.cachemount'];
    const argv = ['cache', 'prune', '-af', '--keep-storage', '1g', ...filters];
    expect((await varve(argv, { engine: { prune } })).stdout).toBe(
      'Removed 1 record\nTotal reclaimed space: 2MB\n',
    );
    expect(asked).toEqual([
      { all: true, keepBytes: 2 ** 30, unusedForMs: 5_400_000, type: 'exec.cachemount' },
    ]);
    expect((await varve(['builder', 'prune', '--filter', 'x=y'])).code).toBe(2);
  });
});

test.each([
  [0, 'Less than a second ago'],
  [1000, '1 second ago'],
  [59_000, '59 seconds ago'],
  [60_000, 'About a minute ago'],
  [3_000_000, '50 minutes ago'],
  [3_600_000, 'About an hour ago'],
  [47 * 3_600_000, '47 hours ago'],
  [3 * 86_400_000, '3 days ago'],
  [15 * 86_400_000, '2 weeks ago'],
  [70 * 86_400_000, '2 months ago'],
  [800 * 86_400_000, '2 years ago'],
])('formatAge: %i ms is %s', (ms, expected) => {
  expect(formatAge(ms)).toBe(expected);
});
