import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  digestOf,
  type ImageConfig,
  type Platform,
  parseReference,
  type SourceRange,
} from '../../core/index.ts';
import { parseIgnoreFile } from '../ignore.ts';
import type { FindImage } from '../plan.ts';
import { stop } from '../stop.ts';
import { stopped } from '../testing/stopped.ts';
import { answerCall, type CallAnswer, type CallKind } from './call.ts';
import { RULES } from './rules.ts';

const FOLDER = new URL('../../fixtures/checks/', import.meta.url);
const AMD64: Platform = { os: 'linux', architecture: 'amd64' };

type CheckAnswer = Extract<CallAnswer, { kind: 'check' }>;

interface Options {
  readonly buildArgs?: Readonly<Record<string, string>>;
  readonly ignore?: string;
  readonly target?: string;
}

/** `base…` is there, `arm` for another platform, `missing` is not, and nothing else can be reached. */
const findImage: FindImage = async ({ name }, platform, range) => {
  if (name === 'missing') stop('image-unknown', 'missing: no such image', { range });
  if (!/^(?:base|arm)/.test(name))
    stop('registry-unreachable', `${name}: cannot reach the registry`, { range });
  const reference = parseReference(name);
  if (!reference.ok) throw new Error(reference.error);
  const found = name === 'arm' ? { os: 'linux', architecture: 'arm64' } : platform;
  const config: ImageConfig = {
    ...found,
    rootfs: { type: 'layers', diff_ids: [] },
    config: { Env: ['FROM_BASE=1'] },
  };
  return { use: { reference: reference.value, manifestDigest: digestOf(name), range }, config };
};

async function call(kind: CallKind, text: string, options: Options = {}): Promise<CallAnswer> {
  const { buildArgs = {}, target } = options;
  const ignore = options.ignore === undefined ? undefined : parseIgnoreFile(options.ignore);
  if (ignore?.ok === false) throw new Error(ignore.error);
  const request = {
    buildArgs,
    labels: {},
    noCache: false,
    noCacheFilter: [],
    network: 'default',
    ...(target === undefined ? {} : { target }),
  } as const;
  return await answerCall(kind, {
    loaded: { file: 'Dockerfile', text },
    buildArgs,
    plans: (dockerfile, linter) => [
      {
        dockerfile,
        request,
        buildPlatform: AMD64,
        targetPlatform: AMD64,
        slotPrefix: 'p',
        lint: { linter, ...(ignore === undefined ? {} : { ignore: ignore.value }) },
        allStages: kind === 'check' && target === undefined,
        isOneOfSeveral: false,
        isPlatformGiven: false,
      },
    ],
    findImage,
  });
}

async function check(text: string, options: Options = {}): Promise<CheckAnswer> {
  const answer = await call('check', text, options);
  if (answer.kind !== 'check') throw new Error(answer.kind);
  return answer;
}

/** `line: Rule: message` of each warning. */
async function found(text: string, options: Options = {}): Promise<string[]> {
  const { warnings } = await check(text, options);
  return warnings.map(({ code, message, range }) => `${range.start.line}: ${code}: ${message}`);
}

const lines = ({ start, end }: SourceRange): string =>
  start.line === end.line ? `${start.line}` : `${start.line}-${end.line}`;

/** What a fixture's JSON holds. */
function summary({ warnings, failure, unknownImages }: CheckAnswer): string {
  const told = {
    warnings: warnings.map(({ code, message, hint, url, range }) => ({
      rule: code,
      lines: lines(range),
      message,
      hint,
      url,
    })),
    failure: failure?.message,
    unknownImages: unknownImages.length === 0 ? undefined : unknownImages.map(({ name }) => name),
  };
  return `${JSON.stringify(told, undefined, 2)}\n`;
}

