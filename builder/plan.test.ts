import { describe, expect, test } from 'vitest';
import {
  type BuildFailure,
  type ContainerConfig,
  digestOf,
  type HostPath,
  MachineError,
  type Platform,
  parseReference,
} from '../core/index.ts';
import { parse } from '../parser/index.ts';
import { Linter } from './checks/linter.ts';
import { DEFAULT_CHECKS } from './checks/options.ts';
import type { CopyStep, RunStep, StagePlan, Step } from './graph.ts';
import { type FindImage, type PlanInput, type Planned, planBuild } from './plan.ts';
import { stopped } from './testing/stopped.ts';
import { DEFAULT_PATH } from './variables.ts';

const AMD64: Platform = { os: 'linux', architecture: 'amd64' };

interface Options extends Partial<PlanInput['request']> {
  readonly images?: Readonly<Record<string, ContainerConfig>>;
  readonly targetPlatform?: Platform;
  readonly isPlatformGiven?: boolean;
  /** What all images say that they are for; absent: what they are asked for. */
  readonly foundPlatform?: Platform;
  readonly onFind?: (name: string, platform: Platform) => void;
}

async function plan(text: string, options: Options = {}): Promise<Planned> {
  const { dockerfile, diagnostics } = parse(text);
  if (dockerfile === undefined) throw new Error(JSON.stringify(diagnostics));
  const { images = {}, targetPlatform = AMD64, onFind, isPlatformGiven, foundPlatform, ...request } = options;
  const find: FindImage = async ({ name }, platform, range) => {
    onFind?.(name, platform);
    const reference = parseReference(name);
    if (!reference.ok || !Object.hasOwn(images, name)) throw new MachineError('image-unknown', name);
    return {
      use: { reference: reference.value, manifestDigest: digestOf(name), range },
      config: {
        ...(foundPlatform ?? platform),
        rootfs: { type: 'layers', diff_ids: [] },
        config: images[name] ?? {},
      },
    };
  };
  const defaults = {
    buildArgs: {},
    labels: {},
    noCache: false,
    noCacheFilter: [],
    network: 'default',
  } as const;
  return planBuild(
    {
      dockerfile,
      request: { ...defaults, ...request },
      buildPlatform: AMD64,
      targetPlatform,
      ...(isPlatformGiven === undefined ? {} : { isPlatformGiven }),
      slotPrefix: 'p',
      lint: { linter: new Linter(DEFAULT_CHECKS) },
    },
    find,
  );
}

async function target(text: string, options: Options = {}): Promise<StagePlan> {
  const { graph } = await plan(text, options);
  const stage = graph.stages.find(({ index }) => index === graph.targets[0]?.stage);
  if (stage === undefined) throw new Error('no target');
  return stage;
}

function runs(stage: StagePlan): RunStep[] {
  return stage.steps.filter((step): step is RunStep => step.kind === 'RUN');
}

function copies(stage: StagePlan): CopyStep[] {
  return stage.steps.filter((step): step is CopyStep => step.kind === 'COPY' || step.kind === 'ADD');
}

/** The environment of the last RUN, without PATH. */
async function environment(text: string, options: Options = {}): Promise<Record<string, string>> {
  const { PATH: _, ...rest } = runs(await target(text, options)).at(-1)?.environment ?? {};
  return rest;
}

async function refused(text: string, options: Options = {}): Promise<BuildFailure> {
  return stopped(() => plan(text, options));
}

/** The part of `text` that a failure points at. */
function blamed(text: string, failure: BuildFailure): string {
  const { range } = failure;
  return range === undefined ? '' : text.slice(range.start.offset, range.end.offset);
}

const names = (steps: readonly Step[]): string[] =>
  steps.map((step) => `${step.info.index} ${step.info.name}`);

