import type { Action } from '../../cache/index.ts';
import {
  type ImagePath,
  parentPath,
  resolvePath,
  type Snapshotter,
  type TreeOp,
  type TreeOps,
} from '../../core/index.ts';
import { inheritedGroup, newFolder } from '../copy-placement.ts';
import type { WorkdirStep } from '../graph.ts';
import { RecordingTree } from '../recording-tree.ts';
import { treeOf } from '../standing.ts';
import { stop } from '../stop.ts';
import { lookUpOwner } from '../users.ts';
import { observingWholeTree, type PreparedStep, seenOfWholeTree } from './prepared-step.ts';

/** 3: folders inherit a group where the folder around them passes it on. */
const ACTION_VERSION = 3;

/** Makes the work folder and what is missing above it, owned by the stage's user. */
export function prepareWorkdir(
  step: WorkdirStep,
  parts: { readonly snapshotter: Snapshotter; readonly treeOps: TreeOps },
): PreparedStep {
  const action: Action = {
    version: ACTION_VERSION,
    kind: 'WORKDIR',
    definition: { path: step.path, user: step.user },
  };
  return {
    action,
    inputs: [],
    ...observingWholeTree(step, { action, inputs: [] }, parts.snapshotter),
    async execute(on, signal) {
      const tree = new RecordingTree(treeOf(on));
      const seen = () => seenOfWholeTree(tree, parts.snapshotter);
      const found = await resolvePath(tree, step.path, { followLast: true });
      if (found === undefined)
        stop('too-many-symlinks', `/${step.path}: too many levels of symbolic links`, {
          range: step.info.range,
        });
      if (found.entry?.type === 'dir') return { seen: seen() };
      if (found.entry !== undefined)
        stop('workdir-not-folder', `/${step.path} is no folder`, { range: step.info.range });
      const owner =
        step.user === '' ? { ok: true as const, value: undefined } : await lookUpOwner(tree, step.user);
      if (!owner.ok) stop('unknown-user', owner.error, { range: step.info.range });
      const missing: ImagePath[] = [];
      let at = found.path;
      for (; at !== '' && (await tree.lstat(at)) === undefined; at = parentPath(at)) missing.unshift(at);
      const above = await tree.lstat(at);
      if (above?.type !== 'dir')
        stop('workdir-not-folder', `/${at} is no folder`, { range: step.info.range });
      const attributes = newFolder(inheritedGroup(above), owner.value);
      const ops = missing.map((path): TreeOp => ({ op: 'ensureDir', path, attributes }));
      await tree.touch(found.path);
      await using active = await parts.snapshotter.prepare(on.snapshot);
      await parts.treeOps.apply(active.root, ops, signal);
      return { frozen: await active.freeze({ fixFolderTimes: true }), seen: seen() };
    },
  };
}
