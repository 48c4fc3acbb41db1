import { describe, expect, test } from 'vitest';
import { digestOf, type Platform, parseReference } from '../../core/index.ts';
import { parse } from '../../parser/index.ts';
import { Linter } from '../checks/linter.ts';
import { DEFAULT_CHECKS } from '../checks/options.ts';
import type { RunMount, RunStep } from '../graph.ts';
import { type PlanInput, planBuild } from '../plan.ts';
import { runDefinition } from '../steps/run-definition.ts';
import { stopped } from '../testing/stopped.ts';

const AMD64: Platform = { os: 'linux', architecture: 'amd64' };
type Asked = Partial<PlanInput['request']>;

async function plan(text: string, asked: Asked = {}) {
  const { dockerfile, diagnostics } = parse(text);
  if (dockerfile === undefined) throw new Error(JSON.stringify(diagnostics));
  const request = {
    buildArgs: {},
    labels: {},
    noCache: false,
    noCacheFilter: [],
    network: 'default',
    ...asked,
  } as const;
  const lint = { linter: new Linter(DEFAULT_CHECKS) };
  return planBuild(
    { dockerfile, request, buildPlatform: AMD64, targetPlatform: AMD64, slotPrefix: 'p', lint },
    async ({ name }, platform, range) => {
      const reference = parseReference(name);
      if (!reference.ok) throw new Error(reference.error);
      return {
        use: { reference: reference.value, manifestDigest: digestOf(name), range },
        config: { ...platform, rootfs: { type: 'layers', diff_ids: [] }, config: {} },
      };
    },
  );
}

/** The last RUN of the target. */
async function lastRun(text: string, asked: Asked = {}): Promise<RunStep> {
  const { graph } = await plan(text, asked);
  const steps = graph.stages.find(({ index }) => index === graph.targets[0]?.stage)?.steps ?? [];
  const step = steps.findLast((one): one is RunStep => one.kind === 'RUN');
  if (step === undefined) throw new Error('there is no RUN');
  return step;
}

/** The mounts of one RUN in /w, without their places. */
async function mounts(options: string, before = ''): Promise<readonly unknown[]> {
  const text = `FROM scratch AS tools\nFROM scratch\nARG V=va\n${before}WORKDIR /w\nRUN ${options} x\n`;
  const withoutRange = (mount: RunMount) => {
    const { range: _, ...rest } = { range: undefined, ...mount };
    return rest;
  };
  return (await lastRun(text)).mounts.map(withoutRange);
}

const FROM_CONTEXT = { kind: 'context' };
const FROM_TOOLS = { kind: 'stage', index: 0, name: 'tools' };