describe('planBuild: stages', () => {
  const STAGES = `FROM scratch AS base
RUN a
FROM base AS Unused
RUN b
FROM scratch AS tools
RUN c
FROM base AS app
COPY --from=tools /x /x
COPY --from=0 /y /y
`;

  test('keeps the stages that the target needs, and numbers their steps in the order of the Dockerfile', async () => {
    const { graph } = await plan(STAGES);
    expect(graph.stages.map(({ name }) => name)).toEqual(['base', 'tools', 'app']);
    expect(graph.stages.flatMap(({ steps }) => names(steps))).toEqual([
      '0 RUN a',
      '1 RUN c',
      '2 COPY --from=tools /x /x',
      '3 COPY --from=0 /y /y',
    ]);
    expect(copies(graph.stages[2] ?? (await target(STAGES))).map((step) => step.sources[0])).toMatchObject([
      { from: { kind: 'stage', index: 2, name: 'tools' }, pattern: '/x' },
      { from: { kind: 'stage', index: 0, name: 'base' }, pattern: '/y' },
    ]);
  });

  test.each([
    ['base', 0],
    ['UNUSED', 1],
    ['unused', 1],
    ['2', 2],
    ['', 3],
  ])('target %j is stage %d', async (name, index) => {
    expect((await plan(STAGES, { target: name })).graph.targets[0]?.stage).toBe(index);
  });

  test('names the stages where the target is none', async () => {
    const failure = await refused(STAGES, { target: 'nope' });
    expect(failure).toMatchObject({ code: 'unknown-target' });
    expect(failure.hint).toBe('The stages are: base, Unused, tools, app.');
  });

  test('does not look up images of stages that are not needed', async () => {
    const asked: string[] = [];
    const text = 'FROM missing AS a\nRUN a\nFROM there AS b\nRUN b\n';
    await plan(text, { images: { there: {} }, onFind: (name) => asked.push(name) });
    expect(asked).toEqual(['there']);
  });

  test('a number in FROM is an image, and a later stage with the same name does not count', async () => {
    const asked: string[] = [];
    const options = { images: { '0': {}, b: {} }, onFind: (name: string) => asked.push(name) };
    await plan('FROM 0 AS a\nFROM b AS c\nFROM scratch AS b\nFROM c', options);
    expect(asked).toEqual(['b']);
    await plan('FROM 0', options);
    expect(asked).toEqual(['b', '0']);
  });

  test('an image is looked up once for all stages and flags', async () => {
    const asked: string[] = [];
    const text = 'FROM base AS a\nFROM base AS b\nCOPY --from=a / /\nCOPY --from=base /x /\n';
    await plan(text, { images: { base: {} }, onFind: (name) => asked.push(name) });
    expect(asked).toEqual(['base']);
  });

  test('an empty --platform is none, as in BuildKit', async () => {
    const { graph } = await plan('FROM --platform= scratch');
    expect(graph.targets.map(({ platform }) => platform)).toEqual([AMD64]);
  });

  test.each<[title: string, text: string, code: string, at: string]>([
    ['a stage that copies from itself', 'FROM scratch AS a\nCOPY --from=a /x /', 'stage-cycle', '--from=a'],
    ['a circle', 'FROM scratch AS a\nCOPY --from=b /x /\nFROM a AS b\n', 'stage-cycle', '--from=b'],
    [
      'a later stage',
      'FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nFROM a',
      'stage-not-yet-defined',
      '--from=b',
    ],
    [
      'a later stage by number',
      'FROM scratch\nCOPY --from=1 /x /\nFROM scratch\nCOPY --from=0 / /',
      'stage-cycle',
      '--from=1',
    ],
    ['a number beyond the stages', 'FROM scratch\nCOPY --from=5 /x /', 'unknown-stage', '--from=5'],
    ['a variable in --from', 'FROM scratch\nCOPY --from=$X /x /', 'unsupported-from', '--from=$X'],
    ['no image name in --from', 'FROM scratch\nCOPY --from=Bad /x /', 'invalid-reference', '--from=Bad'],
    ['an empty base', 'ARG B\nFROM ${B}', 'empty-base', '${B}'],
    ['a bad platform', 'FROM --platform=a/b/c/d scratch', 'invalid-platform', '--platform=a/b/c/d'],
    ['no platform', 'ARG P\nFROM --platform=$P scratch', 'empty-platform', '--platform=$P'],
    ['a failing substitution in FROM', 'FROM ${B:?no}', 'bad-substitution', '${B:?no}'],
  ])('refuses %s', async (_title, text, code, at) => {
    const failure = await refused(text);
    expect(failure.code).toBe(code);
    expect(blamed(text, failure)).toBe(at);
  });

  test('noCacheFilter marks the steps of the named stages', async () => {
    const { graph } = await plan(STAGES, { noCacheFilter: ['TOOLS'] });
    expect(graph.stages.flatMap(({ steps }) => steps.map((step) => step.noCache))).toEqual([
      false,
      true,
      false,
      false,
    ]);
  });

  test('a stage has the platform of the stage that it stands on', async () => {
    const text = 'FROM --platform=linux/arm64 base AS a\nFROM a\nCOPY --from=tool /x /\n';
    const asked: string[] = [];
    const stage = await target(text, {
      images: { base: {}, tool: {} },
      onFind: (name, { architecture }) => asked.push(`${name} ${architecture}`),
    });
    expect(stage.platform.architecture).toBe('arm64');
    expect(asked.toSorted()).toEqual(['base arm64', 'tool amd64']);
  });
});

