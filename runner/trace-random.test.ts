import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HostPath, ObservedTree } from '../core/index.ts';
import { encodeManifest } from '../snapshotter/manifest.ts';
import { observeLayers } from '../snapshotter/observed-tree.ts';
import { type DrawnDiff, PATHS, randomDiff } from '../snapshotter/random-diffs.ts';
import { emptyRoot } from '../snapshotter/root-folder.ts';
import { CAN_SANDBOX } from './testing/box.ts';
import { type OverlayRoot, TracedBox } from './testing/traced-box.ts';
import { createTreeOps } from './tree-ops.ts';

/** Diffs, topmost first, and how many of the lowest are not traced. */
const randomStack = fc
  .tuple(fc.array(randomDiff, { minLength: 1, maxLength: 4 }), fc.nat(3))
  .map(([diffs, base]) => ({ diffs, base: base % diffs.length }));

/** By lstat, listing, readlink and reading; then numbers of names and inodes, which only a traced tree has from its diffs. */
const LIST = `
  for path in $(find a b a.b 2>/dev/null | sort); do
    if [ -d $path ] && [ ! -L $path ]; then stat -c '%n %F %a' $path; (cd $path; echo *)
    else stat -c '%n %F %a %s %Y %N' $path; [ -L $path ] || cat $path; fi
  done`;
const LINKS = `
  echo ----; for path in $(find a b a.b -type f 2>/dev/null | sort); do stat -c '%n %h %i' $path; done`;

/** Of every file of the traced diffs: the number of its names, and the first of these. */
function linksIn(tree: ObservedTree): readonly string[] {
  return PATHS.flatMap((path) => {
    const state = tree.state(path);
    if (state.kind !== 'present' || state.entry.type !== 'file') return [];
    return [`${path} ${state.links} ${state.entry.hardlinkTo ?? path}`];
  });
}

/** The same, of what stat told. */
function linksOf(lines: readonly string[], paths: ReadonlySet<string>): readonly string[] {
  const firsts = new Map<string, string>();
  return lines.flatMap((line) => {
    const [path = '', links = '', inode = ''] = line.split(' ');
    if (!paths.has(path)) return [];
    if (!firsts.has(inode)) firsts.set(inode, path);
    return [`${path} ${links} ${firsts.get(inode)}`];
  });
}

describe.skipIf(!CAN_SANDBOX)('any stack of diffs, traced', () => {
  const tree = createTreeOps({});
  let box: TracedBox;
  let count = 0;
  beforeAll(async () => {
    box = await TracedBox.make();
  });
  afterAll(() => box.remove());

  async function written(diff: DrawnDiff): Promise<HostPath> {
    const home = join(box.folder, `diff${count++}`) as HostPath;
    mkdirSync(join(home, 'fs'), { recursive: true });
    await tree.apply({ type: 'directory', path: join(home, 'fs') as HostPath, readonly: false }, diff.ops());
    writeFileSync(
      join(home, 'manifest'),
      encodeManifest({ createdAtMs: 0, root: emptyRoot(), changes: diff.changes }),
    );
    return home;
  }

  it('shows what the kernel makes of it untraced, with the links that its observed tree tells', async () => {
    await fc.assert(
      fc.asyncProperty(randomStack, async ({ diffs, base }) => {
        const homes = await Promise.all(diffs.map(written));
        const plain = homes.map((home) => join(home, 'fs') as HostPath);
        const above = diffs.length - base;
        const traced = (root: OverlayRoot): OverlayRoot => ({
          ...root,
          traced: homes.slice(0, above),
          lowers: [...plain.slice(above), ...root.lowers],
        });
        const untraced = (root: OverlayRoot): OverlayRoot => ({
          ...root,
          lowers: [...plain, ...root.lowers],
        });
        const shown = await box.sh(LIST + LINKS, { root: traced });
        const expected = await box.sh(LIST, { root: untraced });
        expect(shown.trace?.kind).toBe('traced');
        const [listing, links = ''] = shown.stdout.split('----\n');
        expect(listing).toBe(expected.stdout);
        const observed = await observeLayers({
          layers: diffs.slice(0, above),
          root: emptyRoot(),
          hasBase: true,
        });
        const told = linksIn(observed);
        expect(linksOf(links.split('\n'), new Set(told.map((line) => line.split(' ')[0] ?? '')))).toEqual(
          told,
        );
        await tree.removeAll(homes);
      }),
      { numRuns: 40 },
    );
  }, 60_000);
});
