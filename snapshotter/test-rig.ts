import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CommittedSnapshot,
  comparePaths,
  type DiffId,
  type Digest,
  digestOf,
  type Entry,
  type FrozenSnapshot,
  fsPath,
  type HostPath,
  type ImagePath,
  ROOT_PATH,
  type RootMount,
  type Snapshot,
  type Snapshotter,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import { createTreeOps } from '../runner/tree-ops.ts';
import { createSnapshotter, type SnapshotterOptions } from './index.ts';

const native = process.env['VARVE_NATIVE'];
export const treeOps = createTreeOps(native === undefined ? {} : { nativeProgram: native });
export const isRoot = process.getuid?.() === 0;

/** Files made before this have a time that a test gave them. */
const RECENT = 1_500_000_000;

export function digestFile(path: HostPath): Promise<Digest> {
  return readFile(fsPath(path)).then((bytes) => digestOf(bytes));
}

/** A temporary folder with a store, a plain folder as oracle, and a place to mount on. */
export class Rig {
  readonly temp = mkdtempSync(join(tmpdir(), 'varve-snap-'));
  readonly root = join(this.temp, 's') as HostPath;
  readonly oracle = join(this.temp, 'oracle') as HostPath;
  readonly #place = join(this.temp, 'mnt');
  readonly driver: 'overlay' | 'copy';
  readonly userXattrs: boolean;
  #time = 1000;

  constructor(driver: 'overlay' | 'copy', userXattrs = false) {
    this.driver = driver;
    this.userXattrs = userXattrs;
    mkdirSync(this.root);
    mkdirSync(this.oracle);
    mkdirSync(this.#place);
  }

  open(
    session = 'one',
    options: Partial<Pick<SnapshotterOptions, 'makesLayer' | 'driver'>> = {},
  ): Snapshotter {
    const clock = { now: () => this.#time++ };
    const { root, driver, userXattrs } = this;
    const common = { root, session, driver, userXattrs, digestFile, clock };
    return createSnapshotter({ ...common, tree: treeOps, ...options });
  }

  async dispose(): Promise<void> {
    await treeOps.removeAll([this.temp as HostPath]);
  }

  /** Runs a shell script in a tree, as a build step would; mounted in a mount namespace of its own. Returns its output. */
  run(root: RootMount, script: string): string {
    if (root.type === 'directory') {
      return execFileSync('bash', ['-euc', script], { cwd: root.path, stdio: 'pipe' }).toString('latin1');
    }
    const { upper, work } = root.writable ?? { upper: '', work: '' };
    const writable = root.writable === undefined ? '' : `,upperdir=${upper},workdir=${work}`;
    const lowers = [...(root.traced ?? []).map((home) => join(home, 'fs')), ...root.lowers];
    const options = `lowerdir=${lowers.join(':')}${writable},index=off,metacopy=off,redirect_dir=${this.userXattrs ? 'nofollow,userxattr' : 'off'}`;
    const mount = `rm -rf '${work}'/work/incompat; mount -t overlay -o '${options}' overlay '${this.#place}'`;
    const all = `${work === '' ? mount.slice(mount.indexOf('mount')) : mount}; cd '${this.#place}'; ${script}`;
    const program = ['-m', 'bash', '-euc', all];
    return execFileSync('unshare', program, { cwd: this.temp, stdio: 'pipe' }).toString('latin1');
  }

  runOracle(script: string): string {
    return this.run({ type: 'directory', path: this.oracle, readonly: false }, script);
  }

  async applyOracle(ops: readonly TreeOp[]): Promise<void> {
    await treeOps.apply({ type: 'directory', path: this.oracle, readonly: false }, ops);
  }

  async oracleListing(): Promise<readonly string[]> {
    const entries = await treeOps.scanTree(this.oracle);
    return describeAll(entries, (entry) => join(this.oracle, entry.path) as HostPath);
  }
}

/** Every entry of a tree in path order, hard links told by their first name. */
export async function walk(tree: Tree, folder: ImagePath = ROOT_PATH): Promise<Entry[]> {
  const entries: Entry[] = [];
  const root = folder === ROOT_PATH ? await tree.lstat(ROOT_PATH) : undefined;
  if (root !== undefined) entries.push(root);
  for (const entry of await tree.list(folder)) {
    entries.push(entry);
    if (entry.type === 'dir') entries.push(...(await walk(tree, entry.path)));
  }
  return folder === ROOT_PATH ? entries.sort((a, b) => comparePaths(a.path, b.path)) : entries;
}

export async function treeListing(tree: Tree): Promise<readonly string[]> {
  const entries = await walk(tree);
  const places = new Map<ImagePath, HostPath>();
  for (const entry of entries) {
    if (entry.type === 'file') places.set(entry.path, await tree.hostPath(entry.path));
  }
  return describeAll(entries, (entry) => places.get(entry.path) ?? ('' as HostPath));
}

/** One line per entry: all that lstat, listxattr and read tell, but for times that a test has not set. */
function describeAll(entries: readonly Entry[], place: (entry: Entry) => HostPath): readonly string[] {
  return entries.map((entry) => {
    const { path, type, mode, uid, gid, size, mtime } = entry;
    const time = path === '' ? '' : mtime.sec > RECENT ? 'recent' : `${mtime.sec}.${mtime.nsec}`;
    const bytes = type === 'file' ? readFileSync(fsPath(place(entry))) : undefined;
    const content = bytes === undefined ? '' : createHash('sha256').update(bytes).digest('hex').slice(0, 8);
    const rest = {
      ...(entry.linkTarget === undefined ? {} : { to: entry.linkTarget }),
      ...(entry.hardlinkTo === undefined ? {} : { link: entry.hardlinkTo }),
      ...(entry.device === undefined ? {} : { device: entry.device }),
      ...(entry.xattrs === undefined
        ? {}
        : {
            xattrs: Object.entries(entry.xattrs).map(
              ([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`,
            ),
          }),
    };
    return `${JSON.stringify(path)} ${type} ${mode.toString(8)} ${uid}:${gid} ${size} ${time} ${content} ${JSON.stringify(rest)}`;
  });
}

/** A digest to commit under, as good as one of a layer. */
export function diffIdOf(name: string): DiffId {
  return digestOf(name) as DiffId;
}

/** Prepares, changes, freezes and commits one snapshot. */
export async function layer(
  snapshotter: Snapshotter,
  parent: Snapshot | undefined,
  change: { readonly name: string; readonly write: (root: RootMount) => Promise<void> | void },
): Promise<{ readonly frozen: FrozenSnapshot; readonly committed: CommittedSnapshot }> {
  await using active = await snapshotter.prepare(parent);
  await change.write(active.root);
  const frozen = await active.freeze();
  return { frozen, committed: await frozen.commit(diffIdOf(change.name)) };
}