describe('RUN --mount: options and their defaults', () => {
  test.each<[string, object]>([
    ['target=/t', { type: 'bind', target: 't', from: FROM_CONTEXT, source: '', readonly: true }],
    ['type=BIND', { type: 'bind', target: 'w', from: FROM_CONTEXT, source: '', readonly: true }],
    [
      'type=bind,dst=rel,src=./a/../b,rw',
      { type: 'bind', target: 'w/rel', from: FROM_CONTEXT, source: 'b', readonly: false },
    ],
    [
      'destination=/$V,source=$V,from=tools,readwrite=true',
      { type: 'bind', target: 'va', from: FROM_TOOLS, source: 'va', readonly: false },
    ],
    [
      'target=/t,from=0,ro=false',
      { type: 'bind', target: 't', from: FROM_TOOLS, source: '', readonly: false },
    ],
    [
      'target=/t,from=scratch',
      { type: 'bind', target: 't', from: { kind: 'scratch' }, source: '', readonly: true },
    ],
    ['type=tmpfs,target=t', { type: 'tmpfs', target: 'w/t' }],
    ['type=tmpfs,target=/proc/cpuinfo', { type: 'tmpfs', target: 'proc/cpuinfo' }],
    [
      'type=tmpfs,target=/t,size=1.5KiB,readonly',
      { type: 'tmpfs', target: 't', sizeBytes: 1536, readonly: true },
    ],
  ])('%s', async (options, mount) => {
    expect(await mounts(`--mount=${options}`)).toEqual([mount]);
  });

  const CACHE = {
    type: 'cache',
    target: 'c',
    id: '/c',
    sharing: 'shared',
    readonly: false,
    from: { kind: 'scratch' },
    source: '',
    mode: 0o755,
    uid: 0,
    gid: 0,
  };
  test.each<[string, object]>([
    ['target=/c', CACHE],
    ['target=/c/.', CACHE],
    ['target=rel', { ...CACHE, target: 'w/rel', id: 'rel' }],
    ['id=$V,target=/c,sharing=LOCKED,ro', { ...CACHE, id: 'va', sharing: 'locked', readonly: true }],
    [
      'target=/c,sharing=private,mode=0700,uid=1,gid=2',
      { ...CACHE, sharing: 'private', mode: 0o700, uid: 1, gid: 2 },
    ],
    ['target=/c,from=tools,source=/s', { ...CACHE, from: FROM_TOOLS, source: 's' }],
    // The files of `from` are out of sight where the folder is made with an owner or a mode.
    ['target=/c,from=tools,uid=1', { ...CACHE, uid: 1 }],
  ])('type=cache,%s', async (options, mount) => {
    expect(await mounts(`--mount=type=cache,${options}`)).toEqual([mount]);
  });

  const SECRET = {
    type: 'secret',
    id: 'a/s',
    target: 'run/secrets/s',
    required: false,
    mode: 0o400,
    uid: 0,
    gid: 0,
  };
  const { target: _, ...ENV_ONLY } = { ...SECRET, env: 'S' };
  test.each<[string, object]>([
    ['id=a/s', SECRET],
    ['source=a/s,required', { ...SECRET, required: true }],
    ['target=/etc/s', { ...SECRET, id: 's', target: 'etc/s' }],
    ['id=s,target=conf/.npmrc', { ...SECRET, id: 's', target: 'w/conf/.npmrc' }],
    ['id=a/s,env=S', ENV_ONLY],
    ['id=a/s,env=S,dst=/t,required=1', { ...SECRET, env: 'S', target: 't', required: true }],
    ['id=a/s,mode=0444,uid=5,gid=6', { ...SECRET, mode: 0o444, uid: 5, gid: 6 }],
  ])('type=secret,%s', async (options, mount) => {
    expect(await mounts(`--mount=type=secret,${options}`)).toEqual([mount]);
  });

  test('type=ssh: agents are numbered, and the first one is what programs are told of', async () => {
    const text = 'FROM scratch\nRUN --mount=type=ssh --mount=type=ssh,id=git,required,mode=0666,uid=1 x\n';
    const step = await lastRun(text);
    expect(step.mounts).toMatchObject([
      { id: 'default', target: 'run/buildkit/ssh_agent.0', required: false, mode: 0o600, uid: 0, gid: 0 },
      { id: 'git', target: 'run/buildkit/ssh_agent.1', required: true, mode: 0o666, uid: 1 },
    ]);
    expect(step.environment['SSH_AUTH_SOCK']).toBe('/run/buildkit/ssh_agent.0');
    const relative = await lastRun('FROM scratch\nWORKDIR /w\nRUN --mount=type=ssh,target=sock x');
    expect(relative.environment['SSH_AUTH_SOCK']).toBe('/w/sock');
    const own = await lastRun('FROM scratch\nENV SSH_AUTH_SOCK=/mine\nRUN --mount=type=ssh,target=/a x');
    expect(own.environment['SSH_AUTH_SOCK']).toBe('/mine');
  });
});

test('BUILDKIT_CACHE_MOUNT_NS parts the cache mounts of builds', async () => {
  const id = async (namespace: string) => {
    const buildArgs = { BUILDKIT_CACHE_MOUNT_NS: namespace };
    const text = 'FROM scratch\nRUN --mount=type=cache,target=/c x --mount=type=cache,id=n,target=/d';
    return (await lastRun(text, { buildArgs })).mounts.map((mount) => ('id' in mount ? mount.id : ''));
  };
  expect([await id('mine'), await id('')]).toEqual([['mine//c'], ['/c']]);
});