describe('check of fixtures/checks', () => {
  const suffix = '.Dockerfile';
  const names = readdirSync(FOLDER).flatMap((name) =>
    name.endsWith(suffix) ? [name.slice(0, -suffix.length)] : [],
  );

  test.each(names)('%s.Dockerfile gives the warnings beside it', async (name) => {
    const ignore = new URL(`${name}.dockerignore`, FOLDER);
    const answer = await check(readFileSync(new URL(`${name}${suffix}`, FOLDER), 'utf8'), {
      ...(existsSync(ignore) ? { ignore: readFileSync(ignore, 'utf8') } : {}),
    });
    await expect(summary(answer)).toMatchFileSnapshot(new URL(`${name}.json`, FOLDER).pathname);
  });

  test('there is a fixture for every rule, and the rule is found in it', async () => {
    for (const { name } of Object.values(RULES)) {
      const warned = JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), 'utf8')).warnings;
      expect(
        warned.map((warning: { readonly rule: string }) => warning.rule),
        name,
      ).toContain(name);
    }
    expect(Object.keys(RULES)).toHaveLength(22);
  });
});

describe('check', () => {
  const MIXED = 'FROM scratch as base\ncopy a /\nCMD run\n';

  test('takes what follows a blank in the directive for a remark', async () => {
    const text = '# check=skip=StageNameCasing, JSONArgsRecommended;error=what\nFROM scratch AS Q\nCMD x\n';
    expect(await found(text)).toEqual([
      '3: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals',
    ]);
  });

  test('takes the options of the build argument instead of those of the directive', async () => {
    const text = `# check=skip=all\n${MIXED}`;
    const buildArgs = { BUILDKIT_DOCKERFILE_CHECK: 'skip=FromAsCasing,JSONArgsRecommended;error=true' };
    expect(await found(text)).toEqual([]);
    const { warnings, failure } = await check(text, { buildArgs });
    expect(warnings.map(({ code }) => code)).toEqual(['ConsistentInstructionCasing']);
    expect(failure).toMatchObject({
      code: 'check-failed',
      message: 'lint violation found for rules: ConsistentInstructionCasing',
    });
    const none = { BUILDKIT_DOCKERFILE_CHECK: '' };
    expect((await check(`# check=error=true\n${MIXED}`, { buildArgs: none })).failure).toBeUndefined();
  });

  test.each([
    ['nonsense', 'failed to parse check options: invalid check option "nonsense"'],
    ['error=maybe', 'failed to parse check options: failed to parse check option "error=maybe"'],
    ['warn=A', 'failed to parse check options: invalid check option "warn"'],
  ])('says of the options %s what is wrong', async (BUILDKIT_DOCKERFILE_CHECK, message) => {
    const { failure } = await check(MIXED, { buildArgs: { BUILDKIT_DOCKERFILE_CHECK } });
    expect(failure).toMatchObject({ code: 'invalid-check-option', message });
  });

  test('goes through the stages that the target needs, or through all', async () => {
    const text = 'FROM scratch AS a\nCOPY $foo /\nFROM scratch AS b\nCOPY $bar /\nFROM a\nRUN x\n';
    const foo = "2: UndefinedVar: Usage of undefined variable '$foo'";
    const bar = "4: UndefinedVar: Usage of undefined variable '$bar'";
    expect(await found(text)).toEqual([foo, bar]);
    expect(await found(text, { target: 'b' })).toEqual([bar]);
    expect(await found(text, { target: '2' })).toEqual([foo]);
  });

  test('tells apart what no rule says: it is no violation', async () => {
    const { warnings, notes, failure } = await check(
      '# syntax=other/language\n# check=error=true\nFROM scratch\n',
    );
    expect(warnings).toEqual([]);
    expect(notes.map(({ code }) => code)).toEqual(['unknown-frontend']);
    expect(failure).toBeUndefined();
  });

  test('uses what the command line gives for ARGs, and still tells where a default is missing', async () => {
    const text = 'ARG VERSION\nFROM base:$VERSION\nARG DIR\nWORKDIR $DIR\n';
    expect(await found(text, { buildArgs: { VERSION: '1', DIR: '/x' } })).toEqual([
      '2: InvalidDefaultArgInFrom: Default value for ARG base:$VERSION results in empty or invalid base image name',
    ]);
  });
});

