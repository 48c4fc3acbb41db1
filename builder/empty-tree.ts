import { type Entry, ROOT_PATH, type Tree } from '../core/index.ts';

const ROOT: Entry = {
  path: ROOT_PATH,
  type: 'dir',
  mode: 0o755,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: { sec: 0, nsec: 0 },
};

/** The tree of `FROM scratch`: a root folder with nothing in it. */
export const EMPTY_TREE: Tree = {
  lstat: async (path) => (path === ROOT_PATH ? ROOT : undefined),
  list: async () => [],
  digest: async (path) => {
    throw new Error(`digest of ${JSON.stringify(path)} in an empty tree`);
  },
  hostPath: async (path) => {
    throw new Error(`content of ${JSON.stringify(path)} in an empty tree`);
  },
};
