import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MachineError } from '../../core/index.ts';
import type { Engine } from '../engine-contract.ts';
import { digest, imageDetails, storedImage, varve } from '../testing.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'varve-images-'));
});
afterAll(() => rm(folder, { recursive: true }));

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

  test('an image that a name means on another platform alone is shown with -a, which tells platforms', async () => {
    const image = {
      ...storedImage(['docker.io/library/both:latest'], { architecture: 'arm64' }),
      platformNames: ['docker.io/library/both:latest'],
    };
    const both = async () => [imageDetails(['docker.io/library/both:latest']), { image, size: 1 }];
    const list = async (...flags: string[]) =>
      (await varve(['images', ...flags], { engine: { images: both } })).stdout.trim().split('\n');
    expect(await list()).toHaveLength(2);
    const whole = {
      ...image,
      platformNames: [],
      indexDigests: { 'docker.io/library/both:latest': digest('e') },
    };
    const shown = await varve(['inspect', 'both'], {
      engine: { findImage: async () => ({ image: whole, size: 1, layerSizes: [1] }) },
    });
    expect(JSON.parse(shown.stdout)[0].RepoDigests).toEqual([`both@${digest('e')}`]);
    expect((await list('-a')).map((line) => line.replace(/.* /, ''))).toEqual([
      'PLATFORM',
      'linux/amd64',
      'linux/arm64',
    ]);
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
  test('push --all-tags pushes each name of the repository, and no other', async () => {
    const pushed: string[] = [];
    const engine = {
      images: async () => [
        imageDetails(['localhost:5000/app:2', 'localhost:5000/app:1', 'localhost:5000/app/more:1']),
      ],
      push: async (name: string) => {
        pushed.push(name);
        return { digest: digest('a'), size: 1 };
      },
    };
    const { code, stdout } = await varve(['push', '-a', 'localhost:5000/app'], { engine });
    expect(code).toBe(0);
    expect(pushed).toEqual(['localhost:5000/app:1', 'localhost:5000/app:2']);
    expect(stdout.split('\n')[2]).toBe(`2: digest: ${digest('a')} size: 1`);
    expect((await varve(['push', '-a', 'localhost:5000/app:1'], { engine })).code).toBe(2);
    expect((await varve(['push', '-a', 'localhost:5000/other'], { engine })).code).toBe(1);
  });

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
    expect((await stat(file)).mode & 0o777).toBe(0o600);
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
