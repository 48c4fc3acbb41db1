import { EventEmitter } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MachineError } from '../core/index.ts';
import type { Engine } from './engine-contract.ts';
import { SOME_RANGE } from './progress/testing.ts';
import { buildingEngine, digest, imageDetails, runningEngine, storedImage, varve } from './testing.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'varve-main-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('dispatch', () => {
  test.each([[[]], [['help']], [['--help']], [['-h']]])('%j lists the commands', async (argv) => {
    const { code, stdout } = await varve(argv);
    expect(code).toBe(0);
    expect(stdout).toContain('Usage:  varve [OPTIONS] COMMAND');
    expect(stdout).toContain('  cache prune  ');
  });

  test('every listed command has help', async () => {
    const { stdout } = await varve(['--help']);
    const names = [...stdout.matchAll(/^ {2}([a-z]+(?: [a-z]+)?) {2,}/gm)].map((match) => match[1] ?? '');
    expect(names.length).toBeGreaterThanOrEqual(18);
    for (const name of names) {
      const help = await varve([...name.split(' '), '--help']);
      expect(help).toMatchObject({ code: 0, stderr: '' });
      expect(help.stdout).toContain(`Usage:  varve ${name}`);
      expect((await varve(['help', ...name.split(' ')])).stdout).toBe(help.stdout);
    }
  });

  test('names the nearest command for an unknown one', async () => {
    const { code, stderr } = await varve(['biuld', '.']);
    expect(code).toBe(2);
    expect(stderr).toBe(
      `varve: "biuld" is not a varve command\nhint: Did you mean 'varve build'?\nSee 'varve --help'.\n`,
    );
  });

  test('wrong usage of a command ends with 2, points at its help and opens nothing', async () => {
    const { code, stderr, stdout } = await varve(['build', '--nope', '.']);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain("See 'varve build --help'.");
  });

  test('takes global flags before and after the name', async () => {
    const images = async () => [];
    expect(await varve(['--root', '/a', 'images', '-q'], { engine: { images } })).toMatchObject({ code: 0 });
    expect(await varve(['images', '--root=/a', '-q'], { engine: { images } })).toMatchObject({ code: 0 });
    expect((await varve(['--rot', '/a', 'images'])).code).toBe(2);
  });

  test('a failure of the machine is one message with a hint, and its causes with --debug', async () => {
    const images = async () => {
      const cause = new Error('ENOSPC: no space');
      throw new MachineError('disk-full', 'the disk is full', { hint: 'Make room.', cause });
    };
    const plain = await varve(['images'], { engine: { images } });
    expect(plain).toMatchObject({
      code: 1,
      stderr: 'varve: the disk is full [disk-full]\nhint: Make room.\n',
    });
    const debug = await varve(['images', '--debug'], { engine: { images } });
    expect(debug.stderr).toContain('caused by: Error: ENOSPC');
  });

  test('a bug is told as one, with its stack', async () => {
    const { code, stderr } = await varve(['images'], {
      engine: { images: async () => Promise.reject(new TypeError('x is not y')) },
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/this is a bug in varve.*TypeError: x is not y.*at .*Please report it/s);
  });

  test('version prints the version of the package', async () => {
    const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'));
    expect((await varve(['--version'])).stdout).toBe(`varve version ${version}\n`);
    expect(JSON.parse((await varve(['version', '--format=json'])).stdout)).toMatchObject({
      Version: version,
    });
  });
});

describe('build', () => {
  test('hands the request to the engine, and prints only the ID with --quiet', async () => {
    const engine = buildingEngine();
    const ran = await varve(['build', '-q', '-t', 'app', '--build-arg', 'A', '.'], {
      engine,
      env: { A: '1' },
      cwd: '/x',
    });
    expect(ran).toEqual({ code: 0, stdout: `${digest('c')}\n`, stderr: '' });
    expect(engine.requests).toMatchObject([
      { id: 'build-1', context: { path: '/x' }, tags: ['app'], buildArgs: { A: '1' } },
    ]);
  });

  test('buildx build and image build are build', async () => {
    for (const words of [
      ['buildx', 'build'],
      ['image', 'build'],
    ]) {
      const engine = buildingEngine();
      expect((await varve([...words, '.'], { engine })).code).toBe(0);
      expect(engine.requests.length).toBe(1);
    }
  });

  test('writes --iidfile and --metadata-file', async () => {
    const [iid, metadata] = [join(folder, 'iid'), join(folder, 'metadata.json')];
    const argv = ['build', '-t', 'app', '--iidfile', iid, '--metadata-file', metadata, '.'];
    expect((await varve(argv, { engine: buildingEngine() })).code).toBe(0);
    expect(await readFile(iid, 'utf8')).toBe(digest('c'));
    expect(JSON.parse(await readFile(metadata, 'utf8'))).toEqual({
      'containerimage.config.digest': digest('c'),
      'containerimage.digest': digest('d'),
      'image.name': 'docker.io/library/app:latest',
      'varve.steps': [
        { name: 'RUN npm ci', stage: 'build', outcome: 'ran', reason: 'never ran before', ms: 12 },
      ],
    });
    expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('a failed build shows the place, ends with 1 and leaves no old --iidfile', async () => {
    const iid = join(folder, 'old-iid');
    await writeFile(iid, 'old');
    const text = 'FROM a\nRUN x\nRUN npm ci\n';
    const failure = {
      kind: 'build-failure',
      code: 'run-failed',
      message: 'RUN npm ci failed',
      range: SOME_RANGE,
    } as const;
    const build = async () => {
      return { ok: false, error: { failure, dockerfile: { file: 'Dockerfile', text }, steps: [] } } as const;
    };
    const { code, stderr } = await varve(['build', '--iidfile', iid, '.'], { engine: { build } });
    expect(code).toBe(1);
    expect(stderr).toContain('RUN npm ci failed');
    expect(stderr).toContain('Dockerfile:3');
    await expect(readFile(iid)).rejects.toThrow('ENOENT');
  });

  test('reads a Dockerfile from standard input', async () => {
    const engine = buildingEngine();
    const stdin = Readable.from([Buffer.from('FROM '), Buffer.from('scratch\n')]);
    expect((await varve(['build', '-'], { engine, stdin })).code).toBe(0);
    expect(engine.requests).toMatchObject([
      { context: { kind: 'empty' }, dockerfile: { kind: 'inline', text: 'FROM scratch\n' } },
    ]);
  });

  test('a tar from standard input lies in a file until the build is over, then it is gone', async () => {
    const paths: string[] = [];
    const build: Engine['build'] = async ({ context }) => {
      if (context.kind !== 'archive') throw new Error('no archive');
      await new Promise(setImmediate);
      paths.push(context.path);
      expect((await readFile(context.path)).length).toBe(1024);
      return { ok: true, value: { steps: [] } };
    };
    const stdin = Readable.from([Buffer.alloc(1024)]);
    expect(await varve(['build', '-q', '-'], { engine: { build }, stdin })).toMatchObject({
      code: 0,
      stderr: '',
    });
    await expect(readFile(paths[0] ?? '')).rejects.toThrow('ENOENT');
  });

  test('the first Ctrl-C aborts, the second ends at once', async () => {
    const signals = new EventEmitter();
    const exits: number[] = [];
    const started = Promise.withResolvers<void>();
    const aborted = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const ran = varve(['build', '.'], {
      signals,
      exitNow: (code) => exits.push(code),
      engine: {
        build: async (_request, { signal }) => {
          signal.addEventListener('abort', () => aborted.resolve());
          started.resolve();
          await gate.promise;
          signal.throwIfAborted();
          throw new Error('not aborted');
        },
      },
    });
    await started.promise;
    signals.emit('SIGINT', 'SIGINT');
    await aborted.promise;
    expect(exits).toEqual([]);
    signals.emit('SIGINT', 'SIGINT');
    expect(exits).toEqual([130]);
    gate.resolve();
    expect(await ran).toMatchObject({ code: 130, stderr: 'varve: interrupted\n' });
    expect(signals.eventNames()).toEqual([]);
  });
});

describe('run', () => {
  test.each([
    [{ kind: 'exited', code: 0 }, 0],
    [{ kind: 'exited', code: 42 }, 42],
    [{ kind: 'signaled', signal: 'SIGKILL', signalNumber: 9 }, 137],
    [{ kind: 'out-of-memory' }, 137],
    [{ kind: 'not-started', code: 127, message: 'nope: not found' }, 127],
    [{ kind: 'not-started', code: 126, message: 'permission denied' }, 126],
  ] as const)('%j ends with %i', async (outcome, code) => {
    expect(await varve(['run', '--rm', 'app', 'x'], { engine: runningEngine(outcome) })).toMatchObject({
      code,
      stdout: 'hello\n',
    });
  });

  test('what goes wrong before the container starts ends with 125', async () => {
    expect((await varve(['run', '--nope', 'app'])).code).toBe(125);
    const run = async () => Promise.reject(new MachineError('image-unknown', 'no such image'));
    expect((await varve(['run', 'app'], { engine: { run } })).code).toBe(125);
    expect((await varve(['run', '-it', 'app'])).stderr).toContain('the input device is not a TTY');
  });

  test('standard input reaches the container only with -i', async () => {
    const closed = runningEngine({ kind: 'exited', code: 0 });
    await varve(['run', 'app'], { engine: closed });
    expect(closed.asked.io).toMatchObject({ mode: 'pipe' });
    expect(closed.asked.io?.stdin).toBeUndefined();
    const open = runningEngine({ kind: 'exited', code: 0 });
    await varve(['run', '-i', 'app'], { engine: open });
    expect(open.asked.io?.stdin).toBeDefined();
  });

  test('signals go to the container; the third request to stop aborts', async () => {
    const signals = new EventEmitter();
    const engine = runningEngine({ kind: 'cancelled' });
    const ran = varve(['run', 'app'], { engine, signals });
    await expect.poll(() => signals.listenerCount('SIGUSR1')).toBe(1);
    for (const signal of ['SIGTERM', 'SIGUSR1', 'SIGINT', 'SIGINT']) signals.emit(signal, signal);
    expect(engine.asked.signals).toEqual(['SIGTERM', 'SIGUSR1', 'SIGINT']);
    engine.end({ kind: 'cancelled' });
    expect((await ran).code).toBe(137);
    expect(signals.eventNames()).toEqual([]);
  });

  test('-it: the terminal is raw while the container runs, and its size is followed', async () => {
    const raw: boolean[] = [];
    const stdin = Object.assign(Readable.from([]), {
      isTTY: true,
      setRawMode: (on: boolean) => raw.push(on),
    });
    const engine = runningEngine({ kind: 'exited', code: 3 });
    expect((await varve(['run', '-it', 'app'], { engine, stdin })).code).toBe(3);
    expect(raw).toEqual([true, false]);
    expect(engine.asked.io?.mode).toBe('terminal');
  });
});

describe('images', () => {
  const images = async () => [
    imageDetails(['docker.io/library/app:latest', 'localhost:5000/x/app:1']),
    imageDetails([]),
  ];

  test('lists names as Docker does', async () => {
    const { stdout } = await varve(['images'], { engine: { images } });
    expect(stdout).toBe(
      [
        'REPOSITORY             TAG      IMAGE ID       CREATED        SIZE',
        'app                    latest   cccccccccccc   24 hours ago   3MB',
        'localhost:5000/x/app   1        cccccccccccc   24 hours ago   3MB',
        '<none>                 <none>   cccccccccccc   24 hours ago   3MB',
        '',
      ].join('\n'),
    );
  });

  test('-q prints each ID once; a name narrows the list', async () => {
    expect((await varve(['images', '-q'], { engine: { images } })).stdout).toBe('cccccccccccc\n');
    expect(
      (await varve(['images', 'app', '--format=json'], { engine: { images } })).stdout.split('\n').length,
    ).toBe(2);
    expect((await varve(['images', '-q', 'app:2'], { engine: { images } })).stdout).toBe('');
  });

  test('inspect prints what is there, tells what is not, and ends with 1', async () => {
    const findImage = async (name: string) => (name === 'app' ? imageDetails() : undefined);
    const { code, stdout, stderr } = await varve(['inspect', 'app', 'gone'], { engine: { findImage } });
    expect(code).toBe(1);
    expect(stderr).toBe('varve: no such image: gone\n');
    expect(JSON.parse(stdout)).toEqual([
      {
        Id: digest('c'),
        RepoTags: ['app:latest'],
        RepoDigests: [`app@${digest('d')}`],
        Created: '2025-12-31T00:00:00Z',
        Author: '',
        Config: { Env: ['PATH=/bin'], Cmd: ['sh'], Labels: { a: 'b' } },
        Architecture: 'amd64',
        Os: 'linux',
        Size: 3_000_000,
        RootFS: { Type: 'layers', Layers: [digest('1'), digest('2')] },
      },
    ]);
  });

  test('history gives sizes to the entries that have a layer', async () => {
    const { stdout } = await varve(['history', 'app'], { engine: { findImage: async () => imageDetails() } });
    expect(stdout).toBe(
      [
        'IMAGE          CREATED        CREATED BY                                      SIZE    COMMENT',
        'cccccccccccc   24 hours ago   RUN echo long long long long long long long …   500kB   varve',
        '<missing>      24 hours ago   ENV PATH=/bin                                   0B',
        '<missing>      24 hours ago   ADD rootfs.tar / # base                         2.5MB',
        '',
      ].join('\n'),
    );
  });

  test('the engine is disposed of when the work is done, not before', async () => {
    const order: string[] = [];
    const remove = async () => {
      await new Promise(setImmediate);
      order.push('removed');
      return [];
    };
    const close = async () => void order.push('closed');
    await varve(['rmi', 'a', 'b'], { engine: { remove, [Symbol.asyncDispose]: close } });
    expect(order).toEqual(['removed', 'removed', 'closed']);
  });

  test('tag hands on the full name', async () => {
    const tagged: string[] = [];
    const tag = async (source: string, target: string) => void tagged.push(source, target);
    expect((await varve(['tag', 'app', 'other'], { engine: { tag } })).code).toBe(0);
    expect(tagged).toEqual(['app', 'docker.io/library/other:latest']);
    expect((await varve(['tag', 'app', 'BAD'], { engine: { tag } })).code).toBe(2);
  });

  test('rmi goes on after an image that cannot be removed', async () => {
    const remove = async (name: string) => {
      if (name === 'used') throw new MachineError('image-in-use', 'used: a running container needs it');
      return [
        { kind: 'untagged', name: 'docker.io/library/a:1' },
        { kind: 'deleted', id: digest('c') },
      ] as const;
    };
    const { code, stdout, stderr } = await varve(['rmi', 'used', 'a:1'], { engine: { remove } });
    expect({ code, stdout, stderr }).toEqual({
      code: 1,
      stdout: `Untagged: a:1\nDeleted: ${digest('c')}\n`,
      stderr: 'varve: used: a running container needs it\n',
    });
  });
});

describe('registry and archives', () => {
  test('pull prints as Docker does, and only the name with -q', async () => {
    const pull = async (_name: string, options: Parameters<Engine['pull']>[1]) => {
      const blob = { digest: digest('a'), current: 1, total: 1 };
      options.onProgress?.({ ...blob, state: 'downloading' });
      options.onProgress?.({ ...blob, state: 'downloading' });
      options.onProgress?.({ ...blob, state: 'done' });
      return { image: storedImage([]), upToDate: false };
    };
    expect((await varve(['pull', 'debian:12'], { engine: { pull } })).stdout).toBe(
      [
        '12: Pulling from library/debian',
        'aaaaaaaaaaaa: Downloading',
        'aaaaaaaaaaaa: Download complete',
        `Digest: ${digest('d')}`,
        'Status: Downloaded newer image for debian:12',
        'docker.io/library/debian:12',
        '',
      ].join('\n'),
    );
    expect((await varve(['pull', '-q', 'debian'], { engine: { pull } })).stdout).toBe(
      'docker.io/library/debian:latest\n',
    );
  });

  test('save -o leaves no file behind when it fails', async () => {
    const file = join(folder, 'image.tar');
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('half');
      throw new MachineError('blob-corrupt', 'a blob is corrupt');
    }
    const { code } = await varve(['save', '-o', file, 'app'], { engine: { save: broken } });
    expect(code).toBe(1);
    expect((await readdir(folder)).filter((name) => name.startsWith('image.tar'))).toEqual([]);
    const save = (): AsyncIterable<Uint8Array> => Readable.from([Buffer.from('tar')]);
    expect((await varve(['save', '-o', file, 'app'], { engine: { save } })).code).toBe(0);
    expect(await readFile(file, 'utf8')).toBe('tar');
    expect((await varve(['save', 'app'], { engine: { save } })).stdout).toBe('tar');
  });

  test('load names what it loaded', async () => {
    const load = async () => [storedImage(['docker.io/library/app:1']), storedImage([])];
    const { stdout } = await varve(['load'], { engine: { load } });
    expect(stdout).toBe(`Loaded image: app:1\nLoaded image ID: ${digest('c')}\n`);
    expect(
      (
        await varve(['load', '-i', '/nonexistent.tar'], {
          engine: {
            load: async (bytes) => {
              for await (const _ of bytes);
              return [];
            },
          },
        })
      ).stderr,
    ).toBe('varve: cannot read /nonexistent.tar: ENOENT [file-unreadable]\n');
  });

  test('login asks the registry, then keeps the credentials in a private file; logout takes them away', async () => {
    const config = join(folder, 'docker');
    const checkLogin = async () => {};
    const stdin = Readable.from([Buffer.from('pass:word\n')]);
    const argv = ['login', '--config', config, '-u', 'me', '--password-stdin', 'https://r.example/v2/'];
    expect(await varve(argv, { engine: { checkLogin }, stdin })).toMatchObject({
      code: 0,
      stdout: 'Login Succeeded\n',
    });
    const file = join(config, 'config.json');
    const auth = Buffer.from('me:pass:word').toString('base64');
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({ auths: { 'r.example': { auth } } });
    expect((await import('node:fs')).statSync(file).mode & 0o777).toBe(0o600);
    const logout = () => varve(['logout', '--config', config, 'r.example']);
    expect((await logout()).stdout).toBe('Removing login credentials for r.example\n');
    expect((await logout()).stdout).toBe('Not logged in to r.example\n');
  });

  test('login keeps nothing that the registry denies', async () => {
    const config = join(folder, 'denied');
    const checkLogin = async () => Promise.reject(new MachineError('registry-denied', 'denied'));
    const argv = ['login', '--config', config, '-u', 'me', '-p', 'x', 'r.example'];
    expect((await varve(argv, { engine: { checkLogin } })).code).toBe(1);
    await expect(readFile(join(config, 'config.json'))).rejects.toThrow('ENOENT');
  });
});