test('each word that can change what a RUN leaves is in its definition', async () => {
  const all: Asked = { entitlements: ['network.host', 'security.insecure', 'device'] };
  const definition = async (line: string, asked: Asked = {}) => {
    const text = `FROM scratch AS tools\nFROM scratch\nARG V\nWORKDIR /w\n${line}`;
    return JSON.stringify(runDefinition(await lastRun(text, { ...all, ...asked })));
  };
  const cache = 'RUN --mount=type=cache,target=/c';
  const secret = 'RUN --mount=type=secret,id=s';
  const lines = [
    'RUN x',
    'RUN y',
    'RUN ["x"]',
    'RUN <<EOF\n#!x\nEOF',
    'RUN <<EOF\n#!y\nEOF',
    'USER u\nRUN x',
    'WORKDIR /v\nRUN x',
    'ENV E=e\nRUN x',
    'SHELL ["sh"]\nRUN x',
    ...['none', 'host'].map((word) => `RUN --network=${word} x`),
    'RUN --security=insecure x',
    ...['v.com/c=a', 'v.com/c=b', 'v.com/c=a,required'].map((word) => `RUN --device=${word} x`),
    ...['', ',rw', ',source=s', ',target=/u'].map((more) => `RUN --mount=target=/t${more} x`),
    ...['', ',size=1m', ',size=2m', ',ro', ',target=/u'].map(
      (more) => `RUN --mount=type=tmpfs,target=/t${more} x`,
    ),
    ...[
      '',
      ',id=i',
      ',ro',
      ',sharing=locked',
      ',sharing=private',
      ',mode=700',
      ',uid=1',
      ',gid=1',
      ',source=s',
    ].map((more) => `${cache}${more} x`),
    ...[
      '',
      ',env=E',
      ',env=F',
      ',target=/t',
      ',env=E,target=/t',
      ',required',
      ',mode=444',
      ',uid=1',
      ',gid=1',
    ].map((more) => `${secret}${more} x`),
    ...['', ',id=i', ',target=/t', ',required', ',mode=666', ',uid=1', ',gid=1'].map(
      (more) => `RUN --mount=type=ssh${more} x`,
    ),
  ];
  const found = new Map<string, string>();
  // A device that a step cannot do without is another question to the machine, and not another step.
  const same = 'RUN --device=v.com/c=a,required x';
  for (const line of lines.filter((one) => one !== same)) {
    const text = await definition(line);
    expect([line, found.get(text)]).toEqual([line, undefined]);
    found.set(text, line);
  }
  expect(found.get(await definition(same))).toBe('RUN --device=v.com/c=a x');
  const limited = async (runLimits: Asked['runLimits'], more: Asked = {}) =>
    definition('RUN x', { ...more, ...(runLimits === undefined ? {} : { runLimits }) });
  const others = [
    await limited({ shmSizeBytes: 1 }),
    await limited({ ulimits: [{ name: 'nofile', soft: 1, hard: 2 }] }),
    await limited({ extraHosts: [{ name: 'a', address: '::1' }] }),
    await limited({ extraHosts: [{ name: 'a', address: '::2' }] }),
    await limited({ resources: { memoryBytes: 1 } }),
    await limited(undefined, { network: 'none' }),
    await limited(undefined, { buildArgs: { V: 'v' } }),
    await limited(undefined, { buildArgs: { BUILDKIT_SANDBOX_HOSTNAME: 'h' } }),
  ].filter((text) => found.get(text) !== 'RUN --network=none x');
  expect(new Set([...others, ...found.keys()]).size).toBe(others.length + found.size);
  const unseen = [
    await limited({ cgroupParent: 'p' }),
    await limited(undefined, { buildArgs: { http_proxy: 'p' } }),
  ];
  expect(unseen.map((text) => found.get(text))).toEqual(['RUN x', 'RUN x']);
});

