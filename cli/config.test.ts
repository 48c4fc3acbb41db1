import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MachineError } from '../core/index.ts';
import { dockerConfigFolder, loadConfig, parseConfig, stateFolder } from './config.ts';

function refusal(text: string): string {
  try {
    parseConfig(text, 'c.toml');
  } catch (error) {
    if (error instanceof MachineError && error.code === 'config-invalid') return error.message;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('parseConfig', () => {
  test('reads all of its keys', () => {
    const text = `
[registry."docker.io"]
  mirrors = ["mirror.example.com", "10.0.0.1:5000/hub"]
[registry."r.example:5000"]
  http = true
  insecure = false
[cache]
max-size = "20GB"
[build]
parallelism = 4
`;
    expect(parseConfig(text, 'c.toml')).toEqual({
      registries: {
        'docker.io': { mirrors: ['mirror.example.com', '10.0.0.1:5000/hub'] },
        'r.example:5000': { mirrors: [], http: true, insecure: false },
      },
      cache: { maxBytes: 20 * 2 ** 30 },
      build: { parallelism: 4 },
    });
  });

  test('an empty file says nothing', () => {
    expect(parseConfig('', 'c.toml')).toEqual({ registries: {}, cache: {}, build: {} });
  });

  test.each([
    [
      '[registry."docker.io"]\nmirrors = []\nmirorrs = ["a"]\n',
      'c.toml:3: "registry.docker.io.mirorrs" is not a known key; did you mean mirrors?',
    ],
    ['# a\n\n[worker]\nx = 1\n', 'c.toml:3: "worker" is not a known key; known are registry, cache, build'],
    ['cache.max-size = "much"\n', 'c.toml:1: "cache.max-size" must be a size, as "20GB"'],
    ['[cache]\nmax-size = -1', 'c.toml:2: "cache.max-size" must be a size, as "20GB"'],
    ['[build]\nparallelism = 1.5', 'c.toml:2: "build.parallelism" must be a whole number above 0'],
    ['[registry.a]\nhttp = "yes"', 'c.toml:2: "registry.a.http" must be true or false'],
    ["[registry.'a.b']\nmirrors = 'x'", 'c.toml:2: "registry.a.b.mirrors" must be a list of strings'],
    ['registry = 1', 'c.toml:1: "registry" must be a table'],
    ['[[registry.a]]\nhttp = true', 'c.toml:1: "registry.a" must be a table'],
  ])('refuses %j with its line', (text, message) => {
    expect(refusal(text)).toBe(message);
  });

  test('tells bad TOML with line and column', () => {
    expect(refusal('[cache]\nmax-size = \n')).toMatch(/^c\.toml:2:\d+: ./);
  });
});

describe('loadConfig', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'varve-config-'));
    await mkdir(join(folder, 'varve'));
    await writeFile(join(folder, 'varve', 'config.toml'), '[build]\nparallelism = 7\n');
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('takes the user’s file, or $VARVE_CONFIG alone', async () => {
    expect(loadConfig({ XDG_CONFIG_HOME: folder }).build).toEqual({ parallelism: 7 });
    const file = join(folder, 'own.toml');
    await writeFile(file, '[cache]\nmax-size = 5\n');
    expect(loadConfig({ XDG_CONFIG_HOME: folder, VARVE_CONFIG: file })).toEqual({
      registries: {},
      cache: { maxBytes: 5 },
      build: {},
    });
  });

  test('a $VARVE_CONFIG that is not there is an error; a missing file of the user is none', () => {
    expect(() => loadConfig({ VARVE_CONFIG: join(folder, 'none') })).toThrow('ENOENT');
    expect(loadConfig({ XDG_CONFIG_HOME: join(folder, 'none') })).toBeDefined();
  });
});

test.each([
  [{ root: 'here', env: { VARVE_ROOT: '/v' }, uid: 0 }, '/w/here'],
  [{ root: undefined, env: { VARVE_ROOT: '/v' }, uid: 0 }, '/v'],
  [{ root: undefined, env: {}, uid: 0 }, '/var/lib/varve'],
  [{ root: undefined, env: { XDG_DATA_HOME: '/d' }, uid: 1000 }, '/d/varve'],
  [{ root: undefined, env: { HOME: '/h', XDG_DATA_HOME: 'relative' }, uid: 1000 }, '/h/.local/share/varve'],
])('stateFolder: %j is %s', (options, expected) => {
  expect(stateFolder({ ...options, cwd: '/w' })).toBe(expected);
});

test('dockerConfigFolder: flag, then $DOCKER_CONFIG, then ~/.docker', () => {
  expect(dockerConfigFolder('c', { DOCKER_CONFIG: '/d' }, '/w')).toBe('/w/c');
  expect(dockerConfigFolder(undefined, { DOCKER_CONFIG: '/d' }, '/w')).toBe('/d');
  expect(dockerConfigFolder(undefined, { HOME: '/h' }, '/w')).toBe('/h/.docker');
});