describe('planBuild: ARG and ENV', () => {
  test.each<[title: string, text: string, options: Options, expected: Record<string, string>]>([
    ['a global ARG does not reach a stage', 'ARG A=1\nFROM scratch\nRUN x', {}, {}],
    ['a bare ARG takes the global value', 'ARG A=1\nFROM scratch\nARG A\nRUN x', {}, { A: '1' }],
    [
      'a default of the stage wins over the global one',
      'ARG A=1\nFROM scratch\nARG A=2\nRUN x',
      {},
      { A: '2' },
    ],
    ['the command line wins', 'ARG A=1\nFROM scratch\nARG A=2\nRUN x', { buildArgs: { A: '3' } }, { A: '3' }],
    ['an undeclared argument does not reach RUN', 'FROM scratch\nRUN x', { buildArgs: { A: '3' } }, {}],
    ['an ARG behind RUN does not count', 'FROM scratch\nRUN x\nARG A=1', {}, {}],
    ['an ARG without a value is no variable', 'FROM scratch\nARG A\nRUN x', {}, {}],
    ['an ARG may hold nothing', 'FROM scratch\nARG A=\nRUN x', {}, { A: '' }],
    [
      'defaults see what stands above',
      'FROM scratch\nARG A=1\nARG B=${A}2 C=$B\nRUN x',
      {},
      { A: '1', B: '12', C: '12' },
    ],
    [
      'a later ENV wins over ARG',
      'FROM scratch\nARG A=1\nENV A=2\nRUN x',
      { buildArgs: { A: '3' } },
      { A: '2' },
    ],
    [
      'ENV sees values from before its own line',
      'FROM scratch\nENV A=1\nENV A=2 B=$A\nRUN x',
      {},
      { A: '2', B: '1' },
    ],
    ['a child stage keeps ARGs of its parent', 'FROM scratch AS a\nARG A=1\nFROM a\nRUN x', {}, { A: '1' }],
    [
      'an unrelated stage does not',
      'FROM scratch AS a\nARG A=1\nFROM scratch\nCOPY --from=a / /\nRUN x',
      {},
      {},
    ],
    [
      'the environment of the image is there',
      'FROM i\nENV B=$A\nRUN x',
      { images: { i: { Env: ['A=1'] } } },
      { A: '1', B: '1' },
    ],
    [
      'names like those of objects are names',
      'FROM scratch\nARG constructor\nARG toString=1\nRUN x',
      {},
      { toString: '1' },
    ],
    [
      'platform arguments need ARG',
      'FROM scratch\nARG TARGETARCH\nARG TARGETSTAGE\nRUN x',
      {},
      { TARGETARCH: 'amd64', TARGETSTAGE: 'default' },
    ],
    [
      'platform arguments may be given',
      'FROM scratch\nARG TARGETARCH\nRUN x',
      { buildArgs: { TARGETARCH: 'z80' } },
      { TARGETARCH: 'z80' },
    ],
  ])('%s', async (_title, text, options, expected) => {
    expect(await environment(text, options)).toEqual(expected);
  });

  test('global ARGs, platform arguments and the command line make names in FROM', async () => {
    const asked: string[] = [];
    const onFind = (name: string) => asked.push(name);
    const images = { 'debian:12': {}, 'debian:13': {}, 'go-amd64': {} };
    await plan('ARG V=12\nFROM debian:$V', { images, onFind });
    await plan('ARG V=12\nFROM debian:${V}', { images, onFind, buildArgs: { V: '13' } });
    await plan('FROM go-${BUILDARCH}', { images, onFind });
    expect(asked).toEqual(['debian:12', 'debian:13', 'go-amd64']);
  });

  test('ENV and only ENV gets into the configuration, a later value in the place of the first', async () => {
    const { config } = await target('FROM i\nARG X=1\nENV B=2 A=3\nENV B=4', {
      images: { i: { Env: ['A=1', 'PATH=/p'] } },
    });
    expect(config.Env).toEqual(['A=3', 'PATH=/p', 'B=4']);
  });

  test('a base without PATH gets the usual one, for words, RUN and configuration', async () => {
    const stage = await target('FROM i\nENV PATH=$PATH:/x\nRUN x', { images: { i: {} } });
    expect(stage.config.Env).toEqual([`PATH=${DEFAULT_PATH}:/x`]);
    expect(runs(stage)[0]?.environment).toEqual({ PATH: `${DEFAULT_PATH}:/x` });
  });

  test('proxies given on the command line reach RUN hidden from key and history, unless declared', async () => {
    const buildArgs = { HTTP_PROXY: 'http://p', no_proxy: 'x' };
    const stage = await target('FROM scratch\nRUN x\nARG HTTP_PROXY\nRUN y', { buildArgs });
    const [hidden, declared] = runs(stage);
    const both = { NO_PROXY: 'x', no_proxy: 'x', http_proxy: 'http://p' };
    expect(hidden?.hiddenEnvironment).toEqual({ ...both, HTTP_PROXY: 'http://p' });
    expect(Object.keys(hidden?.environment ?? {})).toEqual(['PATH']);
    expect(declared?.hiddenEnvironment).toEqual(both);
    expect(declared?.environment).toMatchObject({ HTTP_PROXY: 'http://p' });
    expect(stage.history[0]?.createdBy).not.toContain('http://p');
  });

  test('warns of build arguments that nothing took up', async () => {
    const { warnings } = await plan('ARG A\nFROM scratch\nARG B', {
      buildArgs: { A: '1', B: '1', D: '1', C: '1', https_proxy: 'x', TARGETOS: 'linux' },
    });
    expect(warnings.map(({ code, message }) => [code, message])).toEqual([
      ['unused-build-arg', 'One or more build-args [C D] were not consumed'],
    ]);
    expect((await plan('FROM scratch')).warnings).toEqual([]);
    const known = { BUILDKIT_INLINE_CACHE: '1', BUILDKIT_SYNTAX: 'docker/dockerfile:1', Http_Proxy: 'x' };
    expect((await plan('FROM scratch', { buildArgs: known })).warnings).toEqual([]);
  });

  test('BUILDKIT_SYNTAX with another language is warned of, as a syntax directive is', async () => {
    const buildArgs = { BUILDKIT_SYNTAX: 'example/frontend:1' };
    const { warnings } = await plan('FROM scratch', { buildArgs });
    expect(warnings.map(({ code, message }) => [code, message])).toEqual([
      [
        'unknown-frontend',
        'BUILDKIT_SYNTAX names example/frontend:1, which is not pulled: varve reads the language of docker/dockerfile:1',
      ],
    ]);
  });

  test('BUILDKIT_SANDBOX_HOSTNAME names the machine of RUN', async () => {
    const text = 'FROM scratch\nRUN x';
    const given = await target(text, { buildArgs: { BUILDKIT_SANDBOX_HOSTNAME: 'builder' } });
    expect(runs(given)[0]?.hostname).toBe('builder');
    expect(runs(await target(text))[0]).not.toHaveProperty('hostname');
  });

  test('arguments of scanners are no variables', async () => {
    const text = 'FROM scratch\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN x';
    expect(await environment(text)).toEqual({});
    expect((await target(text)).history.at(-1)?.createdBy).toBe(
      'RUN |1 BUILDKIT_SBOM_SCAN_STAGE=true /bin/sh -c x',
    );
  });

  test('SOURCE_DATE_EPOCH comes from the caller, else from an ARG before the first FROM', async () => {
    const text = 'ARG SOURCE_DATE_EPOCH=5\nFROM scratch\nARG SOURCE_DATE_EPOCH\nRUN x';
    expect((await plan(text)).sourceDateEpoch).toBe('5');
    expect((await plan(text, { buildArgs: { SOURCE_DATE_EPOCH: '7' } })).sourceDateEpoch).toBe('7');
    expect((await plan('FROM scratch\nARG SOURCE_DATE_EPOCH=5')).sourceDateEpoch).toBeUndefined();
    expect(await environment(text)).toEqual({ SOURCE_DATE_EPOCH: '5' });
  });
});

