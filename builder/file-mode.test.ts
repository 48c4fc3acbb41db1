import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseMode } from './file-mode.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'varve-mode-'));
  writeFileSync(join(folder, 'file'), '');
  mkdirSync(join(folder, 'dir'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function modeAfter(text: string, type: 'file' | 'dir', mode: number): number {
  const read = parseMode(text);
  if (!read.ok) throw new Error(read.error);
  return read.value({ type, mode });
}

/** What chmod(1) makes of it, with an empty umask. */
function judged(text: string, type: 'file' | 'dir', mode: number): number {
  const path = join(folder, type);
  chmodSync(path, mode);
  execFileSync('sh', ['-c', 'umask 0; exec chmod -- "$0" "$1"', text, path]);
  return statSync(path).mode & 0o7777;
}

test.each([
  '+x',
  'a-w',
  'u=rwX,go=rX',
  'g=u',
  'go=',
  '=r,u+w',
  'u+s,g+s',
  '+t',
  'o=g-w',
  'ug+rw,o-rwx',
  '+X',
  '-X',
  'u-x+w',
  'g+o',
])('the symbolic mode %s does what chmod does', (text) => {
  for (const mode of [0o640, 0o755, 0o4711, 0o600]) {
    expect(modeAfter(text, 'file', mode).toString(8)).toBe(judged(text, 'file', mode).toString(8));
  }
  // chmod keeps the set-id bits of folders that it is not asked about, so these are left out here.
  for (const mode of [0o700, 0o755])
    expect(modeAfter(text, 'dir', mode).toString(8)).toBe(judged(text, 'dir', mode).toString(8));
});

test.each([
  ['755', 0o755],
  ['0644', 0o644],
  ['7', 0o7],
  ['4755', 0o4755],
])('the octal mode %s counts alone', (text, mode) => {
  expect(modeAfter(text, 'file', 0o123)).toBe(mode);
  expect(modeAfter(text, 'dir', 0o123)).toBe(mode);
});

test.each(['999', '17777', '0o755', '7a'])('%s is refused as an octal mode', (text) => {
  expect(parseMode(text)).toMatchObject({
    ok: false,
    error: `invalid chmod parameter: '${text}'. it should be octal string and between 0 and 07777`,
  });
});

test.each(['u', 'rw', 'u=q', '+x,', 'z+x', '+755', 'u=rw go=r', ''])('%j is no mode', (text) => {
  expect(parseMode(text)).toMatchObject({ ok: false });
});
