import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
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
  test('puts Ink and React into chunks of their own that `version` does not load', () => {
    const entry = readFileSync(join(dist, 'varve.mjs'), 'utf8');
    const seen = new Set<string>();
    const follow = (text: string): void => {
      for (const [, name = ''] of text.matchAll(/from"\.\/(chunk-[A-Z0-9]+\.mjs)"/g)) {
        if (seen.has(name)) continue;
        seen.add(name);
        follow(readFileSync(join(dist, name), 'utf8'));
      }
    };
    const main =
      /import\("\.\/(chunk-[A-Z0-9]+\.mjs)"\);?var|\{main\}=await import\("\.\/(chunk-[A-Z0-9]+\.mjs)"\)/.exec(
        entry,
      );
    const name = main?.[1] ?? main?.[2];
    if (name === undefined) throw new Error('the entry does not load main');
    follow(`from"./${name}"`);
    const loaded = [...seen].map((chunk) => readFileSync(join(dist, chunk), 'utf8')).join('');
    expect(loaded.length).toBeLessThan(50_000);
    expect(loaded).not.toContain('node:crypto');
    const chunks = readdirSync(dist).filter((file) => file.startsWith('chunk-'));
    const withReact = chunks.filter((file) =>
      readFileSync(join(dist, file), 'utf8').includes('react.element'),
    );
    expect(withReact.length).toBeGreaterThan(0);
    for (const file of withReact) expect(seen).not.toContain(file);
  });
});
