import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { Store } from './store.ts';

/** What workloads share during one run: a folder, a store, and what is dear to make. */
export interface Bench {
  /** Removed at the end. */
  readonly folder: string;
  readonly store: Store;
  /** Sizes that show that everything works, and no figures. */
  readonly quick: boolean;
  readonly seed: number;
  /** Says what is going on. */
  readonly say: (text: string) => void;
  /** A folder that `make` fills the first time that `name` is asked for. */
  readonly context: (name: string, make: (folder: string) => Promise<void>) => Promise<string>;
  /** A store beside the shared one, without any record. */
  readonly freshStore: () => Promise<Store>;
}

export async function openBench(options: {
  readonly folder: string;
  readonly quick: boolean;
  readonly seed: number;
  readonly say: (text: string) => void;
}): Promise<Bench> {
  const { folder } = options;
  const contexts = new Map<string, Promise<string>>();
  const makeContext = async (name: string, make: (folder: string) => Promise<void>): Promise<string> => {
    const path = join(folder, 'contexts', name);
    await mkdir(path, { recursive: true });
    await make(path);
    return path;
  };
  const freshStore = async (): Promise<Store> => new Store(await mkdtemp(join(folder, 'store-')));
  return {
    ...options,
    store: await freshStore(),
    freshStore,
    context: (name, make) => {
      const made = contexts.get(name) ?? makeContext(name, make);
      contexts.set(name, made);
      return made;
    },
  };
}