describe('planBuild: ONBUILD', () => {
  test('triggers of a base image run first, once, and are gone from the result', async () => {
    const images = { i: { OnBuild: ['RUN first', 'ENV A=1'] } };
    const { graph } = await plan('FROM i AS a\nRUN second $A\nFROM a\nRUN third', { images });
    expect(graph.stages.map(({ steps }) => names(steps))).toEqual([
      ['0 RUN first', '1 RUN second $A'],
      ['2 RUN third'],
    ]);
    expect(graph.stages.map(({ config }) => config.OnBuild)).toEqual([undefined, undefined]);
    expect(graph.stages[0]?.config.Env).toContain('A=1');
  });

  test('triggers written in a stage run in the stage that stands on it', async () => {
    const { graph } = await plan('FROM scratch AS a\nONBUILD RUN x\nFROM a');
    expect(graph.stages.map(({ steps }) => steps.length)).toEqual([0, 1]);
    expect(graph.stages[0]?.config.OnBuild).toEqual(['RUN x']);
  });

  test('a trigger may copy from an image, and from a stage that nothing else needs', async () => {
    const images = { i: { OnBuild: ['COPY --from=extra /x /', 'COPY --from=tool /y /'] }, tool: {} };
    const { graph } = await plan('FROM scratch AS extra\nRUN x\nFROM i AS app', { images });
    expect(graph.stages.map(({ name }) => name)).toEqual(['extra', 'app']);
    expect(graph.stages.flatMap(({ steps }) => steps.map((step) => step.info.index))).toEqual([0, 1, 2]);
  });

  test('a fault in a trigger is blamed on FROM', async () => {
    const text = '# a comment above\nFROM i AS app\n';
    for (const trigger of ['NOSUCH x', 'COPY --from=app /x /', 'EXPOSE x', 'USER ${A:?no}']) {
      const failure = await refused(text, { images: { i: { OnBuild: [trigger] } } });
      expect([trigger, blamed(text, failure)]).toEqual([trigger, 'FROM i AS app']);
    }
  });

  test('a configuration with nulls, as Go writes them, is read', async () => {
    const config: ContainerConfig = JSON.parse(
      '{"Env":null,"Cmd":null,"OnBuild":null,"Shell":null,"Labels":null,"Volumes":null}',
    );
    const stage = await target('FROM i\nLABEL a=b\nVOLUME /v\nENTRYPOINT x\nRUN y', {
      images: { i: config },
    });
    expect(stage.config).toMatchObject({
      Labels: { a: 'b' },
      Volumes: { '/v': {} },
      Entrypoint: ['/bin/sh', '-c', 'x'],
    });
  });
});

const health = (test: string): string =>
  `HEALTHCHECK {Test:[${test}] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}`;

