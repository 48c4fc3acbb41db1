import {
  type ImagePath,
  imagePath,
  type ResolvedPath,
  resolvePath,
  type SourceRange,
  type Tree,
} from '../../core/index.ts';
import type { BindMount, RunMount, RunStep } from '../graph.ts';
import { stop } from '../stop.ts';
import type { MountSource } from './mount-source.ts';

interface Mounts {
  /** Where the step stands. */
  readonly range: SourceRange;
  readonly all: readonly RunMount[];
  readonly sources: ReadonlyMap<RunMount, MountSource>;
}

/** Folders in which the sandbox has file systems of the kernel. */
const KERNEL = ['proc', 'sys', 'dev'];

/**
 * Ends the build where a mount of a step has no place: where what lies there is a file and the mount a folder, or the other way round, or
 * where nothing lies there and nothing can be made, since a read-only mount is around it. The same goes for the work folder.
 *
 * @param root what the step stands on
 */
export async function checkPlaces(
  { mounts, workdir, info }: RunStep,
  sources: Mounts['sources'],
  root: Tree,
): Promise<void> {
  const known: Mounts = { all: mounts, sources, range: info.range };
  for (const mount of mounts) {
    const { target } = mount;
    if (target === undefined || mounts.some((other) => other !== mount && other.target === target)) continue;
    const around = innermost(target, known);
    if (around === undefined && KERNEL.some((folder) => target.startsWith(`${folder}/`))) continue;
    const place = await placeOf(target, around, { root, known });
    if (place === undefined) continue;
    if (place.entry === undefined) refuseLost(`the mount at /${target}`, target, around);
    else refuseOther(mount, place, known);
  }
  const around = innermost(workdir, known);
  if (around === undefined) return;
  const place = await placeOf(workdir, around, { root, known });
  if (place !== undefined && place.entry === undefined)
    refuseLost(`the work folder /${workdir}`, workdir, around);
}

/** The mount that `path` lies in. */
function innermost(path: ImagePath, { all }: Mounts): RunMount | undefined {
  const around = all.filter(({ target }) => target !== undefined && path.startsWith(`${target}/`));
  return around.toSorted((a, b) => (b.target ?? '').length - (a.target ?? '').length)[0];
}

/** What lies at `path`; undefined where that cannot be told. */
async function placeOf(
  path: ImagePath,
  around: RunMount | undefined,
  { root, known }: { readonly root: Tree; readonly known: Mounts },
): Promise<ResolvedPath | undefined> {
  if (around === undefined) return resolvePath(root, path, { followLast: true });
  const source = around.type === 'bind' ? known.sources.get(around) : undefined;
  if (source === undefined) return undefined;
  return resolvePath(source.tree, imagePath(below(path, around), source.path), { followLast: true });
}

function below(path: ImagePath, { target }: RunMount): string {
  return path.slice((target ?? '').length + 1);
}

function refuseLost(what: string, path: ImagePath, around: RunMount | undefined): void {
  if (around?.type !== 'bind' || !around.readonly) return;
  const { target, range } = around;
  stop(
    'mount-place-missing',
    `no place for ${what}: /${target} is mounted read-only and has no ${JSON.stringify(below(path, around))}`,
    { range, hint: `Add rw to the mount at /${target}, or choose another place.` },
  );
}

function refuseOther(mount: RunMount, { entry }: ResolvedPath, known: Mounts): void {
  const isFolder = entry?.type === 'dir';
  if (entry === undefined || isFolder === mountsFolder(mount, known)) return;
  const [what, there] = isFolder ? ['a file', 'a folder'] : ['a folder', 'a file'];
  stop('mount-place-unfit', `${what} cannot be mounted at /${mount.target}: ${there} lies there`, {
    range: mount.type === 'tmpfs' ? known.range : mount.range,
    hint: isFolder ? `Say target=/${mount.target}/NAME.` : 'Say another target.',
  });
}

function mountsFolder(mount: RunMount, { sources }: Mounts): boolean {
  switch (mount.type) {
    case 'tmpfs':
    case 'cache':
      return true;
    case 'bind':
      return isFolderBind(mount, sources);
    case 'secret':
    case 'ssh':
      return false;
  }
}

function isFolderBind(mount: BindMount, sources: Mounts['sources']): boolean {
  return sources.get(mount)?.entry.type === 'dir';
}
