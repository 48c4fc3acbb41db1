import { expect, test } from 'vitest';
import { type Entry, imagePath, type TreeOp } from '../../core/index.ts';
import { link, type MemoryFile, memoryTree } from '../testing/memory-tree.ts';
import { StickyTimes } from './sticky-times.ts';

const OLD = { sec: 100, nsec: 5 };
const NEW = { sec: 200, nsec: 6 };
const FILE = {
  op: 'file',
  attributes: { mode: 0o644, uid: 0, gid: 0 },
  content: { kind: 'bytes', bytes: new Uint8Array() },
} as const;

/** The time that `now`, from the context, gets where the last copy had left `before`. */
async function timeAfter(before: MemoryFile | undefined, now: MemoryFile) {
  const at = (file: MemoryFile, mtime: Entry['mtime']): MemoryFile =>
    typeof file === 'string' ? { content: file, mtime } : { ...file, mtime };
  const tree = memoryTree({ src: at(now, NEW) });
  const previous = before === undefined ? [] : [memoryTree({}), memoryTree({ 'app/src': at(before, OLD) })];
  const entry = await tree.lstat(imagePath('src'));
  if (entry === undefined) throw new Error('no entry');
  return new StickyTimes(previous).timeOf({ entry, tree, target: imagePath('app/src') });
}

test('a file with the same bytes keeps the time of the last copy', async () => {
  expect(await timeAfter('same', 'same')).toEqual(OLD);
});

test('a file with other bytes of the same length has the time of its source', async () => {
  expect(await timeAfter('same', 'emas')).toEqual(NEW);
});

test('a first copy has the times of its source', async () => {
  expect(await timeAfter(undefined, 'same')).toEqual(NEW);
});

test('a file that was a link has the time of its source', async () => {
  expect(await timeAfter(link('same'), 'same')).toEqual(NEW);
});

test('a link keeps its time as long as it leads to the same place', async () => {
  expect(await timeAfter(link('x'), link('x'))).toEqual(OLD);
  expect(await timeAfter(link('x'), link('y'))).toEqual(NEW);
});

test('the digests of copied files are kept by where they went, those of names that were made again are not', async () => {
  const tree = memoryTree({ src: 'text', again: 'lost' });
  const times = new StickyTimes([]);
  async function* ops(): AsyncGenerator<readonly TreeOp[]> {
    for (const name of ['src', 'again']) {
      const entry = await tree.lstat(imagePath(name));
      if (entry !== undefined) await times.timeOf({ entry, tree, target: imagePath(`app/${name}`) });
      yield [{ ...FILE, path: imagePath(`app/${name}`) }];
    }
    yield [{ ...FILE, path: imagePath('app/again') }];
  }
  await Array.fromAsync(times.following(ops()));
  expect([...times.digests]).toEqual([['app/src', await tree.digest(imagePath('src'))]]);
});