describe('planBuild: what instructions do to configuration and history', () => {
  test.each<[text: string, config: ContainerConfig, history: string]>([
    ['CMD a b', { Cmd: ['/bin/sh', '-c', 'a b'], ArgsEscaped: true }, 'CMD ["/bin/sh" "-c" "a b"]'],
    ['CMD ["a", "$b"]', { Cmd: ['a', '$b'], ArgsEscaped: true }, 'CMD ["a" "$b"]'],
    ['ENTRYPOINT ["a"]', { Entrypoint: ['a'] }, 'ENTRYPOINT ["a"]'],
    ['ENV A=b C="d e"', { Env: [`PATH=${DEFAULT_PATH}`, 'A=b', 'C=d e'] }, 'ENV A=b C=d e'],
    ['LABEL a=b "c d"=e', { Labels: { a: 'b', 'c d': 'e' } }, 'LABEL a=b c d=e'],
    [
      'EXPOSE 80 53/UDP 8000-8002',
      { ExposedPorts: { '80/tcp': {}, '53/udp': {}, '8000/tcp': {}, '8001/tcp': {}, '8002/tcp': {} } },
      'EXPOSE [53/udp 80/tcp 8000/tcp 8001/tcp 8002/tcp]',
    ],
    ['VOLUME /a /b', { Volumes: { '/a': {}, '/b': {} } }, 'VOLUME [/a /b]'],
    ['VOLUME ["/a b"]', { Volumes: { '/a b': {} } }, 'VOLUME [/a b]'],
    ['USER app:staff', { User: 'app:staff' }, 'USER app:staff'],
    ['USER $NONE', {}, 'USER '],
    ['WORKDIR /', { WorkingDir: '/' }, 'WORKDIR /'],
    ['WORKDIR a/../b/', { WorkingDir: '/b' }, 'WORKDIR /b'],
    ['WORKDIR /b//c/', { WorkingDir: '/b//c/' }, 'WORKDIR /b//c/'],
    ['WORKDIR $NONE', { WorkingDir: '/' }, 'WORKDIR /'],
    ['STOPSIGNAL SIGTERM', { StopSignal: 'SIGTERM' }, 'STOPSIGNAL SIGTERM'],
    ['STOPSIGNAL 9', { StopSignal: '9' }, 'STOPSIGNAL 9'],
    ['STOPSIGNAL RTMIN+3', { StopSignal: 'RTMIN+3' }, 'STOPSIGNAL RTMIN+3'],
    ['SHELL ["/bin/bash", "-c"]', { Shell: ['/bin/bash', '-c'] }, 'SHELL [/bin/bash -c]'],
    ['STOPSIGNAL 100', { StopSignal: '100' }, 'STOPSIGNAL 100'],
    ['STOPSIGNAL sigcld', { StopSignal: 'sigcld' }, 'STOPSIGNAL sigcld'],
    ['HEALTHCHECK NONE', { Healthcheck: { Test: ['NONE'] } }, health('NONE')],
    [
      'HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --start-interval=5s --retries=3 CMD a',
      {
        Healthcheck: {
          Test: ['CMD-SHELL', 'a'],
          Interval: 90e9,
          Timeout: 5e8,
          StartPeriod: 0,
          StartInterval: 5e9,
          Retries: 3,
        },
      },
      'HEALTHCHECK {Test:[CMD-SHELL a] Interval:1m30s Timeout:500ms StartPeriod:0s StartInterval:5s Retries:3}',
    ],
    ['HEALTHCHECK CMD ["a", "b"]', { Healthcheck: { Test: ['CMD', 'a', 'b'] } }, health('CMD a b')],
    ['HEALTHCHECK --interval=never NONE', { Healthcheck: { Test: ['NONE'] } }, health('NONE')],
    ['EXPOSE 127.0.0.1:8080:80', { ExposedPorts: { '80/tcp': {} } }, 'EXPOSE [80/tcp]'],
    ['ARG A=1 B', {}, 'ARG A=1 B'],
    ['MAINTAINER me', {}, 'MAINTAINER me'],
  ])('%s', async (instruction, config, history) => {
    const stage = await target(`FROM scratch\n${instruction}\n`);
    expect(stage.config).toEqual({ Env: [`PATH=${DEFAULT_PATH}`], WorkingDir: '/', ...config });
    expect(stage.history.map((item) => item.createdBy)).toEqual([history]);
  });

  test('WORKDIR of nothing stays, a relative one is joined to one with a slash at its end, also of the base', async () => {
    const dirs = async (text: string): Promise<readonly (string | undefined)[]> => {
      const { steps, config } = await target(text, { images: { i: { WorkingDir: '/b/' } } });
      return [...steps.map((step) => (step.kind === 'WORKDIR' ? step.path : step.kind)), config.WorkingDir];
    };
    expect(await dirs('FROM scratch\nWORKDIR /b/\nWORKDIR $NONE\nWORKDIR c/')).toEqual([
      'b',
      'b',
      'b/c',
      '/b/c',
    ]);
    expect(await dirs('FROM i\nWORKDIR ""\nWORKDIR c')).toEqual(['b', 'b/c', '/b/c']);
    expect(await dirs('FROM i\nWORKDIR $NONE')).toEqual(['b', '/b/']);
  });

  test('an empty --from is none', async () => {
    const { steps } = await target('FROM scratch\nCOPY --from= a /\n');
    expect(steps).toMatchObject([{ sources: [{ from: { kind: 'context' } }] }]);
  });

  test('COPY and ADD stand in the history with words expanded, without flags that say where files come from', async () => {
    const copy = 'copy --link --chmod=0${D}5 --from=a --parents --chown=1:$D  "$D/x" <<E   ./$D/\n$D\nE\n';
    const add = 'ADD --unpack=false ["http://u:p@h/x", "a b", "/y"]\n';
    const { history } = await target(`FROM scratch AS a\nFROM scratch\nENV D=5\n${copy}${add}`);
    expect(history.slice(1).map((item) => item.createdBy)).toEqual([
      'COPY --parents --chown=1:5 --chmod=055 5/x <<E ./5/',
      'ADD http://h/x a b /y',
    ]);
  });

  test('ONBUILD keeps its triggers in order, in the configuration alone', async () => {
    const stage = await target('FROM scratch\nONBUILD RUN a\nONBUILD COPY . /app\n');
    expect(stage.config.OnBuild).toEqual(['RUN a', 'COPY . /app']);
    expect(stage.history).toEqual([]);
  });

  test('HEALTHCHECK says its times as Go does', async () => {
    const flags = '--interval=2h3m --timeout=1.5s --start-period=1500us --retries=0';
    const { history } = await target(`FROM scratch\nHEALTHCHECK ${flags} CMD x\n`);
    expect(history[0]?.createdBy).toBe(
      'HEALTHCHECK {Test:[CMD-SHELL x] Interval:2h3m0s Timeout:1.5s StartPeriod:1.5ms StartInterval:0s Retries:0}',
    );
  });

  test('MAINTAINER sets the author, and an inherited one stays', async () => {
    expect((await target('FROM scratch AS a\nMAINTAINER me\nFROM a')).author).toBe('me');
  });

  test('ENTRYPOINT drops a CMD of the base, and keeps one of the stage', async () => {
    const images = { i: { Cmd: ['base'] } };
    expect((await target('FROM i\nENTRYPOINT ["e"]', { images })).config.Cmd).toBeUndefined();
    expect((await target('FROM i\nCMD ["c"]\nENTRYPOINT ["e"]', { images })).config.Cmd).toEqual(['c']);
    expect(
      (await target('FROM scratch AS a\nCMD ["c"]\nFROM a\nENTRYPOINT ["e"]')).config.Cmd,
    ).toBeUndefined();
  });

  test('labels of the command line go to the target alone, over those of the Dockerfile', async () => {
    const { graph } = await plan('FROM scratch AS a\nLABEL x=1 y=2\nFROM a', { labels: { x: '3' } });
    expect(graph.stages.map(({ config }) => config.Labels)).toEqual([
      { x: '1', y: '2' },
      { x: '3', y: '2' },
    ]);
  });

  test.each<[instruction: string, code: string, at: string]>([
    ['EXPOSE http', 'invalid-port', 'http'],
    ['EXPOSE 90-80', 'invalid-port', '90-80'],
    ['EXPOSE 65536', 'invalid-port', '65536'],
    ['STOPSIGNAL NOPE', 'unknown-signal', 'NOPE'],
    ['STOPSIGNAL 0', 'unknown-signal', '0'],
    ['STOPSIGNAL SIGRTMIN+16', 'unknown-signal', 'SIGRTMIN+16'],
    ['VOLUME $NONE', 'empty-volume', '$NONE'],
    ['USER ${A:?must be set}', 'bad-substitution', '${A:?must be set}'],
    ['COPY --chmod=999 a /b', 'invalid-mode', '--chmod=999'],
    ['COPY --chmod=17777 a /b', 'invalid-mode', '--chmod=17777'],
    ['COPY --chmod=u=q a /b', 'invalid-mode', '--chmod=u=q'],
    ['COPY --exclude=! a /b', 'bad-pattern', '!'],
    ['COPY --exclude=[a a /b', 'bad-pattern', '[a'],
    ['COPY https://x.y/z /c', 'copy-source-not-local', 'https://x.y/z'],
    ['COPY git@x.y:z /c', 'copy-source-not-local', 'git@x.y:z'],
    ['ADD https://x.y/ /c/', 'no-file-name', 'https://x.y/'],
    ['ADD https://x.y/z.git?what /c', 'bad-git-address', 'https://x.y/z.git?what'],
    ['ADD --checksum=abc z /c', 'bad-checksum', 'abc'],
  ])('refuses %s', async (instruction, code, at) => {
    const text = `FROM scratch\n${instruction}\n`;
    const failure = await refused(text);
    expect([failure.code, blamed(text, failure)]).toEqual([code, at]);
  });
});