describe('targets', () => {
  test('are all stages with their descriptions, as written', async () => {
    const text = `ARG V=1
# build compiles
# check=skip=StageNameCasing
FROM --platform=$BUILDPLATFORM base:$V AS Build
# not a description of it
FROM missing AS test
FROM build
`;
    expect(await call('targets', text)).toMatchObject({
      targets: [
        {
          name: 'build',
          description: 'compiles',
          isDefault: false,
          base: 'base:$V',
          platform: '$BUILDPLATFORM',
        },
        { name: 'test', isDefault: false, base: 'missing' },
        { isDefault: true, base: 'build', range: { start: { line: 7 } } },
      ],
    });
  });
});

describe('outline', () => {
  const TEXT = `# REGISTRY to pull from
ARG REGISTRY=base
ARG TAG=1
ARG IMAGE=\${REGISTRY}:\${TAG}
ARG UNUSED=1
ARG SHARED=global
FROM \${IMAGE} AS common
# DEBUG switches checks on
ARG DEBUG
ARG SHARED
FROM unreachable AS unrelated
ARG OTHER=1
# app is what runs
FROM common AS app
ARG MODE="fast and \${SHARED}"
ARG TARGETARCH
`;

  test('has the arguments that the target uses, with value, description and place', async () => {
    const answer = await call('outline', TEXT, { buildArgs: { TAG: '2' } });
    if (answer.kind !== 'outline') throw new Error(answer.kind);
    const { args, ...rest } = answer.outline;
    expect(rest).toEqual({ name: 'app', description: 'is what runs', secrets: [], ssh: [], cache: [] });
    expect(args.map(({ range, ...arg }) => ({ ...arg, line: range.start.line }))).toEqual([
      { name: 'REGISTRY', value: 'base', description: 'to pull from', line: 2 },
      { name: 'TAG', value: '2', line: 3 },
      { name: 'IMAGE', value: 'base:2', line: 4 },
      { name: 'SHARED', value: 'global', line: 6 },
      { name: 'DEBUG', description: 'switches checks on', line: 9 },
      { name: 'MODE', value: 'fast and global', line: 15 },
    ]);
    expect(answer.unknownImages).toEqual([]);
  });

  test('has secrets, agents and cache mounts, each once, by place', async () => {
    const text = `FROM base AS tools
RUN --mount=type=secret,id=late true
FROM base
ARG ID=npm
RUN --mount=type=cache,target=/cache --mount=type=ssh --mount=type=secret,target=/run/\${ID} true
RUN --mount=type=secret,id=npm,required=true --mount=type=cache,id=shared,target=/x true
COPY --from=tools /a /b
`;
    const answer = await call('outline', text);
    if (answer.kind !== 'outline') throw new Error(answer.kind);
    const { secrets, ssh, cache } = answer.outline;
    const shown = ({ id, required, range }: (typeof ssh)[number]): string =>
      `${range.start.line} ${id}${required ? ' required' : ''}`;
    expect(secrets.map(shown)).toEqual(['2 late', '5 npm required']);
    expect(ssh.map(shown)).toEqual(['5 default']);
    expect(cache.map(shown)).toEqual(['5 /cache', '6 shared']);
  });

  test('of another target has what that one uses, though its base cannot be looked up', async () => {
    const answer = await call('outline', TEXT, { target: 'unrelated' });
    expect(answer).toMatchObject({
      outline: { name: 'unrelated', args: [{ name: 'OTHER', value: '1' }] },
      unknownImages: [{ name: 'unreachable' }],
    });
  });

  test('ends with the failure of a Dockerfile that cannot be read', async () => {
    expect(await stopped(() => call('outline', 'FRM a\n'))).toMatchObject({ code: 'unknown-instruction' });
    expect(await stopped(() => call('targets', '\n'))).toMatchObject({ code: 'dockerfile-empty' });
  });
});
