import { createReadStream, statSync } from 'node:fs';
import { copyFile, mkdtemp, open, rm, utimes } from 'node:fs/promises';
import type { FileIndex } from '../cache/index.ts';
import {
  type BuildRequest,
  type BuildSession,
  type Entry,
  type FileLooks,
  type GitSource,
  type HostPath,
  joinHost,
  MachineError,
  parseGitUrl,
  type SourceRange,
  type Tree,
  unreachable,
  withoutCredentials,
} from '../core/index.ts';
import { decompressArchive, isArchiveHead, unpackLayer } from '../image/index.ts';
import { ContextTree } from './context.ts';
import type { BuilderParts } from './contract.ts';
import {
  type ContextFolder,
  type LoadedDockerfile,
  loadDockerfile,
  loadIgnoreRules,
  openContextFolder,
} from './dockerfile.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import { HostLooks } from './host-looks.ts';
import { type IgnoreRules, NO_IGNORE_RULES } from './ignore.ts';
import {
  authorizationFor,
  type FetchedFile,
  type FetchFileOptions,
  type FetchOptions,
  folderTree,
  type GitCheckout,
  type GitCommit,
} from './sources/index.ts';
import { BuildStop, stop } from './stop.ts';

export interface ContextsOptions {
  readonly parts: Pick<BuilderParts, 'sources' | 'temporary' | 'treeOps' | 'openFileIndex' | 'lookInto'>;
  readonly request: Pick<BuildRequest, 'context' | 'dockerfile' | 'namedContexts' | 'buildArgs'>;
  readonly signal: AbortSignal;
  /** Credentials for sources: see {@link authorizationFor}. */
  readonly session: BuildSession;
  /** Shows work that takes its time while it goes on. */
  readonly phase: (
    name: string,
  ) => Disposable & { readonly onBytes: (bytes: number, total?: number) => void };
}

/** The files of a context and how to call them in messages. */
export interface OpenContext {
  readonly tree: Tree;
  readonly where: string;
}

/** What an HTTP context's file is called in it: BuildKit's name. */
const HTTP_FILE = 'context';
const HEAD_BYTES = 512;

/** The main context and the named ones of a build: each is opened once, when it is first asked for. */
export class Contexts implements AsyncDisposable {
  readonly #options: ContextsOptions;
  readonly #named = new Map<string, Promise<OpenContext>>();
  readonly #commits = new Map<string, Promise<GitCommit>>();
  readonly #checkouts = new Map<string, Promise<GitCheckout>>();
  readonly #files = new Map<string, Promise<FetchedFile>>();
  readonly #indexes: FileIndex[] = [];
  readonly #looks: FileLooks[] = [];
  /** Files and folders of this build alone. */
  readonly #made: HostPath[] = [];
  #main: OpenContext = { tree: EMPTY_TREE, where: 'the build context' };
  /** The main context's rules; absent where it has none, or where none count: they are for folders of the user's own. */
  ignore: IgnoreRules | undefined;
  /** Names the main context in the log of builds and in slots. */
  name = '';
  /** What was looked at on the machine. */
  readonly looks = new HostLooks();

  constructor(options: ContextsOptions) {
    this.#options = options;
  }

  get main(): OpenContext {
    return this.#main;
  }

  /** Opens the main context and reads the Dockerfile. Ends the build where one of them cannot be had. */
  async load(): Promise<LoadedDockerfile> {
    const { request } = this.#options;
    const { context } = request;
    const folder = await this.#folderOf(context);
    if (folder?.look === undefined) this.looks.miss();
    this.name = nameOf(context, folder?.path);
    const isPlain = folder?.dockerfile !== undefined && request.dockerfile.kind === 'file';
    const source = isPlain ? { kind: 'file' as const, path: folder.dockerfile } : request.dockerfile;
    const loaded = await loadDockerfile(source, folder, (url) => this.fetchFile(url, {}));
    if (folder === undefined) return loaded;
    if (folder.isLocal) this.ignore = await loadIgnoreRules(request.dockerfile, folder.path, folder.look);
    const tree = folder.isLocal
      ? await this.#localTree(folder, this.ignore)
      : folderTree(folder.path, folder.present);
    this.#main = { tree, where: 'the build context' };
    return loaded;
  }

