import {
  changePath,
  type DiffFiles,
  type Digest,
  type Entry,
  type HostPath,
  type ImagePath,
  joinHost,
  MachineError,
  placeIn,
  ROOT_PATH,
} from '../core/index.ts';
import type { DiffIndex } from './diff-index.ts';
import type { DiffStore } from './diff-store.ts';
import { DigestNotes } from './digest-notes.ts';
import type { FolderFacts } from './folder-facts.ts';
import type { Manifest } from './manifest.ts';
import type { TreeLayer } from './merged-view.ts';

/** The root folder of a diff that changes it. */
function rootOf({ root, changes: [first] }: Omit<Manifest, 'createdAtMs'>): Entry | undefined {
  return first !== undefined && changePath(first) === ROOT_PATH ? root : undefined;
}

/** The original that the name of a patch's data folder tells; undefined for a diff that stands by itself. */
export function originalIn(uid: string): string | undefined {
  const dot = uid.indexOf('.');
  return dot === -1 ? undefined : uid.slice(dot + 1);
}

const NOTHING: ReadonlySet<ImagePath> = new Set();

interface DiffParts {
  readonly original: Diff | undefined;
  readonly made?: Omit<Manifest, 'createdAtMs'>;
}

/** One diff on disk: `diffs/data/<uid>`, where it stays until it is removed, committed or not. */
export class Diff implements TreeLayer {
  readonly uid: string;
  readonly home: HostPath;
  readonly folder: HostPath;
  /** Of a patch: the diff that holds what is not its own. */
  readonly original: Diff | undefined;
  readonly #store: DiffStore;
  readonly #notes: DigestNotes;
  #root: Promise<Entry | undefined> | undefined;
  /** Of a patch, once its index was read. */
  #own: ReadonlySet<ImagePath> | undefined;

  /** @param made what has just become this diff; absent: it is read where it is asked for. */
  constructor(store: DiffStore, uid: string, { original, made }: DiffParts) {
    this.uid = uid;
    this.original = original;
    if (made !== undefined) this.#root = Promise.resolve(rootOf(made));
    this.home = joinHost(store.dataFolder, uid);
    this.folder = joinHost(this.home, 'fs');
    this.#store = store;
    this.#notes = new DigestNotes(joinHost(this.home, 'digests'));
  }

  /** The folders to mount, topmost first. */
  get lowers(): readonly HostPath[] {
    return this.original === undefined ? [this.folder] : [this.folder, this.original.folder];
  }

  async index(): Promise<DiffIndex> {
    const index = await this.#store.index(this);
    this.#own = index.own ?? NOTHING;
    return index;
  }

  async files(): Promise<DiffFiles> {
    const { changes } = await this.index();
    const { folder, original } = this;
    if (original === undefined) return { changes, folder };
    return { changes, folder, original: { folder: original.folder, own: this.#own ?? NOTHING } };
  }

  async place(path: ImagePath): Promise<HostPath> {
    return placeIn(await this.files(), path);
  }

  root(): Promise<Entry | undefined> {
    this.#root ??= this.#store
      .header(this.uid)
      .then((header) => header ?? this.#torn())
      .then(({ root, changesRoot }) => (changesRoot ? root : undefined));
    return this.#root;
  }

  async digest(path: ImagePath): Promise<Digest> {
    const verdict = (await this.index()).verdict(path);
    const entry = verdict?.kind === 'entry' ? verdict.entry : undefined;
    if (entry?.type !== 'file') throw new Error(`no regular file in the diff: ${path}`);
    const name = entry.hardlinkTo ?? path;
    const holder = this.#holderOf(path);
    return holder.#notes.get(name, () => this.#store.options.digestFile(joinHost(holder.folder, name)));
  }

  knownDigest(file: Entry): Digest | undefined {
    return this.#holderOf(file.path).#notes.known(file.hardlinkTo ?? file.path);
  }

  /** The diff in whose folder the file at `path` of this diff lies. The index was read: who has a path has it from there. */
  #holderOf(path: ImagePath): Diff {
    return this.original === undefined || this.#own?.has(path) === true ? this : this.original;
  }

  /** Reads what is noted of digests, for {@link knownDigest}. */
  async loadDigests(): Promise<void> {
    await Promise.all([this.#notes.load(), this.original?.loadDigests()]);
  }

  folders(): FolderFacts | undefined {
    return this.#store.folders.get(this.uid);
  }

  async load(): Promise<Manifest> {
    return (await this.#store.manifest(this.uid)) ?? this.#torn();
  }

  #torn(): never {
    throw new MachineError(
      'snapshot-corrupt',
      `the manifest of the diff in ${this.home} is missing or torn`,
      {
        hint: 'another process may have removed the diff: try again; else start afresh with `varve cache prune --all`',
      },
    );
  }
}
