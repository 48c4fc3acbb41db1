import { describe, expect, test } from 'vitest';
import { imagePath, resolvePath, USE } from '../core/index.ts';
import { RecordingTree } from './recording-tree.ts';
import { link, memoryTree } from './testing/memory-tree.ts';

const FILES = { 'app/a': 'text', 'srv/site': link('../app'), 'etc/passwd': 'root:x:0:0::/root:/bin/sh' };

function observed(tree: RecordingTree): Record<string, number> {
  return Object.fromEntries(tree.observations().map(({ path, uses }) => [path, uses]));
}

describe('RecordingTree', () => {
  test('remembers nothing before it is asked', () => {
    expect(new RecordingTree(memoryTree(FILES)).observations()).toEqual([]);
  });

  test('of folders the mode counts, of links the target, of files only that they are there', async () => {
    const tree = new RecordingTree(memoryTree(FILES));
    await resolvePath(tree, imagePath('/srv/site/a'), { followLast: true });
    expect(observed(tree)).toEqual({
      '': USE.METADATA,
      app: USE.METADATA,
      'app/a': 0,
      srv: USE.METADATA,
      'srv/site': USE.TARGET,
    });
  });

  test('reading a file counts its content', async () => {
    const tree = new RecordingTree(memoryTree(FILES));
    await tree.digest(imagePath('/etc/passwd'));
    expect(observed(tree)).toEqual({ 'etc/passwd': USE.CONTENT });
  });

  test('listing counts the folder and looks at what is in it', async () => {
    const tree = new RecordingTree(memoryTree(FILES));
    await tree.list(imagePath('/app'));
    expect(observed(tree)).toEqual({ app: USE.LISTING, 'app/a': 0 });
  });

  test('touch counts the path and all folders above it', async () => {
    const tree = new RecordingTree(memoryTree(FILES));
    await tree.touch(imagePath('/app/a'));
    expect(observed(tree)).toEqual({ '': USE.METADATA, app: USE.METADATA, 'app/a': 0 });
  });

  test('what lies below an absent path says nothing more', async () => {
    const tree = new RecordingTree(memoryTree(FILES));
    await tree.touch(imagePath('/new/deep/file'));
    expect(observed(tree)).toEqual({ '': USE.METADATA, new: 0 });
  });

  test('observations come in path order', async () => {
    const tree = new RecordingTree(memoryTree({ 'a-b': '', 'a/b': '' }));
    for (const path of ['/a/b', '/a-b', '/a']) await tree.lstat(imagePath(path));
    expect(tree.observations().map(({ path }) => path)).toEqual(['a', 'a-b', 'a/b']);
  });
});
