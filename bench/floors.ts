import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BaseName, baseImage, exec } from '../fixtures/index.ts';
import type { Command } from './command.ts';

/** What no builder can do without: a part of the work by itself, timed in the same rounds. */
export interface Floor {
  readonly name: string;
  /** Not timed. */
  readonly ready?: () => Promise<void>;
  readonly command: Command;
}

/** Starting Node, and nothing else. */
export const BARE_NODE: Floor = { name: 'node -e 0', command: { argv: [process.execPath, '-e', '0'] } };

/** A process in namespaces of its own. */
export const BARE_NAMESPACES: Floor = {
  name: 'unshare -mpfin --mount-proc true',
  command: { argv: ['unshare', '-mpfin', '--mount-proc', 'true'] },
};

/** Asking for each file of a tree. */
export function find(tree: string): Floor {
  return { name: 'find -printf', command: { argv: ['find', tree, '-printf', '%p %s %m %T@ %C@ %i\\n'] } };
}

/** Copying a tree; `copy` is where to, and is removed before. */
export function copy(tree: string, to: string): Floor {
  return {
    name: 'cp -a',
    ready: async () => {
      await exec(['rm', '-rf', to]);
    },
    command: { argv: ['cp', '-a', tree, to] },
  };
}

/** Reading and hashing all bytes of a tree. */
export function sha256(tree: string): Floor {
  const script = 'find "$0" -type f -print0 | xargs -0 sha256sum';
  return { name: 'sha256sum', command: { argv: ['sh', '-c', script, tree] } };
}

/**
 * A command in a container of a base image, by crun alone, with the machine's network. Each time in a root that nothing has
 * been done in. A machine with cgroups of both versions is shown to crun with those of version 1 only: it refuses both.
 */
export async function crun(base: BaseName, script: string, folder: string): Promise<Floor> {
  const bundle = join(folder, 'bundle');
  const { layout } = await baseImage(base);
  await mkdir(folder, { recursive: true });
  const enter = `umount /sys/fs/cgroup/unified 2>/dev/null
    exec crun --cgroup-manager=disabled run --bundle "$0" "varve-bench-$$"`;
  return {
    name: 'crun run',
    ready: async () => {
      await exec(['rm', '-rf', bundle]);
      await exec(['umoci', 'unpack', '--image', `${layout}:latest`, bundle]);
      await editSpec(join(bundle, 'config.json'), script);
    },
    command: { argv: ['unshare', '--mount', 'sh', '-c', enter, bundle] },
  };
}

interface RuntimeSpec {
  readonly process: {
    readonly args: readonly string[];
    readonly capabilities: Readonly<Record<string, readonly string[]>>;
  };
  readonly linux: { readonly namespaces: readonly { readonly type: string }[] };
  readonly mounts: readonly { readonly destination: string; readonly type: string }[];
}

/** What builders give their steps: no terminal, a root that can be written, Docker's capabilities. */
async function editSpec(path: string, script: string): Promise<void> {
  const spec: RuntimeSpec = JSON.parse(await readFile(path, 'utf8'));
  const capabilities = [
    'CHOWN',
    'DAC_OVERRIDE',
    'FOWNER',
    'FSETID',
    'SETGID',
    'SETUID',
    'KILL',
    'SYS_CHROOT',
  ];
  const names = capabilities.map((name) => `CAP_${name}`);
  const edited = {
    ...spec,
    process: {
      ...spec.process,
      terminal: false,
      args: ['/bin/sh', '-c', script],
      capabilities: { bounding: names, effective: names, permitted: names },
    },
    root: { path: 'rootfs', readonly: false },
    linux: { namespaces: ['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })) },
    mounts: spec.mounts.filter(({ type }) => type !== 'cgroup'),
  };
  await writeFile(path, JSON.stringify(edited));
}
