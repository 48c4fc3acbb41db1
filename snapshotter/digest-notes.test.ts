import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Digest, digestOf, type HostPath, imagePath } from '../core/index.ts';
import { DigestNotes } from './digest-notes.ts';

describe('DigestNotes', () => {
  let folder: string;
  let file: HostPath;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'varve-notes-'));
    file = join(folder, 'digests') as HostPath;
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const one = digestOf('one');
  const never = async (): Promise<Digest> => {
    throw new Error('computed again');
  };
  /** The notes are written behind the answer. */
  const written = (lines: number) =>
    expect
      .poll(
        () =>
          readFileSync(file, 'utf8')
            .split('\n')
            .filter((line) => line !== '').length,
      )
      .toBe(lines);

  test('computes once, for those who ask at once too', async () => {
    const notes = new DigestNotes(file);
    let computed = 0;
    const compute = async () => {
      computed += 1;
      return one;
    };
    const path = imagePath('a');
    expect(await Promise.all([notes.get(path, compute), notes.get(path, compute)])).toEqual([one, one]);
    expect(computed).toBe(1);
    await written(1);
  });

  test('are read by the next process, odd names too, and torn lines are skipped', async () => {
    const names = ['a', 'new\nline', 'bad\udcff', '"quoted"'].map((name) => imagePath(name));
    const notes = new DigestNotes(file);
    for (const name of names) await notes.get(name, async () => digestOf(name));
    await written(names.length);
    writeFileSync(file, `${readFileSync(file, 'utf8')}\n${'a'.repeat(64)} "torn`);
    const next = new DigestNotes(file);
    for (const name of names) expect(await next.get(name, never)).toBe(digestOf(name));
    await expect(next.get(imagePath('torn'), never)).rejects.toThrow('computed again');
  });

  test('forget what failed, and do without a file that cannot be written', async () => {
    const notes = new DigestNotes(join(folder, 'absent/digests') as HostPath);
    await expect(notes.get(imagePath('a'), never)).rejects.toThrow('computed again');
    expect(await notes.get(imagePath('a'), async () => one)).toBe(one);
    expect(await notes.get(imagePath('a'), never)).toBe(one);
  });
});
