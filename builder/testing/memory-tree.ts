import { writeFileSync } from 'node:fs';
import {
  comparePaths,
  digestOf,
  type Entry,
  type HostPath,
  type ImagePath,
  imagePath,
  joinHost,
  parentPath,
  type Tree,
} from '../../core/index.ts';

/** What lies at a path of a {@link memoryTree}: a file's text, or an entry's fields. Folders on the way are made. */
export type MemoryFile = string | (Partial<Omit<Entry, 'path'>> & { readonly content?: string });

/**
 * A tree of files that tests write down as a record of paths. With a `folder`, files can be read: their content is put there
 * when asked for.
 */
export function memoryTree(files: Readonly<Record<string, MemoryFile>>, folder?: HostPath): Tree {
  const entries = new Map<ImagePath, Entry>([[imagePath(''), entryOf(imagePath(''), { type: 'dir' })]]);
  const contents = new Map<ImagePath, string>();
  for (const [name, file] of Object.entries(files)) {
    const path = imagePath(name);
    for (let at = parentPath(path); at !== ''; at = parentPath(at)) {
      if (!entries.has(at)) entries.set(at, entryOf(at, { type: 'dir' }));
    }
    const fields = typeof file === 'string' ? { content: file } : file;
    const { content = '', ...entry } = fields;
    contents.set(path, content);
    entries.set(path, entryOf(path, { size: Buffer.byteLength(content), ...entry }));
  }
  const contentOf = (path: ImagePath): string => {
    const content = contents.get(path);
    if (content === undefined || entries.get(path)?.type !== 'file') throw new Error(`${path} is no file`);
    return content;
  };
  return {
    lstat: async (path) => entries.get(path),
    list: async (path) =>
      [...entries.values()]
        .filter((entry) => entry.path !== '' && parentPath(entry.path) === path)
        .sort((a, b) => comparePaths(a.path, b.path)),
    digest: async (path) => digestOf(contentOf(path)),
    hostPath: async (path) => {
      const content = contentOf(path);
      if (folder === undefined) return joinHost('/nowhere' as HostPath, path);
      const file = joinHost(folder, digestOf(content).slice('sha256:'.length));
      writeFileSync(file, content);
      return file;
    },
  };
}

function entryOf(path: ImagePath, fields: Partial<Entry>): Entry {
  const { type = 'file' } = fields;
  return {
    path,
    type,
    mode: type === 'dir' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: { sec: 1, nsec: 0 },
    ...fields,
  };
}

/** A symlink of a {@link memoryTree}. */
export function link(target: string): MemoryFile {
  return { type: 'symlink', mode: 0o777, linkTarget: target };
}
