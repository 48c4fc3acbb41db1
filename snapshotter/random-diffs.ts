import fc from 'fast-check';
import {
  type Change,
  comparePaths,
  type Digest,
  digestOf,
  type Entry,
  type HostPath,
  type ImagePath,
  joinHost,
  joinPath,
  parentPath,
  ROOT_PATH,
  type TreeOp,
} from '../core/index.ts';
import { DiffIndex } from './diff-index.ts';
import { decodeFolders, encodeFolders, type FolderFacts } from './folder-facts.ts';
import type { TreeLayer } from './merged-view.ts';
import { NAMES } from './random-ops.ts';

/** Every path of up to three of the names, in path order. */
export const PATHS: readonly ImagePath[] = (() => {
  let level: readonly ImagePath[] = [ROOT_PATH];
  const all: ImagePath[] = [];
  for (let depth = 0; depth < 3; depth++) {
    level = level.flatMap((path) => NAMES.slice(0, 3).map((name) => joinPath(path, name)));
    all.push(...level);
  }
  return all.sort(comparePaths);
})();

/** What a diff holds at each of {@link PATHS}; folders are likely, so that diffs meet in them. */
const word = fc.constantFrom('none', 'none', 'dir', 'dir', 'opaque', 'whiteout', 'file', 'link', 'symlink');

/** A diff of whatever form: whiteouts and opaque folders stand where nothing lies below as well. */
export const randomDiff: fc.Arbitrary<DrawnDiff> = fc
  .tuple(
    fc.array(word, { minLength: PATHS.length, maxLength: PATHS.length }),
    fc.constantFrom(0o755, 0o700),
    fc.integer({ min: 1, max: 1_000_000 }),
  )
  .map(([words, mode, sec]) => new DrawnDiff(words, mode, sec));

/** A diff that is on no disk; `ops` write it down. */
export class DrawnDiff implements TreeLayer {
  readonly changes: readonly Change[];
  folder = '/nowhere' as HostPath;
  readonly #index: DiffIndex;

  constructor(words: readonly string[], mode: number, sec: number) {
    const changes: Change[] = [];
    const folders = new Set<ImagePath>([ROOT_PATH]);
    let file: ImagePath | undefined;
    for (const [i, path] of PATHS.entries()) {
      const kind = words[i] ?? 'none';
      if (kind === 'none' || !folders.has(parentPath(path))) continue;
      if (kind === 'whiteout') {
        changes.push({ kind, path });
        continue;
      }
      const base = { path, mode, uid: 0, gid: 0, size: 0, mtime: { sec, nsec: i } };
      if (kind === 'dir' || kind === 'opaque') {
        folders.add(path);
        changes.push({ kind: 'set', entry: { ...base, type: 'dir' } });
        if (kind === 'opaque') changes.push({ kind, path });
      } else if (kind === 'symlink') {
        changes.push({ kind: 'set', entry: { ...base, type: 'symlink', mode: 0o777, linkTarget: `${sec}` } });
      } else {
        const first = kind === 'link' ? file : undefined;
        const leader = changes.find((change) => change.kind === 'set' && change.entry.path === first);
        const entry: Entry =
          leader?.kind === 'set'
            ? { ...leader.entry, path, hardlinkTo: leader.entry.path }
            : { ...base, type: 'file', size: contentOf(base).length };
        if (first === undefined) file = path;
        changes.push({ kind: 'set', entry });
      }
    }
    this.changes = changes;
    this.#index = new DiffIndex(changes);
  }

  knownDigest(): undefined {
    return undefined;
  }

  /** Written down and read again. */
  folders(): FolderFacts | undefined {
    const digests = new Map<ImagePath, Digest>();
    for (const change of this.changes) {
      if (change.kind !== 'set' || change.entry.type !== 'file') continue;
      digests.set(change.entry.path, digestOf(contentOf(change.entry)));
    }
    const file = encodeFolders(this.#index, digests);
    return file === undefined ? undefined : decodeFolders(file);
  }

  place(path: ImagePath): Promise<HostPath> {
    return Promise.resolve(joinHost(this.folder, path));
  }

  index(): Promise<DiffIndex> {
    return Promise.resolve(this.#index);
  }

  root(): Promise<Entry | undefined> {
    return Promise.resolve(undefined);
  }

  digest(path: ImagePath): Promise<Digest> {
    const verdict = this.#index.verdict(path);
    const entry = verdict?.kind === 'entry' ? verdict.entry : undefined;
    return Promise.resolve(digestOf(entry === undefined ? '' : contentOf(entry)));
  }

  /** Writes the diff down in OverlayFS form. */
  ops(): readonly TreeOp[] {
    const marked = new Set(this.changes.flatMap((change) => (change.kind === 'opaque' ? [change.path] : [])));
    return this.changes.flatMap((change) => {
      if (change.kind === 'opaque') return [];
      if (change.kind === 'whiteout') return [whiteoutOp(change.path)];
      return [entryOp(change.entry, marked.has(change.entry.path))];
    });
  }
}

/** The content of a drawn file follows from its time, which is its own. */
function contentOf({ mtime }: Pick<Entry, 'mtime'>): string {
  return `${mtime.sec} ${mtime.nsec}`;
}

export function whiteoutOp(path: ImagePath): TreeOp {
  const attributes = { mode: 0, uid: 0, gid: 0 };
  return { op: 'node', path, attributes, type: 'char', device: { major: 0, minor: 0 } };
}

/**
 * Folders say that they were copied up: in a folder that comes from one diff alone the kernel hides whiteouts only then
 * (`ovl_get_inode`, "non-merge dir that may have whiteouts").
 */
export function entryOp(entry: Entry, opaque: boolean): TreeOp {
  const { path, type, mode, uid, gid, mtime, linkTarget = '', hardlinkTo } = entry;
  const attributes = { mode, uid, gid, mtime };
  if (type === 'symlink') return { op: 'symlink', path, attributes, target: linkTarget };
  if (type === 'file') {
    if (hardlinkTo !== undefined) return { op: 'hardlink', path, target: hardlinkTo };
    return { op: 'file', path, attributes, content: { kind: 'bytes', bytes: Buffer.from(contentOf(entry)) } };
  }
  const xattrs = {
    'trusted.overlay.origin': Buffer.alloc(0),
    ...(opaque ? { 'trusted.overlay.opaque': Buffer.from('y') } : {}),
  };
  return { op: 'dir', path, attributes: { ...attributes, xattrs } };
}