describe('planBuild: steps', () => {
  test('RUN has the shell, environment, user, folder and network of its place', async () => {
    const text =
      'FROM i\nSHELL ["/bin/bash", "-ec"]\nUSER app\nWORKDIR /w\nWORKDIR sub\nENV A=1\nRUN --network=none x $A\n';
    const [step] = runs(await target(text, { images: { i: { Env: ['PATH=/p'] } } }));
    expect(step).toMatchObject({
      args: ['/bin/bash', '-ec', 'x $A'],
      environment: { PATH: '/p', A: '1' },
      user: 'app',
      workdir: 'w/sub',
      network: 'none',
    });
  });

  test('RUN in exec form has no shell and expands nothing', async () => {
    expect(runs(await target('FROM scratch\nRUN ["a", "$B"]'))[0]?.args).toEqual(['a', '$B']);
  });

  test('a lone heredoc is the script; one with #! is a program; beside a command the shell gets it all', async () => {
    const text =
      'FROM scratch\nRUN <<EOF\na $B\nEOF\nRUN <<X\n#!/bin/py\nb\nX\nRUN cat <<A && cat <<B\n1\nA\n2\nB\n';
    const [script, program, command] = runs(await target(text));
    expect(script?.args).toEqual(['/bin/sh', '-c', 'a $B\n']);
    expect(program).toMatchObject({
      args: ['/bin/sh', '-c', '/dev/pipes/X'],
      script: { name: 'X', text: '#!/bin/py\nb\n' },
    });
    expect(command?.args).toEqual(['/bin/sh', '-c', 'cat <<A && cat <<B\n1\nA\n2\nB']);
  });

  test('a heredoc with bytes that are not UTF-8 may be a program, but nothing for a shell', async () => {
    const [program] = runs(await target('FROM scratch\nRUN <<X\n#!/bin/py\n\udce9\nX\n'));
    expect(program?.script?.text).toBe('#!/bin/py\n\udce9\n');
    for (const run of ['RUN <<X\n\udce9\nX\n', 'RUN cat <<X\n#!/bin/py\n\udce9\nX\n']) {
      await expect(target(`FROM scratch\n${run}`)).rejects.toThrow('RUN has bytes that are not UTF-8');
    }
  });

  test('with <<- a script is no program, and a shell gets the tabs, as in BuildKit', async () => {
    const [script, command] = runs(
      await target('FROM scratch\nRUN <<-A\n\t#!/bin/py\n\tb\n\tA\nRUN cat <<-A\n\tb\nA\n'),
    );
    expect(script).toMatchObject({ args: ['/bin/sh', '-c', '#!/bin/py\nb\n'] });
    expect(script).not.toHaveProperty('script');
    expect(command?.args).toEqual(['/bin/sh', '-c', 'cat <<-A\n\tb\nA']);
  });

  test('an image is for what its base says, below however many stages, where nobody asked for a platform', async () => {
    const foundPlatform = { os: 'linux', architecture: 'arm64', variant: 'v8' };
    const platformOf = async (text: string, isPlatformGiven?: boolean) => {
      const given = isPlatformGiven === undefined ? {} : { isPlatformGiven };
      const { graph } = await plan(text, { images: { i: {} }, foundPlatform, ...given });
      return graph.targets[0]?.platform;
    };
    expect(await platformOf('FROM i AS a\nFROM a')).toEqual(foundPlatform);
    expect(await platformOf('FROM i AS a\nFROM a', true)).toEqual(AMD64);
    expect(await platformOf('FROM --platform=linux/s390x scratch')).toEqual(AMD64);
  });

  test('a stage on another one sees its ARGs, but the ENV of the same name, whichever came later', async () => {
    const text =
      'FROM scratch AS a\nARG A=1 B=2\nENV A=env\nARG A=later\nRUN x\nFROM a\nENV C=$A\nRUN y $A\n';
    expect(await environment(text)).toEqual({ A: 'env', B: '2', C: 'env' });
    const { history } = await target(text);
    expect(history.at(-1)?.createdBy).toBe('RUN |2 A=env B=2 /bin/sh -c y $A');
  });

  test('the name of an ARG is taken as it stands', async () => {
    expect(await environment('FROM scratch\nENV n=x\nARG $n=1 "q"=2\nRUN y\n')).toEqual({
      n: 'x',
      $n: '1',
      '"q"': '2',
    });
  });

  test('the history of RUN names the ARGs in force', async () => {
    const { history } = await target('FROM scratch\nARG A=1\nARG B=2\nENV A=3\nRUN x');
    expect(history.at(-1)).toEqual({ createdBy: 'RUN |2 A=3 B=2 /bin/sh -c x', step: 0 });
    const unset = await target('FROM scratch\nARG A\nARG B=1\nARG B=2\nRUN x');
    expect(unset.history.at(-1)?.createdBy).toBe('RUN |2 A= B=2 /bin/sh -c x');
  });

  test.each([
    ['/x', '/x'],
    ['/x/', '/x/'],
    ['x', '/w/x'],
    ['.', '/w/'],
    ['./', '/w/'],
    ['..', '/'],
    ['../x/', '/x/'],
    ['/', '/'],
    ['$D', '/d/'],
    ['""', '/w/'],
  ])('the destination %s in /w is %s', async (written, destination) => {
    const text = `FROM scratch\nENV D=/d/\nWORKDIR /w\nCOPY ["a", ${JSON.stringify(written === '""' ? '' : written)}]\n`;
    expect(copies(await target(text))[0]?.destination).toBe(destination);
  });

  test('COPY expands sources, owner and mode', async () => {
    const text = 'FROM scratch\nARG F=a.txt O=app M=640\nCOPY --chown=$O:0 --chmod=$M $F b /x/\n';
    expect(copies(await target(text))[0]).toMatchObject({
      sources: [{ pattern: 'a.txt' }, { pattern: 'b' }],
      chown: 'app:0',
      chmod: 0o640,
    });
    const empty = copies(await target('FROM scratch\nCOPY --chown=$O --chmod=$M a /x\n'))[0];
    expect([empty?.chown, empty?.chmod]).toEqual([undefined, undefined]);
  });

  test('COPY has its flags by meaning; what is linked keeps its mode', async () => {
    const text =
      'FROM scratch\nARG M=u=rwX,go=rX\nCOPY --link --parents --exclude=*.md --exclude=b <<e a /x/\ne\nADD --link --chmod=$M --unpack=false a /\nCOPY --link=false --parents=false a /\n';
    const [linked, added, plain] = copies(await target(text));
    expect(linked).toMatchObject({ link: true, parents: true, exclude: ['*.md', 'b'] });
    expect(linked?.sources.map((source) => source.kind)).toEqual(['path', 'inline']);
    expect(added).toMatchObject({ chmod: 'u=rwX,go=rX', unpack: false });
    for (const step of [added, plain]) expect(step).not.toHaveProperty('link');
    expect(plain).not.toHaveProperty('parents');
  });

  test('a heredoc of COPY is expanded unless its name is quoted', async () => {
    const text = 'FROM scratch\nENV A=1\nCOPY <<x <<"y" /d/\n$A\nx\n$A\ny\n';
    expect(copies(await target(text))[0]?.sources).toEqual([
      { kind: 'inline', name: 'x', text: '1\n' },
      { kind: 'inline', name: 'y', text: '$A\n' },
    ]);
  });

  test('a heredoc of COPY keeps bytes that are not UTF-8, unless it is expanded', async () => {
    const text = 'FROM scratch\nCOPY <<x <<"y" /d/\n\udce9\nx\n\udce9\ny\n';
    expect(copies(await target(text))[0]?.sources).toMatchObject([
      { text: '\ufffd\n' },
      { text: '\udce9\n' },
    ]);
  });

  test('slots name Dockerfile, stage, and the position among steps of the kind', async () => {
    const { graph } = await plan('FROM scratch AS a\nRUN x\nCOPY a /\nRUN y');
    const slots = graph.stages[0]?.steps.map((step) => step.slot);
    expect(slots).toEqual(['p\na\nRUN 0', 'p\na\nCOPY 0', 'p\na\nRUN 1']);
  });
});