  /** The files of the named context `name`; ends the build where it cannot be had. */
  named(name: string): Promise<OpenContext> {
    return once(this.#named, name, () => this.#openNamed(name));
  }

  /** Writes what was learned about files. */
  async save(): Promise<void> {
    for (const index of this.#indexes) await index.save();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const looks of this.#looks) looks.end();
    for (const path of this.#made) await rm(path, { recursive: true, force: true });
  }

  async #openNamed(name: string): Promise<OpenContext> {
    const context = this.#options.request.namedContexts?.[name];
    if (context === undefined || context.kind === 'image' || context.kind === 'oci-layout')
      throw new Error(`context ${name} has no files of its own`);
    const where = `context ${name}`;
    if (context.kind === 'directory') {
      const path = openContextFolder(context.path);
      const ignore = await loadIgnoreRules({ kind: 'inline', text: '' }, path, this.#look);
      return { tree: await this.#localTree({ path, named: context.path }, ignore), where };
    }
    this.looks.miss();
    const folder =
      context.kind === 'git'
        ? await this.#gitFolder(context.url)
        : await this.#httpFolder(await this.fetchFile(context.url, {}));
    return { tree: folderTree(folder.path, folder.present), where };
  }

  readonly #look = (path: string): void => this.looks.file(path);

  async #localTree(
    { path: folder, named = folder }: Pick<ReadyFolder, 'path' | 'named'>,
    ignore: IgnoreRules | undefined,
  ): Promise<Tree> {
    const { openFileIndex, lookInto } = this.#options.parts;
    const looks = lookInto?.(folder);
    if (looks !== undefined) this.#looks.push(looks);
    const index = await openFileIndex(folder, looks);
    this.#indexes.push(index);
    const tree = new ContextTree({
      folder,
      ignore: ignore ?? NO_IGNORE_RULES,
      digestFiles: (files) => index.digests(files),
      looks,
    });
    this.looks.tree({ path: named, real: folder }, () => tree.looked());
    return tree;
  }

  /** Makes the main context's folder ready; undefined for an empty context. */
  async #folderOf(context: BuildRequest['context']): Promise<ReadyFolder | undefined> {
    switch (context.kind) {
      case 'empty':
        return undefined;
      case 'directory': {
        const path = openContextFolder(context.path);
        if (!statSync(path).isDirectory()) {
          stop('context-not-folder', `unable to prepare context: ${context.path} is no folder`, {
            hint: 'Give the folder that holds the files to build from; name the Dockerfile with -f.',
          });
        }
        return { path, isLocal: true, named: context.path, look: this.#look };
      }
      case 'archive':
        return { path: await this.#unpacked(context.path), isLocal: false };
      case 'git':
        return this.#gitFolder(context.url, keepsGitDir(this.#options.request.buildArgs));
      case 'http':
        return this.#httpMain(context.url);
      default:
        return unreachable(context);
    }
  }

  async #unpacked(archive: HostPath): Promise<HostPath> {
    const { parts, signal } = this.#options;
    const folder = await this.#newFolder();
    const tar = decompressArchive(createReadStream(archive));
    const root = { type: 'directory', path: folder, readonly: false } as const;
    try {
      await parts.treeOps.apply(root, unpackLayer(tar, { whiteouts: false }), signal);
    } catch (error) {
      if (!(error instanceof MachineError) || error.code !== 'layer-refused') throw error;
      stop('context-refused', `unable to prepare context: ${error.message}`, {
        hint: 'The archive is damaged, or made to do harm: make it anew.',
      });
    }
    return folder;
  }

  async #gitFolder(url: string, keepGitDir = false): Promise<ReadyFolder> {
    const parsed = parseGitUrl(url);
    if (!parsed.ok || parsed.value === undefined)
      throw new Error(`no repository: ${withoutCredentials(url)}`);
    const source = keepGitDir ? { ...parsed.value, keepGitDir } : parsed.value;
    const commit = await this.findCommit(source, { agent: 'own' });
    const { folder, commitTime } = await this.checkOut(source, commit, { agent: 'own' });
    return {
      path: folder,
      isLocal: false,
      ...(commitTime === undefined ? {} : { present: atTime(commitTime) }),
    };
  }

  /** A tar is unpacked; anything else is the Dockerfile, and all that the context has. */
  async #httpMain(url: string): Promise<ReadyFolder> {
    const file = await this.fetchFile(url, {});
    if (await isArchiveFile(file.path)) return { path: await this.#unpacked(file.path), isLocal: false };
    return { ...(await this.#httpFolder(file)), dockerfile: HTTP_FILE };
  }

  async #httpFolder(file: FetchedFile): Promise<ReadyFolder> {
    const folder = await this.#newFolder();
    const path = joinHost(folder, HTTP_FILE);
    await copyFile(file.path, path);
    await utimes(path, file.mtime, file.mtime);
    return { path: folder, isLocal: false, present: privateFile };
  }

  async #newFolder(): Promise<HostPath> {
    const folder = (await mkdtemp(joinHost(this.#options.parts.temporary, 'context-'))) as HostPath;
    this.#made.push(folder);
    return folder;
  }

  /**
   * See `Sources.findCommit`; ends the build where that fails, at `range`. What an address means is asked once in a build: all of
   * its steps see the same.
   */
  findCommit(source: GitSource, asked: Asked): Promise<GitCommit> {
    const { parts } = this.#options;
    const { remote, ref, checksum } = source;
    const key = JSON.stringify([asked.agent, remote, ref, checksum]);
    return once(this.#commits, key, () =>
      this.#fetching(`resolve ${shownSource(source)}`, { ...asked, kind: 'git', url: remote }, (options) =>
        parts.sources.findCommit(source, options),
      ),
    );
  }

  /** See `Sources.checkOut`. */
  checkOut(source: GitSource, commit: GitCommit, asked: Asked): Promise<GitCheckout> {
    const { parts } = this.#options;
    const { remote, subdir, keepGitDir, submodules, mtime } = source;
    const key = JSON.stringify([asked.agent, remote, commit, subdir, keepGitDir, submodules, mtime]);
    const name = `fetch ${shownSource(source)} (${commit.id.slice(0, 12)})`;
    return once(this.#checkouts, key, async () => {
      const checkout = await this.#fetching(name, { ...asked, kind: 'git', url: remote }, (options) =>
        parts.sources.checkOut(source, commit, options),
      );
      this.#made.push(checkout.root);
      return checkout;
    });
  }

  /** See `Sources.fetchFile`. */
  fetchFile(url: string, asked: Asked & Pick<FetchFileOptions, 'checksum'>): Promise<FetchedFile> {
    const { parts } = this.#options;
    const { checksum } = asked;
    const wanted = checksum === undefined ? {} : { checksum };
    return once(this.#files, JSON.stringify([url, checksum]), async () => {
      const file = await this.#fetching(
        `fetch ${withoutCredentials(url)}`,
        { ...asked, kind: 'http', url },
        (options, onProgress) => parts.sources.fetchFile(url, { ...options, onProgress, ...wanted }),
      );
      this.#made.push(file.path);
      return file;
    });
  }

