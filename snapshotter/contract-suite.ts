import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type CommittedSnapshot,
  changePath,
  imagePath,
  ROOT_PATH,
  type RootMount,
  type Snapshotter,
  type TreeOp,
} from '../core/index.ts';
import { BASE, LOOK, STEPS } from './contract-steps.ts';
import { diffIdOf, layer, Rig, treeListing, treeOps, walk } from './test-rig.ts';

const file = (path: string, content: string): TreeOp => ({
  op: 'file',
  path: imagePath(path),
  attributes: { mode: 0o644, uid: 0, gid: 0 },
  content: { kind: 'bytes', bytes: Buffer.from(content) },
});

/** What every driver promises; see core/snapshot.ts. The oracle is a plain folder on which the same is done. */
export function describeContract(driver: 'overlay' | 'copy', userXattrs = false): void {
  let rig: Rig;
  let snapshotter: Snapshotter;

  beforeEach(() => {
    rig = new Rig(driver, userXattrs);
    snapshotter = rig.open();
  });
  afterEach(() => rig.dispose());

  const script = (name: string, text: string) => ({
    name,
    write: (root: RootMount) => {
      rig.run(root, text);
    },
  });
  const ops = (name: string, list: readonly TreeOp[]) => ({
    name,
    write: (root: RootMount) => treeOps.apply(root, list),
  });
  /** What is left in the folders of active snapshots and uncommitted diffs; what only waits for its removal is nothing. */
  const leftovers = () => ({
    active: readdirSync(join(rig.root, 'active')).flatMap((name) =>
      readdirSync(join(rig.root, 'active', name)).filter(
        (home) => !isIdle(join(rig.root, 'active', name, home)),
      ),
    ),
    data: readdirSync(join(rig.root, 'diffs/data')).length,
    trash: readdirSync(join(rig.root, 'trash')),
  });

  describe('a step survives freeze, commit and another process:', () => {
    for (const [title, step] of Object.entries(STEPS)) {
      test(title, async () => {
        rig.runOracle(`chmod 755 .; ${BASE}`);
        const { committed: base } = await layer(snapshotter, undefined, script('base', BASE));
        expect(await treeListing(base.tree())).toEqual(await rig.oracleListing());
        rig.runOracle(step);
        const { frozen, committed } = await layer(snapshotter, base, script('step', step));
        const expected = await rig.oracleListing();
        expect(await treeListing(frozen.tree())).toEqual(expected);
        expect(await treeListing(committed.tree())).toEqual(expected);
        const elsewhere = await rig.open('two').find([diffIdOf('base'), diffIdOf('step')]);
        expect(await treeListing(elsewhere?.tree() ?? base.tree())).toEqual(expected);
        expect((await elsewhere?.top())?.changes).toEqual(frozen.changes);
        await using readable = await snapshotter.mountable(committed);
        expect(rig.run(readable.root, LOOK)).toBe(rig.runOracle(LOOK));
        // What stands on it sees the same: the diff taken from it is empty.
        const { frozen: still } = await layer(snapshotter, committed, script('still', 'true'));
        expect(still.changes).toEqual([]);
        expect(await treeListing(still.tree())).toEqual(expected);
      });
    }
  });

  describe('hard links of the parent:', () => {
    const LINKS = 'echo x > a; ln a b; ln a c; cp -p a other; touch -d 2001-01-01 a other';
    for (const [title, step] of Object.entries({
      'broken apart, all else the same': 'cp -p a a.new; mv a.new a',
      'the first name removed': 'rm a',
      'all names removed but one': 'rm a c',
      'joined to a file that looks the same': 'rm b; ln other b',
      'renamed into a folder': 'mkdir d; mv b d/b',
    })) {
      test(title, async () => {
        rig.runOracle(`chmod 755 .; ${LINKS}; ${step}`);
        const { committed: base } = await layer(snapshotter, undefined, script('base', LINKS));
        const { committed } = await layer(snapshotter, base, script('step', step));
        // A name that moves alone leaves its file in an overlay, which makes a copy of what it changes below.
        const alone = (lines: readonly string[]) => lines.map((line) => line.replace(/"link":"[^"]*"/, ''));
        const moved = driver === 'overlay' && (title.startsWith('joined') || title.startsWith('renamed'));
        const [told, expected] = [await treeListing(committed.tree()), await rig.oracleListing()];
        if (moved) expect(alone(told)).toEqual(alone(expected));
        else expect(told).toEqual(expected);
      });
    }
  });

  describe('an empty snapshot', () => {
    test('is a root folder 0755 with a fixed time', async () => {
      const { frozen, committed } = await layer(snapshotter, undefined, script('empty', 'true'));
      expect(frozen.changes).toEqual([]);
      expect(await walk(committed.tree())).toEqual([
        { path: '', type: 'dir', mode: 0o755, uid: 0, gid: 0, size: 0, mtime: { sec: 0, nsec: 0 } },
      ]);
      expect(await committed.tree().list(imagePath('absent'))).toEqual([]);
    });

    test('has a root folder in its changes only when that differs from the parent’s', async () => {
      const { frozen: same } = await layer(snapshotter, undefined, script('a', 'touch f'));
      expect(same.changes.map(changePath)).toEqual(['f']);
      const { frozen: other } = await layer(snapshotter, same, script('b', 'chmod 750 .'));
      expect(other.changes.map(changePath)).toEqual(['']);
      expect((await other.tree().lstat(ROOT_PATH))?.mode).toBe(0o750);
    });
  });

  describe('changes', () => {
    test('come in path order with parents, and an opaque folder or its whiteouts hide what was below', async () => {
      const { committed: base } = await layer(snapshotter, undefined, script('base', BASE));
      const { frozen } = await layer(
        snapshotter,
        base,
        script('s', 'rm -r dir; mkdir dir; echo n > dir/n; rm file'),
      );
      const told = frozen.changes.map((change) => `${change.kind} ${changePath(change)}`);
      expect(told).toContain('set dir');
      expect(told).toContain('set dir/n');
      expect(told).toContain('whiteout file');
      expect(told.some((line) => line === 'opaque dir' || line === 'whiteout dir/one')).toBe(true);
      expect(frozen.changes.map(changePath)).toEqual(frozen.changes.map(changePath).toSorted());
      expect(lstatSync(join(frozen.folder, 'file')).isCharacterDevice()).toBe(true);
    });

    test('tell of no opaque folder where nothing is hidden', async () => {
      const { committed: base } = await layer(snapshotter, undefined, script('base', BASE));
      const { frozen } = await layer(
        snapshotter,
        base,
        script('s', 'mkdir -p -m 1777 new/sub dir/fresh; touch new/f'),
      );
      expect(frozen.changes.map((change) => `${change.kind} ${changePath(change)}`)).toEqual([
        'set dir',
        'set dir/fresh',
        'set new',
        'set new/f',
        'set new/sub',
      ]);
      const scanned = await treeOps.scanDiff(frozen.folder, { userXattrs });
      expect(scanned.slice(1)).toEqual(frozen.changes);
    });

    test('keep holes in files', async () => {
      const { frozen } = await layer(snapshotter, undefined, script('s', 'truncate -s 64M f; echo end >> f'));
      const { committed } = await layer(snapshotter, frozen, script('t', 'true'));
      const place = await committed.tree().hostPath(imagePath('f'));
      expect(statSync(place).size).toBe(64 * 1024 * 1024 + 4);
      expect(statSync(place).blocks * 512).toBeLessThan(1024 * 1024);
    });
  });

  describe('a stack', () => {
    test('of 250 diffs is mounted, read and written', async () => {
      let top: CommittedSnapshot | undefined;
      for (let i = 0; i < 250; i++) {
        const list = [
          file(`f${i % 10}`, `${i}`),
          file(`d/n${i}`, `${i}`),
          ...(i > 0 ? [removal(`d/n${i - 1}`)] : []),
        ];
        const deep = driver === 'copy' && i >= 20;
        if (deep) break;
        top = (await layer(snapshotter, top, ops(`${i}`, list))).committed;
      }
      const last = driver === 'copy' ? 19 : 249;
      const { committed } = await layer(
        snapshotter,
        top,
        ops('top', [removal(`d/n${last}`), file('top', 'x')]),
      );
      expect((await walk(committed.tree())).map((entry) => entry.path)).toEqual([
        '',
        'd',
        ...Array.from({ length: 10 }, (_, i) => `f${i}`),
        'top',
      ]);
      expect(committed.diffIds).toHaveLength(last + 2);
    }, 120_000);

    test('lays a diff on another parent', async () => {
      const { committed: a } = await layer(
        snapshotter,
        undefined,
        ops('a', [file('a', '1'), file('d/a', '1')]),
      );
      await layer(snapshotter, a, ops('b', [file('d/b', '2'), removal('a')]));
      const { committed: c } = await layer(
        snapshotter,
        undefined,
        ops('c', [file('c', '3'), file('a', '4'), file('d/c', '3')]),
      );
      const stacked = await snapshotter.stack(c, diffIdOf('b'));
      const paths = (await walk(stacked?.tree() ?? a.tree())).map((entry) => entry.path);
      expect(paths).toEqual(['', 'c', 'd', 'd/b', 'd/c']);
      expect(stacked?.diffIds).toEqual([diffIdOf('c'), diffIdOf('b')]);
      expect(await snapshotter.stack(c, diffIdOf('unknown'))).toBeUndefined();
      expect(await snapshotter.find([diffIdOf('c'), diffIdOf('unknown')])).toBeUndefined();
    });

    test('that holds the same diff twice is mounted, read and written', async () => {
      const { committed: one } = await layer(snapshotter, undefined, ops('same', [file('d/f', '1')]));
      const { committed: two } = await layer(
        snapshotter,
        one,
        ops('gone', [removal('d'), file('d', 'flat')]),
      );
      const three = await snapshotter.stack(two, diffIdOf('same'));
      if (three === undefined) throw new Error('the diff is in the store');
      expect(three.diffIds).toHaveLength(3);
      await using readable = await snapshotter.mountable(three);
      expect(rig.run(readable.root, 'cat d/f')).toBe('1');
      const { committed } = await layer(snapshotter, three, ops('top', [file('d/g', '2')]));
      expect((await walk(committed.tree())).map((entry) => entry.path)).toEqual(['', 'd', 'd/f', 'd/g']);
    });

    test('lays a parent-bound diff on that parent only, and keeps one for each', async () => {
      const bind = async (parent: CommittedSnapshot, list: readonly TreeOp[]) => {
        await using active = await snapshotter.prepare(parent);
        await treeOps.apply(active.root, list);
        return (await active.freeze()).commit(diffIdOf('tar'), { parentBound: true });
      };
      const { committed: a } = await layer(snapshotter, undefined, ops('a', [file('a', '1')]));
      const { committed: b } = await layer(snapshotter, undefined, ops('b', [file('gone', '1')]));
      const onA = await bind(a, [file('new', 'x'), removal('gone')]);
      expect(await snapshotter.stack(b, diffIdOf('tar'))).toBeUndefined();
      expect(await snapshotter.find(onA.diffIds)).toBeDefined();
      expect(await snapshotter.find([diffIdOf('b'), diffIdOf('tar')])).toBeUndefined();
      const onB = await bind(b, [file('new', 'x'), removal('gone')]);
      expect((await walk(onB.tree())).map((entry) => entry.path)).toEqual(['', 'new']);
      expect((await snapshotter.diffs()).map((diff) => diff.diffId).sort()).toEqual(
        [diffIdOf('a'), diffIdOf('b'), diffIdOf('tar')].sort(),
      );
      await snapshotter.remove([diffIdOf('tar')]);
      expect(leftovers().data).toBe(2);
    });

    test('leaves no folder behind when the snapshotter is closed', async () => {
      for (let i = 0; i < 20; i++) await layer(snapshotter, undefined, ops(`a${i}`, [file('a', `${i}`)]));
      await snapshotter.close();
      expect(readdirSync(join(rig.root, 'active'))).toEqual([]);
    });

    test('is mounted for reading', async () => {
      const { committed } = await layer(snapshotter, undefined, ops('a', [file('a', '1')]));
      {
        await using readable = await snapshotter.mountable(committed);
        rig.run(readable.root, 'test "$(cat a)" = 1');
      }
      expect(leftovers()).toEqual({ active: [], data: 1, trash: [] });
    });

    test('tells digests and places of files, of hard links too', async () => {
      const { committed: a } = await layer(snapshotter, undefined, script('a', 'echo x > b; ln b a; ln b c'));
      const { committed: b } = await layer(snapshotter, a, ops('b', [removal('a')]));
      const entries = await walk(b.tree());
      expect(entries.map((entry) => [entry.path, entry.hardlinkTo])).toEqual([
        ['', undefined],
        ['b', undefined],
        ['c', 'b'],
      ]);
      const expected = await a.tree().digest(imagePath('a'));
      expect(await b.tree().digest(imagePath('c'))).toBe(expected);
      const again = await rig.open('two').find(b.diffIds);
      expect(await again?.tree().digest(imagePath('b'))).toBe(expected);
      await expect(b.tree().digest(imagePath('a'))).rejects.toThrow('no regular file');
      await expect(b.tree().digest(ROOT_PATH)).rejects.toThrow('no regular file');
    });
  });

  describe('life', () => {
    test('a child prepared on a frozen snapshot goes on while that is committed', async () => {
      await using active = await snapshotter.prepare(undefined);
      await treeOps.apply(active.root, [file('a', '1')]);
      await using frozen = await active.freeze();
      await using child = await snapshotter.prepare(frozen);
      const committed = await frozen.commit(diffIdOf('a'));
      await treeOps.apply(child.root, [file('b', '2')]);
      const grandchild = await child.freeze();
      const both = await grandchild.commit(diffIdOf('b'));
      expect(both.parent?.id).toBe(committed.id);
      expect((await walk(both.tree())).map((entry) => entry.path)).toEqual(['', 'a', 'b']);
    });

    test('a child goes on when another process was first to commit the diff under it', async () => {
      const other = rig.open('two');
      await using active = await snapshotter.prepare(undefined);
      await treeOps.apply(active.root, [file('a', '1')]);
      const frozen = await active.freeze();
      const child = await snapshotter.prepare(frozen);
      const theirs = await layer(other, undefined, ops('a', [file('a', '1')]));
      const ours = await frozen.commit(diffIdOf('a'));
      expect(ours.lowers).toEqual(theirs.committed.lowers);
      expect(leftovers().data).toBe(2);
      await treeOps.apply(child.root, [file('b', '2')]);
      const both = await (await child.freeze()).commit(diffIdOf('b'));
      expect((await walk(both.tree())).map((entry) => entry.path)).toEqual(['', 'a', 'b']);
      await frozen[Symbol.asyncDispose]();
      expect(leftovers()).toEqual({ active: [], data: 2, trash: [] });
    });

    test('a tree taken before the commit can be read where the diff was there already', async () => {
      const other = rig.open('two');
      await layer(other, undefined, ops('a', [file('a', '1')]));
      await using active = await snapshotter.prepare(undefined);
      await treeOps.apply(active.root, [file('a', '1')]);
      await using frozen = await active.freeze();
      const tree = frozen.tree();
      await frozen.commit(diffIdOf('a'));
      expect(await readFile(await tree.hostPath(imagePath('a')), 'utf8')).toBe('1');
      expect((await walk(tree)).map((entry) => entry.path)).toEqual(['', 'a']);
    });

    test('what is not committed is gone when disposed of', async () => {
      {
        await using active = await snapshotter.prepare(undefined);
        await treeOps.apply(active.root, [file('a', '1')]);
      }
      {
        await using active = await snapshotter.prepare(undefined);
        await using frozen = await active.freeze();
        expect(existsSync(frozen.folder)).toBe(true);
      }
      expect(leftovers()).toEqual({ active: [], data: 0, trash: [] });
    });

    test('the root folder is that of the parent, whatever the diff was first laid on', async () => {
      const root = (mode: number): TreeOp => ({
        op: 'dir',
        path: ROOT_PATH,
        attributes: { mode, uid: 3, gid: 4 },
      });
      const plain = await layer(snapshotter, undefined, ops('plain', [file('p', '1')]));
      const other = await layer(snapshotter, undefined, ops('other', [file('p', '1'), root(0o711)]));
      const same = ops('same', [file('a', '1')]);
      for (const parent of [plain.committed, other.committed, plain.committed]) {
        const { committed, frozen } = await layer(snapshotter, parent, same);
        const expected = await parent.tree().lstat(ROOT_PATH);
        const { mode, uid, gid } = (await committed.tree().lstat(ROOT_PATH)) ?? {};
        expect({ mode, uid, gid }).toEqual({ mode: expected?.mode, uid: expected?.uid, gid: expected?.gid });
        await using child = await snapshotter.prepare(committed);
        expect(rig.run(child.root, 'stat -c "%a %u %g" .').trim()).toBe(`${mode?.toString(8)} ${uid} ${gid}`);
        await frozen[Symbol.asyncDispose]();
      }
    });

    test('many commit the same diff at once: one is stored', async () => {
      const many = Array.from({ length: 6 }, (_, i) => rig.open(`s${i}`));
      const made = await Promise.all(many.map((one) => layer(one, undefined, ops('same', [file('a', '1')]))));
      expect(new Set(made.map(({ committed }) => committed.lowers[0])).size).toBe(1);
      for (const { frozen } of made) await frozen[Symbol.asyncDispose]();
      expect(leftovers()).toEqual({ active: [], data: 1, trash: [] });
    });

    test('wrong order of calls is a bug, told as such', async () => {
      const active = await snapshotter.prepare(undefined);
      const frozen = await active.freeze();
      await expect(active.freeze()).rejects.toThrow('active no longer');
      const child = await (await snapshotter.prepare(frozen)).freeze();
      await expect(child.commit(diffIdOf('x'))).rejects.toThrow('parent is not committed');
      await child[Symbol.asyncDispose]();
      await frozen[Symbol.asyncDispose]();
      await expect(frozen.commit(diffIdOf('x'))).rejects.toThrow('thrown away');
    });
  });

  describe('the store', () => {
    test('lists and removes diffs', async () => {
      await layer(snapshotter, undefined, ops('a', [file('a', 'five5')]));
      expect(await snapshotter.diffs()).toEqual([
        { diffId: diffIdOf('a'), bytes: 5, createdAtMs: expect.any(Number) },
      ]);
      await snapshotter.remove([diffIdOf('a'), diffIdOf('absent')]);
      expect(await snapshotter.diffs()).toEqual([]);
      expect(await snapshotter.find([diffIdOf('a')])).toBeUndefined();
      expect(leftovers()).toEqual({ active: [], data: 0, trash: [] });
    });

    test('sweeps what dead sessions left and nothing else', async () => {
      const dead = rig.open('dead');
      const { committed } = await layer(dead, undefined, ops('kept', [file('a', '1')]));
      const active = await dead.prepare(committed);
      await treeOps.apply(active.root, [file('b', 'x'.repeat(1000))]);
      await (await dead.prepare(committed)).freeze();
      const alive = await snapshotter.prepare(committed);
      await (await rig.open('alive').prepare(committed)).freeze();
      mkdirSync(join(rig.root, 'trash/left'));
      const freed = await snapshotter.sweep((session) => session === 'alive');
      expect(freed).toBeGreaterThanOrEqual(1000);
      expect(leftovers()).toEqual({ active: [expect.any(String)], data: 2, trash: [] });
      expect(readdirSync(join(rig.root, 'active')).sort()).toEqual(['alive', 'one']);
      await treeOps.apply(alive.root, [file('c', '3')]);
      expect(await snapshotter.find([diffIdOf('kept')])).toBeDefined();
    });

    test('tells of a full disk, and has nothing left over', async () => {
      rig.runOracle(`mount -t tmpfs -o size=1m,mode=755 none '${rig.root}'`);
      try {
        const small = rig.open('small');
        const error = await layer(small, undefined, ops('big', [file('f', 'z'.repeat(2_000_000))])).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error).toMatchObject({ name: 'MachineError', code: 'disk-full' });
        expect(readdirSync(join(rig.root, 'active/small'))).toEqual([]);
        const { committed } = await layer(small, undefined, ops('fits', [file('f', 'z')]));
        rig.runOracle(`head -c 2000000 /dev/zero > '${join(rig.root, 'fill')}' || true`);
        await expect(layer(small, committed, ops('x', [removal('f')]))).rejects.toMatchObject({
          code: 'disk-full',
        });
      } finally {
        rig.runOracle(`umount '${rig.root}'`);
      }
    });

    test('forgets a diff that a power cut damaged, at its first use after the restart', async () => {
      const { committed } = await layer(
        snapshotter,
        undefined,
        ops('a', [file('a', 'content'), file('b', 'content')]),
      );
      const home = join(committed.lowers[0] ?? '', '..');
      const write = (name: string, text: string) => rig.runOracle(`printf '${text}' > '${join(home, name)}'`);
      const find = (session: string) => rig.open(session).find(committed.diffIds);
      write('boot', 'an-earlier-start');
      expect(await find('sound')).toBeDefined();
      expect(readFileSync(join(home, 'boot'), 'utf8')).toBe('checked');
      write('fs/b', '');
      expect(await find('not-compared-again')).toBeDefined();
      // The mark itself may be lost.
      rig.runOracle(`rm '${join(home, 'boot')}'`);
      expect(await find('damaged')).toBeUndefined();
      expect(existsSync(home)).toBe(false);
    });

    test('forgets a diff whose folder a power cut took away, and one with other content of the same size and time', async () => {
      for (const damage of [
        'rm -r fs',
        'touch -r fs/b time; printf CONTENT > fs/b; touch -r time fs/b; rm time',
      ]) {
        const { committed } = await layer(snapshotter, undefined, ops('a', [file('b', 'content')]));
        const home = join(committed.lowers[0] ?? '', '..');
        rig.runOracle(`cd '${home}' && printf an-earlier-start > boot && ${damage}`);
        const judged: string[] = [];
        const makesLayer = async (diffId: string) => judged.push(diffId) === 0;
        expect(await rig.open('damaged', { makesLayer }).find(committed.diffIds)).toBeUndefined();
        expect(judged).toEqual(damage.startsWith('rm') ? [] : committed.diffIds);
        expect(existsSync(home)).toBe(false);
      }
    });
  });
}

function removal(path: string): TreeOp {
  return { op: 'remove', path: imagePath(path) };
}

/** Whether an active snapshot's folder holds nothing of a tree any more. */
function isIdle(home: string): boolean {
  return readdirSync(home).every((name) => name === 'work');
}
