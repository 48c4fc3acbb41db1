import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = new URL('..', import.meta.url).pathname;
const node = join(root, 'node_modules/node/bin/node');

/** A package as npm installs it: node_modules/varve beside node_modules/node, with node_modules/.bin/varve. */
let modules: string;
let dist: string;
beforeAll(() => {
  modules = join(mkdtempSync(join(tmpdir(), 'varve-bundle-')), 'node_modules');
  const own = join(modules, 'varve');
  dist = join(own, 'dist');
  mkdirSync(join(modules, '.bin'), { recursive: true });
  cpSync(join(root, 'bin'), join(own, 'bin'), { recursive: true });
  symlinkSync('../varve/bin/varve', join(modules, '.bin/varve'));
  const script = `import { bundle } from ${JSON.stringify(join(root, 'scripts/bundle.ts'))}; await bundle(${JSON.stringify(dist)});`;
  execFileSync(node, ['--input-type=module-typescript', '-e', script]);
});
afterAll(() => rmSync(join(modules, '..'), { recursive: true }));

const varve = join('.bin', 'varve');
const start = (env: Record<string, string>, ...args: string[]) =>
  spawnSync(join(modules, varve), args, {
    encoding: 'utf8',
    env: { PATH: '/usr/bin:/bin', HOME: modules, ...env },
  });

describe('bin/varve', () => {
  test('takes the Node that lies beside its package, through a link to a link', () => {
    symlinkSync(join(root, 'node_modules/node'), join(modules, 'node'));
    symlinkSync(join('.bin', 'varve'), join(modules, 'again'));
    expect(start({}, '--version')).toMatchObject({ status: 0, stderr: '' });
    expect(spawnSync(join(modules, 'again'), ['--version'], { encoding: 'utf8' }).stdout).toMatch(
      /^varve version \d/,
    );
    rmSync(join(modules, 'node'));
  });

  test('keeps arguments as they are, and the exit code', () => {
    symlinkSync(join(root, 'node_modules/node'), join(modules, 'node'));
    const { status, stderr } = start({}, 'a b  *\n');
    expect({ status, stderr }).toMatchObject({ status: 2 });
    expect(stderr).toContain('"a b  *\\n" is not a varve command');
    rmSync(join(modules, 'node'));
  });

  test('refuses a Node that is too old, and none at all, in words', () => {
    const path = join(modules, 'path');
    mkdirSync(path);
    for (const tool of ['sh', 'readlink']) symlinkSync(`/bin/${tool}`, join(path, tool));
    expect(start({ PATH: path }, '--version')).toMatchObject({ status: 1, stdout: '' });
    expect(start({ PATH: path }, '--version').stderr).toContain('there is no Node');
    writeFileSync(join(path, 'node'), '#!/bin/sh\necho v20.1.0\n', { mode: 0o755 });
    expect(start({ PATH: path }, '--version').stderr).toContain('Node v20.1.0 is too old');
  });
});

describe('bundle', () => {
  const node26 = (...args: string[]) =>
    spawnSync(node, args, { encoding: 'utf8', env: { HOME: home, VARVE_ROOT: join(home, 'root') } });
  const home = mkdtempSync(join(tmpdir(), 'varve-home-'));
  afterAll(() => rmSync(home, { recursive: true }));

  test('has Ink and React in a module of their own, and `version` loads no cryptography', () => {
    const program = readdirSync(dist).filter((file) => file.startsWith('program-'));
    expect(program).toHaveLength(1);
    const textOf = (file: string) => readFileSync(join(dist, file), 'utf8');
    expect(program.map(textOf).join('')).not.toContain('react.element');
    expect(textOf('tty.mjs')).toContain('react.element');
    const told =
      'process.on("exit", () => console.error(process.moduleLoadList.includes("NativeModule crypto")))';
    const { stderr } = node26('--import', `data:text/javascript,${told}`, join(dist, 'varve.mjs'), 'version');
    expect(stderr).toBe('false\n');
  });

  test('keeps compiled code in the folder of the user, and uses it while it is whole', () => {
    const folder = join(home, '.cache', 'varve', 'code');
    const version = () => node26(join(dist, 'varve.mjs'), 'version', '--short');
    const first = version();
    const [name = ''] = readdirSync(folder).filter((file) => file.endsWith('-version'));
    const kept = readFileSync(join(folder, name));
    const writtenAt = statSync(join(folder, name)).mtimeMs;
    expect(version()).toEqual({ ...first, pid: expect.any(Number) });
    expect(statSync(join(folder, name)).mtimeMs).toBe(writtenAt);
    writeFileSync(join(folder, name), kept.subarray(0, kept.length / 2));
    expect(version()).toEqual({ ...first, pid: expect.any(Number) });
    expect(readFileSync(join(folder, name)).length).toBeGreaterThan(kept.length / 2);
    expect(node26(join(dist, 'varve.mjs'), 'nonsense').status).toBe(2);
    expect(readdirSync(folder).filter((file) => file.endsWith('-nonsense'))).toEqual([]);
  });
});