  async #fetching<T>(
    name: string,
    asked: Asked & { readonly kind: 'git' | 'http'; readonly url: string },
    work: (options: FetchOptions, onProgress: (bytes: number, total?: number) => void) => Promise<T>,
  ): Promise<T> {
    const { signal, session } = this.#options;
    this.looks.miss();
    using phase = this.#options.phase(name);
    try {
      const agent = overSsh(asked.url) ? ((await session.agent('default')) ?? asked.agent) : undefined;
      const authorization = await authorizationFor(asked.kind, asked.url, session);
      const options = {
        signal,
        ...(agent === undefined ? {} : { agent }),
        ...(authorization === undefined ? {} : { authorization }),
      };
      return await work(options, phase.onBytes);
    } catch (error) {
      if (!(error instanceof MachineError)) throw error;
      const { code, message, hint } = error;
      throw new BuildStop({
        kind: 'build-failure',
        code,
        message,
        ...(hint === undefined ? {} : { hint }),
        ...(asked.range === undefined ? {} : { range: asked.range }),
      });
    }
  }
}

/** Who asks for a source. */
export interface Asked {
  /** The instruction that names it; absent: the command line does. */
  readonly range?: SourceRange;
  /** The SSH agent that may be asked where `--ssh` names none; absent: none. */
  readonly agent?: 'own';
}

/** A context's folder. */
interface ReadyFolder extends ContextFolder {
  /** What led to `path`; absent: itself. */
  readonly named?: HostPath;
  readonly present?: (entry: Entry) => Entry;
  /** The context is this one file, a Dockerfile. */
  readonly dockerfile?: string;
}

/** Files of a repository have the time of their commit: they are then the same wherever they are checked out. */
export function atTime(seconds: number): (entry: Entry) => Entry {
  const mtime = { sec: seconds, nsec: 0 };
  return (entry) => ({ ...entry, mtime });
}

/** What `work` comes to, which is done for the first who asks for `key`. */
function once<T>(known: Map<string, Promise<T>>, key: string, work: () => Promise<T>): Promise<T> {
  const begun = known.get(key) ?? work();
  known.set(key, begun);
  return begun;
}

/** A repository with what is wanted of it, for people. */
function shownSource({ remote, ref, subdir }: GitSource): string {
  const folder = subdir === undefined ? '' : `:${subdir}`;
  return `${withoutCredentials(remote)}${ref === undefined && subdir === undefined ? '' : `#${ref ?? ''}${folder}`}`;
}

/** Only what goes over SSH has a use for an agent: one may have to be started. */
function overSsh(address: string): boolean {
  return !/^(?:https?|git):/i.test(address);
}

/** `BUILDKIT_CONTEXT_KEEP_GIT_DIR`, with the words that Go takes for true. */
function keepsGitDir(buildArgs: BuildRequest['buildArgs']): boolean {
  return /^(?:1|t|T|TRUE|true|True)$/.test(buildArgs['BUILDKIT_CONTEXT_KEEP_GIT_DIR'] ?? '');
}

/** A file from a web server is its owner's alone. */
function privateFile(entry: Entry): Entry {
  return entry.type === 'file' ? { ...entry, mode: 0o600 } : entry;
}

function nameOf(context: BuildRequest['context'], folder: HostPath | undefined): string {
  if (context.kind === 'git' || context.kind === 'http') return withoutCredentials(context.url);
  if (context.kind === 'archive') return '-';
  return folder ?? '';
}

async function isArchiveFile(path: HostPath): Promise<boolean> {
  await using file = await open(path, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
  return isArchiveHead(buffer.subarray(0, bytesRead));
}
