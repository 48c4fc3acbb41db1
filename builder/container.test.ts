import { describe, expect, test } from 'vitest';
import {
  type ActiveSnapshot,
  type ContainerConfig,
  DEFAULT_SHM_BYTES,
  type HostPath,
  type ImageConfig,
  type Runner,
  type SandboxOutcome,
  type SandboxSpec,
  type Snapshotter,
} from '../core/index.ts';
import { type ContainerRequest, startContainer } from './container.ts';
import { DEFAULT_PATH } from './variables.ts';

const REQUEST: ContainerRequest = {
  command: [],
  env: [],
  hostname: 'box',
  mounts: [],
  network: 'default',
  extraHosts: [],
  limits: {},
  readonlyRoot: false,
  noNewPrivileges: false,
  shmSizeBytes: DEFAULT_SHM_BYTES,
  tty: false,
  id: 'test',
};

/** Parts that note what would be started, and when the writable layer is thrown away. */
function parts(outcome: SandboxOutcome | Error = { kind: 'exited', code: 0 }) {
  const log: string[] = [];
  const specs: SandboxSpec[] = [];
  const active: ActiveSnapshot = {
    parent: undefined,
    root: { type: 'directory', path: '/layer' as HostPath, readonly: false },
    freeze: () => Promise.reject(new Error('a container is never frozen')),
    [Symbol.asyncDispose]: async () => {
      log.push('disposed');
    },
  };
  const unused = (): never => {
    throw new Error('not part of these tests');
  };
  const snapshotter: Snapshotter = {
    driver: 'copy',
    prepare: async () => active,
    find: unused,
    stack: unused,
    original: unused,
    patch: unused,
    surelyDiffers: unused,
    observed: unused,
    changedPaths: unused,
    mountable: unused,
    facts: async () => [],
    removeDamaged: async () => [],
    diffs: unused,
    remove: unused,
    sweep: unused,
    close: async () => {},
  };
  const runner: Runner = {
    start: async (spec) => {
      specs.push(spec);
      if (outcome instanceof Error) throw outcome;
      return {
        outcome: new Promise((resolve) => setImmediate(resolve, outcome)),
        trace: Promise.resolve(undefined),
        signal: (name) => log.push(name),
        resize: () => log.push('resize'),
      };
    },
  };
  return { snapshotter, runner, log, specs };
}

function imageOf(config: ContainerConfig): ImageConfig {
  return { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [] }, config };
}

async function specOf(
  config: ContainerConfig,
  request: Partial<ContainerRequest> = {},
): Promise<SandboxSpec> {
  const given = parts();
  const signal = new AbortController().signal;
  const call = { request: { ...REQUEST, ...request }, io: { mode: 'pipe' }, signal } as const;
  await startContainer(given, { config: imageOf(config), snapshot: undefined }, call);
  const [spec] = given.specs;
  if (spec === undefined) throw new Error('nothing was started');
  return spec;
}

describe('the command line of a container', () => {
  const image = { Entrypoint: ['entry', '-e'], Cmd: ['cmd', '-c'] };

  test.each<[title: string, config: ContainerConfig, request: Partial<ContainerRequest>, args: string[]]>([
    ['ENTRYPOINT then CMD', image, {}, ['entry', '-e', 'cmd', '-c']],
    ['a command replaces CMD', image, { command: ['x'] }, ['entry', '-e', 'x']],
    ['an entrypoint replaces ENTRYPOINT and drops CMD', image, { entrypoint: 'sh' }, ['sh']],
    ['an entrypoint with a command', image, { entrypoint: 'sh', command: ['-c', 'x'] }, ['sh', '-c', 'x']],
    ['an empty entrypoint leaves the command', image, { entrypoint: '', command: ['x'] }, ['x']],
    ['CMD alone', { Cmd: ['cmd'] }, {}, ['cmd']],
    ['a command alone', {}, { command: ['x'] }, ['x']],
  ])('%s', async (_title, config, request, args) => {
    expect((await specOf(config, request)).args).toEqual(args);
  });

  test.each<[title: string, config: ContainerConfig, request: Partial<ContainerRequest>]>([
    ['nothing at all', {}, {}],
    ['an empty entrypoint and no command', image, { entrypoint: '' }],
    ['nulls, as Go writes them', JSON.parse('{"Entrypoint":null,"Cmd":null}'), {}],
  ])('is missing with %s', async (_title, config, request) => {
    await expect(specOf(config, request)).rejects.toMatchObject({ code: 'no-command' });
  });

  test('nulls of the configuration count as absent', async () => {
    const config: ContainerConfig = JSON.parse(
      '{"Entrypoint":null,"Cmd":null,"Env":null,"User":null,"WorkingDir":null}',
    );
    expect(await specOf(config, { command: ['x'] })).toMatchObject({ args: ['x'], cwd: '' });
  });
});

describe('the surroundings of a container', () => {
  test('the environment is the usual, then the image, then the request', async () => {
    const spec = await specOf(
      { Cmd: ['x'], Env: ['A=image', 'B=image'] },
      { env: ['B=request', 'C=a=b'], tty: true },
    );
    expect(spec.env).toEqual([
      `PATH=${DEFAULT_PATH}`,
      'HOSTNAME=box',
      'TERM=xterm',
      'HOME=/',
      'A=image',
      'B=request',
      'C=a=b',
    ]);
  });

  test('PATH and HOME of the image win, and without a terminal there is no TERM', async () => {
    const { env } = await specOf({ Cmd: ['x'], Env: ['PATH=/p', 'HOME=/h'] });
    expect(env).toEqual(['PATH=/p', 'HOSTNAME=box', 'HOME=/h']);
  });

  test('user and folder come from the image unless the request names others', async () => {
    const image = { Cmd: ['x'], User: '5:6', WorkingDir: '/w' };
    expect(await specOf(image)).toMatchObject({ user: { uid: 5, gid: 6 }, cwd: 'w' });
    expect(await specOf(image, { user: '7', workdir: '/v/../u' })).toMatchObject({
      user: { uid: 7, gid: 0 },
      cwd: 'u',
    });
  });

  test('a user that the image does not know is refused before anything is made', async () => {
    await expect(specOf({ Cmd: ['x'] }, { user: 'nobody' })).rejects.toMatchObject({ code: 'unknown-user' });
  });

  test.each([
    ['default', 'default'],
    ['host', 'host'],
    ['none', 'none'],
  ] as const)('network %s is %s for the sandbox', async (network, expected) => {
    expect((await specOf({ Cmd: ['x'] }, { network })).network).toBe(expected);
  });
});

describe('the life of a container', () => {
  const image = { config: imageOf({ Cmd: ['x'] }), snapshot: undefined };
  const call = { request: REQUEST, io: { mode: 'pipe' }, signal: new AbortController().signal } as const;

  test('the writable layer is gone before the outcome is told', async () => {
    const given = parts({ kind: 'exited', code: 3 });
    const child = await startContainer(given, image, call);
    child.signal('SIGTERM');
    expect(await child.outcome).toEqual({ kind: 'exited', code: 3 });
    expect(given.log).toEqual(['SIGTERM', 'disposed']);
  });

  test('the writable layer is gone where the container cannot be started', async () => {
    const given = parts(new Error('no sandbox'));
    await expect(startContainer(given, image, call)).rejects.toThrow('no sandbox');
    expect(given.log).toEqual(['disposed']);
  });
});
