import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunningRegistry, startRegistry } from '../fixtures/index.ts';
import { type Builders, openBuilders } from './builders.ts';
import { Store } from './store.ts';

/** What workloads share during one run: a folder, a store, and what is dear to make. */
export interface Bench {
  /** Removed at the end. */
  readonly folder: string;
  readonly store: Store;
  /** Sizes that show that everything works, and no figures. */
  readonly quick: boolean;
  readonly seed: number;
  /** Instead of the rounds that a workload asks for. */
  readonly rounds: number | undefined;
  /** The largest sizes of what grows. */
  readonly mostFiles: number;
  readonly mostMebibytes: number;
  /** Says what is going on. */
  readonly say: (text: string) => void;
  /** A folder that `make` fills the first time that `name` is asked for. */
  readonly context: (name: string, make: (folder: string) => Promise<void>) => Promise<string>;
  /** A store beside the shared one, without any record. */
  readonly freshStore: () => Promise<Store>;
  /** varve and what it is measured beside, each with a store of its own; started when they are first asked for. */
  readonly builders: () => Promise<Builders>;
  /** A registry that is there until the end; started when it is first asked for. */
  readonly registry: () => Promise<RunningRegistry>;
  /** Takes what must be ended. */
  readonly ending: AsyncDisposableStack;
  /** Ends what is being measured. */
  readonly signal: AbortSignal;
}

export type BenchOptions = Omit<Bench, 'store' | 'context' | 'freshStore' | 'builders' | 'registry'>;

export async function openBench(options: BenchOptions): Promise<Bench> {
  const { folder, ending } = options;
  const contexts = new Map<string, Promise<string>>();
  const makeContext = async (name: string, make: (folder: string) => Promise<void>): Promise<string> => {
    const path = join(folder, 'contexts', name);
    await mkdir(path, { recursive: true });
    await make(path);
    return path;
  };
  const freshStore = async (): Promise<Store> => new Store(await mkdtemp(join(folder, 'store-')));
  const builders = lazily(async () =>
    openBuilders({ folder: join(folder, 'builders'), store: await freshStore(), ending }),
  );
  const registry = lazily(async () => ending.use(await startRegistry()));
  return {
    ...options,
    builders,
    registry,
    store: await freshStore(),
    freshStore,
    context: (name, make) => {
      const made = contexts.get(name) ?? makeContext(name, make);
      contexts.set(name, made);
      return made;
    },
  };
}

/** Calls `make` the first time, and gives what it gave. */
function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/**
 * Nothing else goes on while one is measured; in a quick run, whose figures say nothing, all go at once.
 *
 * @throws what the first one of `items` threw that failed, when none goes on any more.
 */
export async function oneByOne<T, R>(
  { quick }: Pick<Bench, 'quick'>,
  items: readonly T[],
  each: (item: T) => Promise<R>,
): Promise<readonly R[]> {
  const results: R[] = [];
  if (!quick) {
    for (const item of items) results.push(await each(item));
    return results;
  }
  for (const settled of await Promise.allSettled(items.map(each))) {
    if (settled.status === 'rejected') throw settled.reason;
    results.push(settled.value);
  }
  return results;
}
