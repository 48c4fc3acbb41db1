import { existsSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type TemporaryFolder, temporaryFolder } from '../fixtures/index.ts';
import { keepCode, kindOf, readCode } from './code-cache.ts';
import { codeFolder } from './code-folder.ts';

let temporary: TemporaryFolder;
let folder: string;
beforeEach(async () => {
  temporary = await temporaryFolder('varve-code');
  folder = join(temporary.path, 'varve', 'code');
});
afterEach(() => temporary[Symbol.asyncDispose]());

const CODE = Buffer.from('compiled');

test('gives back what was kept, under its own name alone', () => {
  expect(readCode(folder, 'a')).toBeUndefined();
  keepCode(folder, 'a', CODE);
  expect(readCode(folder, 'a')).toEqual(CODE);
  expect(readCode(folder, 'b')).toBeUndefined();
  expect(readdirSync(folder)).toEqual(['a']);
});

test('gives nothing where bytes are missing or wrong: V8 would run them', () => {
  keepCode(folder, 'a', CODE);
  const whole = readFileSync(join(folder, 'a'));
  for (const [at, byte] of whole.entries()) {
    const damaged = Buffer.from(whole);
    damaged[at] = byte ^ 0x10;
    writeFileSync(join(folder, 'a'), damaged);
    expect(readCode(folder, 'a')).toBeUndefined();
  }
  for (const length of [0, 3, 4, 7]) {
    writeFileSync(join(folder, 'a'), whole);
    truncateSync(join(folder, 'a'), length);
    expect(readCode(folder, 'a')).toBeUndefined();
  }
});

test('removes what has not been written for a month', () => {
  keepCode(folder, 'old', CODE);
  keepCode(folder, 'new', CODE);
  utimesSync(join(folder, 'old'), 1, Date.now() / 1000 - 31 * 24 * 60 * 60);
  keepCode(folder, 'new', CODE);
  expect(readdirSync(folder)).toEqual(['new']);
});

test('keeps nothing where the folder cannot be made', () => {
  writeFileSync(join(temporary.path, 'varve'), '');
  keepCode(folder, 'a', CODE);
  expect(existsSync(folder)).toBe(false);
});

test('tells command lines apart that need other code', () => {
  expect(kindOf(['build', '-t', 'x', '.'])).toBe('build');
  expect(kindOf(['build', '.', '--check'])).toBe('build-asks');
  expect(kindOf(['images', '--help'])).toBe('images-asks');
  expect(kindOf([])).toBe('help');
  expect(kindOf(['--root', '/x', 'build', '.'])).toBe('other');
  expect(kindOf(['../../x'])).toBe('other');
});

test('keeps code only in a place of the same user', () => {
  const home = temporary.path;
  const uid = process.geteuid?.() ?? 0;
  expect(codeFolder({ HOME: home }, uid)).toBe(`${home}/.cache/varve/code`);
  expect(codeFolder({ HOME: '/', XDG_CACHE_HOME: home }, uid)).toBe(`${home}/varve/code`);
  expect(codeFolder({ HOME: home }, uid + 1)).toBeUndefined();
  expect(codeFolder({ HOME: home, XDG_CACHE_HOME: join(home, 'none') }, uid)).toBeUndefined();
  expect(codeFolder({ HOME: 'relative' }, uid)).toBeUndefined();
  expect(codeFolder({}, uid)).toBeUndefined();
});
