import { mkdir, mkdtemp, realpath, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type HostPath, imagePath } from '../core/index.ts';
import { loadDockerfile, loadIgnoreRules, openContextFolder } from './dockerfile.ts';
import { stopped } from './testing/stopped.ts';

let folder: HostPath;

beforeEach(async () => {
  folder = (await realpath(await mkdtemp(join(tmpdir(), 'varve-dockerfile-')))) as HostPath;
});

const local = () => ({ path: folder, isLocal: true });
const noFetch = async (): Promise<never> => {
  throw new Error('nothing is to be fetched');
};

afterEach(() => rm(folder, { recursive: true, force: true }));

describe('loadDockerfile', () => {
  test('reads a file of the context, and an absolute one', async () => {
    await mkdir(join(folder, 'docker'));
    await writeFile(join(folder, 'docker/app'), 'FROM scratch\n');
    const relative = { kind: 'file', path: 'docker/app' } as const;
    expect(await loadDockerfile(relative, local(), noFetch)).toEqual({
      file: 'docker/app',
      text: 'FROM scratch\n',
    });
    const absolute = { kind: 'file', path: join(folder, 'docker/app') } as const;
    expect((await loadDockerfile(absolute, undefined, noFetch)).text).toBe('FROM scratch\n');
  });

  test('takes text as it is', async () => {
    expect(await loadDockerfile({ kind: 'inline', text: 'FROM x' }, local(), noFetch)).toEqual({
      file: 'Dockerfile',
      text: 'FROM x',
    });
  });

  test.each([
    ['none', 'dockerfile-missing'],
    ['none/deep', 'dockerfile-missing'],
    ['file/below', 'dockerfile-missing'],
    ['.', 'dockerfile-is-folder'],
    ['huge', 'dockerfile-too-large'],
  ])('refuses %j with %s', async (path, code) => {
    await writeFile(join(folder, 'file'), '');
    await writeFile(join(folder, 'huge'), '');
    await truncate(join(folder, 'huge'), 17 * 1024 * 1024);
    expect((await stopped(() => loadDockerfile({ kind: 'file', path }, local(), noFetch))).code).toBe(code);
  });

  test('names the file that is missing and how to name another', async () => {
    const failure = await stopped(() =>
      loadDockerfile({ kind: 'file', path: 'Dockerfile' }, local(), noFetch),
    );
    expect(failure.message).toBe(
      `failed to read dockerfile: open ${folder}/Dockerfile: no such file or directory`,
    );
    expect(failure.hint).toContain('-f');
  });
});

describe('loadIgnoreRules', () => {
  const source = { kind: 'file', path: 'docker/app.Dockerfile' } as const;

  test('takes the rules beside the Dockerfile before those of the context', async () => {
    await mkdir(join(folder, 'docker'));
    await writeFile(join(folder, '.dockerignore'), 'general');
    expect((await loadIgnoreRules(source, folder)).ignores(imagePath('general'))).toBe(true);
    await writeFile(join(folder, 'docker/app.Dockerfile.dockerignore'), 'special');
    const rules = await loadIgnoreRules(source, folder);
    expect([rules.ignores(imagePath('general')), rules.ignores(imagePath('special'))]).toEqual([false, true]);
    const inline = await loadIgnoreRules({ kind: 'inline', text: '' }, folder);
    expect(inline.ignores(imagePath('general'))).toBe(true);
  });

  test('leaves nothing out where there is no file', async () => {
    expect((await loadIgnoreRules(source, folder)).ignores(imagePath('x'))).toBe(false);
  });

  test('names file and line of a bad pattern', async () => {
    await writeFile(join(folder, '.dockerignore'), 'good\n[bad');
    const failure = await stopped(() => loadIgnoreRules(source, folder));
    expect(failure).toMatchObject({ code: 'bad-dockerignore' });
    expect(failure.message).toBe('.dockerignore: line 2: "[bad": syntax error in pattern');
  });

  test('fails where the file cannot be read', async () => {
    await mkdir(join(folder, '.dockerignore'));
    await expect(loadIgnoreRules(source, folder)).rejects.toMatchObject({ code: 'dockerignore-unreadable' });
  });
});

describe('openContextFolder', () => {
  test('resolves symlinks', async () => {
    await mkdir(join(folder, 'real'));
    await symlink('real', join(folder, 'link'));
    expect(await openContextFolder(join(folder, 'link') as HostPath)).toBe(join(folder, 'real'));
  });

  test('ends the build where nothing is there', async () => {
    const failure = await stopped(() => openContextFolder(join(folder, 'none') as HostPath));
    expect(failure).toMatchObject({ code: 'context-missing' });
  });
});
