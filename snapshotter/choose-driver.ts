import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { errnoOf, type HostPath, imagePath, joinHost, MachineError, type TreeOps } from '../core/index.ts';

export interface ChooseDriverOptions {
  /** The store's folder: whether an overlay works depends on its file system. */
  readonly root: HostPath;
  readonly tree: TreeOps;
  readonly userXattrs: boolean;
}

/**
 * `overlay` where this process can mount one on the store's file system and a whiteout works there, else `copy`. The
 * answer is remembered in the store until the machine starts anew.
 *
 * @throws MachineError where the probe fails for another reason than the mount (`native-missing`, `disk-full`).
 */
export async function chooseDriver(options: ChooseDriverOptions): Promise<'overlay' | 'copy'> {
  const memo = joinHost(options.root, 'driver');
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const question = `${boot} ${process.getuid?.() ?? 0} ${options.userXattrs ? 'user' : 'trusted'}`;
  const known = textOf(memo);
  if (known === `${question} overlay`) return 'overlay';
  if (known === `${question} copy`) return 'copy';
  const driver = (await probe(options)) ? 'overlay' : 'copy';
  await writeFile(memo, `${question} ${driver}`);
  return driver;
}

/** Empty where there is no such file. */
function textOf(file: HostPath): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}

async function probe(options: ChooseDriverOptions): Promise<boolean> {
  const trash = joinHost(options.root, 'trash');
  await mkdir(trash, { recursive: true, mode: 0o700 });
  const home = (await mkdtemp(joinHost(trash, 'probe-'))) as HostPath;
  const [lower, upper, work] = [joinHost(home, 'l'), joinHost(home, 'u'), joinHost(home, 'w')];
  try {
    for (const folder of [lower, upper, work]) await mkdir(folder);
    await writeFile(joinHost(lower, 'f'), '');
    const { userXattrs } = options;
    const root = { type: 'overlay', lowers: [lower], writable: { upper, work }, userXattrs } as const;
    await options.tree.apply(root, [{ op: 'remove', path: imagePath('f') }]);
    const changes = await options.tree.scanDiff(upper, { userXattrs });
    return changes.some((change) => change.kind === 'whiteout');
  } catch (error) {
    const refused =
      error instanceof MachineError && (error.code === 'mount-failed' || error.code === 'tree-io');
    if (!refused) throw error;
    return false;
  } finally {
    await options.tree.removeAll([home]);
  }
}