describe('RUN --mount: wrong uses', () => {
  test.each<[string, string | RegExp]>([
    ['type=bnd,target=/t', 'unsupported mount type "bnd"'],
    ['target=/', 'invalid mount target "/"'],
    ['target=/proc', 'invalid mount target "/proc": it is the kernel\'s'],
    [
      'type=secret,id=s,target=/proc/self/attr/x',
      'invalid mount target "/proc/self/attr/x": it is the kernel\'s',
    ],
    ['target=/t,sharing=locked', 'invalid cache sharing set for bind mount'],
    ['type=cache,target=/c,sharing=lock', 'unsupported sharing value "lock"'],
    ['type=tmpfs,target=/t,uid=1', 'uid not allowed for "tmpfs" type mounts'],
    ['target=/t,mode=0700', 'mode not allowed for "bind" type mounts'],
    ['type=tmpfs,target=/t,size=big', 'invalid value for size: "big"'],
    ['target=/t,size=1m', "unexpected key 'size' for mount type 'bind'"],
    ['required,type=secret,id=s', "unexpected key 'required' for mount type 'bind'"],
    ['target=/t,redonly', "invalid field 'redonly' must be a key=value pair"],
    ['target=/t,sourc=/x', "unexpected key 'sourc' in 'sourc=/x'"],
    ['target=/t,ro=maybe', 'invalid value for ro: maybe'],
    ['type=cache,target=/c,mode=9', 'invalid value "9" for mode'],
    ['type=cache,target=/c,uid=app', 'invalid value "app" for uid'],
    ['type=secret,id=a,env=', 'env needs the name of a variable'],
    ['type=secret,id=a,env=A=B', 'env needs the name of a variable'],
    ['type=secret', 'invalid secret mount: one of id, source, target required'],
    ['type=secret,id=a,source=b', "both source and id can't be set"],
    ['type=secret,id=a,from=x', 'secret mount should not have a from'],
    ['type=ssh,source=/x', 'ssh does not support source'],
  ])('%s', async (options, message) => {
    const text = `FROM i\nRUN --mount=${options} x\n`;
    const failure = await stopped(() => plan(text));
    expect(failure.message).toMatch(message);
    // The field to blame, or the whole flag.
    const { start, end } = failure.range ?? {};
    expect(`--mount=${options}`).toContain(text.slice(start?.offset, end?.offset));
  });

  test('a later stage, or the stage itself, has no files to mount', async () => {
    const later = 'FROM scratch AS a\nRUN --mount=from=b,target=/t x\nFROM a AS b\n';
    expect((await stopped(() => plan(later, { target: 'a' }))).code).toBe('stage-cycle');
    const itself = 'FROM scratch AS a\nRUN --mount=from=a,target=/t x\n';
    expect((await stopped(() => plan(itself))).code).toBe('stage-cycle');
  });
});

describe('RUN: network, security, limits', () => {
  test('--network=default is what the command line says; another word wins over that', async () => {
    const network = async (flag: string, asked: Asked) =>
      (await lastRun(`FROM scratch\nRUN ${flag} x`, asked)).network;
    expect(await network('', { network: 'none' })).toBe('none');
    expect(await network('--network=default', { network: 'none' })).toBe('none');
    expect(await network('--network=none', { network: 'host' })).toBe('none');
    expect(await network('--network=host', { network: 'host' })).toBe('host');
    expect(await network('--network=host', { entitlements: ['network.host'] })).toBe('host');
  });

  test.each([
    ['--network=host', 'network.host'],
    ['--security=insecure', 'security.insecure'],
  ])('%s needs the right %s', async (flag, right) => {
    const text = `FROM scratch\nRUN ${flag} x\n`;
    const failure = await stopped(() => plan(text));
    expect([failure.code, failure.message]).toEqual([
      'not-allowed',
      `RUN ${flag} is not allowed: ${right} was not granted`,
    ]);
    expect(failure.hint).toContain(`--allow ${right}`);
    expect(await lastRun(text, { entitlements: [right] })).toBeDefined();
  });

  test('--device: names with and without a class, and what is wrong', async () => {
    const devices = async (flag: string) =>
      (await lastRun(`FROM scratch\nARG D=d\nRUN ${flag} x`, { entitlements: ['device'] })).devices.map(
        ({ range: _, granted: __, ...rest }) => rest,
      );
    // As in BuildKit, devices take no variables.
    expect(await devices('--device=v.com/c=$D,required --device=c')).toEqual([
      { name: 'v.com/c=$D', required: true },
      { name: 'c', required: false },
    ]);
    expect(await devices('--device=name=v.com/c,required=false')).toEqual([
      { name: 'v.com/c', required: false },
    ]);
    const granted = async (entitlements: readonly string[]) =>
      (await lastRun('FROM scratch\nRUN --device=v.com/c=d x\n', { entitlements })).devices[0]?.granted;
    expect([await granted([]), await granted(['device']), await granted(['device=v.com/c=d'])]).toEqual([
      false,
      true,
      true,
    ]);
  });

  test('limits of the command line hold for each step', async () => {
    const runLimits = { shmSizeBytes: 1, ulimits: [{ name: 'nofile', soft: 1, hard: 2 }] } as const;
    expect((await lastRun('FROM scratch\nRUN x', { runLimits })).limits).toEqual(runLimits);
  });
});