describe('named contexts', () => {
  const namedContexts = {
    base: { kind: 'directory', path: '/src' as HostPath },
    'debian:12': { kind: 'image', name: 'other:1' },
    empty: { kind: 'image', name: 'scratch' },
  } as const;
  const images = { 'other:1': { User: 'other' }, 'debian:11': {} };

  test.each(['base', 'base:latest', 'docker.io/library/base'])(
    'override FROM %s with the files of a folder',
    async (name) => {
      const stage = await target(`FROM ${name}\nRUN x\n`, { namedContexts });
      expect(stage.base).toEqual({ kind: 'scratch' });
      expect(stage.steps.map(({ info }) => info.name)).toEqual([`FROM ${name}`, 'RUN x']);
      const [first] = stage.steps;
      const from = first?.kind === 'COPY' ? first.sources[0] : undefined;
      expect(from).toMatchObject({ from: { kind: 'named', name: 'base' }, pattern: '/' });
      expect(stage.history.map(({ step }) => step)).toEqual([0, 1]);
    },
  );

  test('override an image by another one, for this very tag alone', async () => {
    const stage = await target('FROM debian:12', { namedContexts, images });
    expect(stage.base).toMatchObject({
      kind: 'image',
      image: { reference: { repository: 'library/other' } },
    });
    const untouched = await target('FROM debian:11', { namedContexts, images });
    expect(untouched.base).toMatchObject({ image: { reference: { repository: 'library/debian' } } });
  });

  test('take the place of a whole stage of their name, and of no earlier stage that FROM means', async () => {
    const text = 'FROM missing AS Base\nRUN gone\nFROM base\nCOPY --from=base a b\n';
    const { graph } = await plan(text, { namedContexts });
    const steps = graph.stages.flatMap((stage) => stage.steps.map(({ info }) => info.name));
    expect(steps).toEqual(['FROM missing AS Base', 'COPY --from=base a b']);
    expect(graph.stages[1]?.base).toEqual({ kind: 'stage', index: 0 });
  });

  test('are what --from means where no stage has the name; scratch stays what it is', async () => {
    const text = 'FROM scratch\nCOPY --from=base a b\nCOPY --from=debian:12 a b\n';
    const scratch = { scratch: { kind: 'directory', path: '/src' as HostPath } } as const;
    const stage = await target(text, { namedContexts: { ...namedContexts, ...scratch }, images });
    expect(stage.base).toEqual({ kind: 'scratch' });
    const from = stage.steps.flatMap((step) => (step.kind === 'COPY' ? step.sources : []));
    expect(from).toMatchObject([{ from: { kind: 'named', name: 'base' } }, { from: { kind: 'image' } }]);
    expect((await target('FROM empty', { namedContexts })).base).toEqual({ kind: 'scratch' });
  });
});
