import { EventEmitter } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Diagnostic, MachineError } from '../core/index.ts';
import type { Engine } from './engine-contract.ts';
import { SOME_RANGE } from './progress/testing.ts';
import {
  buildingEngine,
  type CommandLine,
  digest,
  type FakeEngine,
  runningEngine,
  varve,
} from './testing.ts';

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

  test('BUILDKIT_PROGRESS=quiet prints the ID as --quiet does; empty file names write nothing', async () => {
    const argv = ['build', '--iidfile=', '--metadata-file=', '--squash', '.'];
    const env = { BUILDKIT_PROGRESS: 'quiet' };
    const { code, stdout, stderr } = await varve(argv, { engine: buildingEngine(), env });
    expect([code, stdout]).toEqual([0, `${digest('c')}\n`]);
    expect(stderr).toMatch(/^varve: warning: --squash has no effect: .*\n$/);
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

  test('shows warnings at the end with the lines that they are about', async () => {
    const dockerfile = { file: 'Dockerfile', text: 'FROM scratch as base\nRUN x\n' };
    const start = { line: 1, column: 1, offset: 0 };
    const diagnostic = {
      severity: 'warning',
      code: 'FromAsCasing',
      message: "'as' and 'FROM' keywords' casing do not match",
      range: { start, end: { line: 1, column: 21, offset: 20 } },
      hint: 'write AS',
      url: 'https://docs.docker.com/go/dockerfile/rule/from-as-casing/',
    } as const;
    const engine: FakeEngine = {
      build: async (_request, { onEvent }) => {
        onEvent({ type: 'warning', at: 1, diagnostic });
        return { ok: true, value: { steps: [], dockerfile } };
      },
    };
    const { stderr } = await varve(['build', '--progress=plain', '.'], { engine });
    expect(stderr).toBe(`
 1 warning found:
 - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)
   1 | FROM scratch as base
     | ^^^^^^^^^^^^^^^^^^^^
   hint: write AS
   see: https://docs.docker.com/go/dockerfile/rule/from-as-casing/
`);
    const raw = await varve(['build', '--progress=rawjson', '.'], { engine });
    expect(JSON.parse(raw.stderr)).toEqual({ type: 'warning', at: 1, diagnostic });
    expect((await varve(['build', '--quiet', '.'], { engine })).stderr).toBe('');
  });

  test('--check and --call print the answer, end with 1 where there is a warning, and build nothing', async () => {
    const asked: string[] = [];
    const dockerfile = { file: '/src/sub/Dockerfile', text: 'FROM a\n' };
    const start = { line: 1, column: 1, offset: 0 };
    const range = { start, end: { line: 1, column: 7, offset: 6 } };
    const warnings = [{ severity: 'warning', code: 'UndefinedVar', message: 'm', range }] as const;
    const unknownImages = [{ name: 'a', reason: 'no network', range }];
    const notes = [{ severity: 'warning', code: 'unknown-frontend', message: 'n', range }] as const;
    const answering = (found: readonly Diagnostic[]): CommandLine => ({
      cwd: '/src',
      engine: {
        call: async (_request, kind) => {
          asked.push(kind);
          if (kind === 'targets')
            return { ok: true, value: { kind, dockerfile, unknownImages: [], targets: [] } };
          return { ok: true, value: { kind: 'check', dockerfile, unknownImages, notes, warnings: found } };
        },
      },
    });
    const { code, stdout, stderr } = await varve(['build', '--check', '.'], answering(warnings));
    expect(code).toBe(1);
    expect(stdout).toContain('WARNING: UndefinedVar\nm\nsub/Dockerfile:1\n');
    expect(stderr).toBe(
      'varve: line 1: the image a cannot be looked up: UndefinedVar and InvalidBaseImagePlatform are not checked on it (no network)\nvarve: line 1: n\n',
    );
    expect(await varve(['build', '--check', '.'], answering([]))).toMatchObject({
      code: 0,
      stdout: 'Check complete, no warnings found.\n',
    });
    const json = await varve(
      ['build', '--call=check,format=json,ignorestatus=true', '.'],
      answering(warnings),
    );
    expect(json.code).toBe(0);
    expect(JSON.parse(json.stdout).warnings).toHaveLength(1);
    expect((await varve(['build', '--call=targets', '.'], answering([]))).stdout).toMatch(/^TARGET/);
    expect(asked).toEqual(['check', 'check', 'check', 'targets']);
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
