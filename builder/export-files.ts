import { mkdir } from 'node:fs/promises';
import {
  type CommittedSnapshot,
  type HostPath,
  type ImagePath,
  imagePath,
  joinHost,
  MachineError,
  type Output,
  type Platform,
  ROOT_PATH,
  type Tree,
  type TreeOp,
} from '../core/index.ts';
import { formatPlatform, treeTar } from '../image/index.ts';
import type { BuilderParts } from './contract.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import { entryOp } from './entry-op.ts';
import type { TimelessEvent } from './solve.ts';

export interface FilesExport {
  readonly parts: Pick<BuilderParts, 'treeOps' | 'owner'>;
  readonly images: readonly FilesOfPlatform[];
  /** SOURCE_DATE_EPOCH, seconds: the time of everything that is written. */
  readonly sourceDateEpoch: number | undefined;
  readonly emit: (event: TimelessEvent) => void;
  readonly signal: AbortSignal;
}

export interface FilesOfPlatform {
  readonly snapshot: CommittedSnapshot | undefined;
  readonly platform: Platform;
}

type FilesOutput = Extract<Output, { type: 'tar' | 'local' }>;

/** The files as a tar, in path order: those of several platforms below a folder for each. */
export async function* filesTar(
  output: Extract<Output, { type: 'tar' }>,
  { images, signal, sourceDateEpoch }: FilesExport,
): AsyncGenerator<Uint8Array> {
  const epoch = sourceDateEpoch === undefined ? {} : { sourceDateEpoch };
  const parts = images.map((image) => ({
    tree: treeOf(image),
    below: folderOf(output, image, images.length),
  }));
  yield* treeTar(parts, { signal, ...epoch });
}

/** The files in a folder, owned by whoever asked for them, as Docker's local exporter has it. */
export async function writeFolder(
  output: Extract<Output, { type: 'local' }>,
  input: FilesExport,
): Promise<void> {
  input.emit({ type: 'phase.started', phase: 'export', name: 'exporting to client directory' });
  for (const image of input.images) {
    const below = folderOf(output, image, input.images.length);
    const folder = below === ROOT_PATH ? output.dest : joinHost(output.dest, below);
    await makeFolder(folder);
    const root = { type: 'directory', path: folder, readonly: false } as const;
    await input.parts.treeOps.apply(root, folderOps(treeOf(image), input), input.signal);
  }
  input.emit({ type: 'phase.finished', phase: 'export' });
}

function treeOf({ snapshot }: FilesOfPlatform): Tree {
  return snapshot?.tree() ?? EMPTY_TREE;
}

/** `linux_arm64`, as buildx names it. */
function folderOf(output: FilesOutput, { platform }: FilesOfPlatform, count: number): ImagePath {
  const split = output.platformSplit ?? count > 1;
  return split ? imagePath(formatPlatform(platform).replaceAll('/', '_')) : ROOT_PATH;
}

async function makeFolder(folder: HostPath): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new MachineError('output-not-writable', `cannot make the folder ${folder}`, {
      hint: 'Name a folder that can be written to with --output type=local,dest=FOLDER.',
      cause,
    });
  }
}

async function* folderOps(tree: Tree, { parts, sourceDateEpoch }: FilesExport): AsyncGenerator<TreeOp> {
  const folders: ImagePath[] = [ROOT_PATH];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of await tree.list(folder)) {
      const { path, mode } = entry;
      const mtime = sourceDateEpoch === undefined ? entry.mtime : { sec: sourceDateEpoch, nsec: 0 };
      const content = async () => ({ kind: 'host', path: await tree.hostPath(path) }) as const;
      yield await entryOp(entry, { path, attributes: { mode, mtime, ...parts.owner } }, content);
      if (entry.type === 'dir') folders.push(entry.path);
    }
  }
}
