/**
 * A process that commits diffs, for tests that race or kill it. Arguments: store, driver, session, number of diffs.
 * Prints a line with the name of each diff after its commit.
 */
import { type HostPath, imagePath } from '../core/index.ts';
import { createSnapshotter } from './index.ts';
import { diffIdOf, digestFile, layer, treeOps } from './test-rig.ts';

const [, , root = '', driver = '', session = '', count = '0'] = process.argv;
const snapshotter = createSnapshotter({
  root: root as HostPath,
  session,
  driver: driver === 'copy' ? 'copy' : 'overlay',
  tree: treeOps,
  userXattrs: false,
  digestFile,
  clock: { now: () => 0 },
});
for (let i = 0; i < Number(count); i++) {
  const attributes = { mode: 0o644, uid: 0, gid: 0 };
  const bytes = Buffer.from(`content of ${i}`);
  const { frozen } = await layer(snapshotter, undefined, {
    name: `diff ${i}`,
    write: (tree) =>
      treeOps.apply(tree, [
        { op: 'file', path: imagePath('a/f'), attributes, content: { kind: 'bytes', bytes } },
        {
          op: 'file',
          path: imagePath('a/g'),
          attributes,
          content: { kind: 'bytes', bytes: Buffer.alloc(100_000, 'x') },
        },
      ]),
  });
  await frozen[Symbol.asyncDispose]();
  process.stdout.write(`${diffIdOf(`diff ${i}`)}\n`);
}
