import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Digest, type ImagePath, type ObservedTree, USE } from '../core/index.ts';
import { FakeTree, type Lying } from './fixtures/observed-tree.ts';
import { contentsOf, fingerprintOf, outlineOf } from './observation.ts';
import { pathSetOf, sortObservations } from './path-set.ts';

type Tree = Readonly<Record<string, Lying>>;

const ALL = USE.METADATA | USE.ATTRIBUTES | USE.CONTENT | USE.LISTING | USE.TARGET;

async function fingerprint(lying: Tree, uses: Readonly<Record<string, number | undefined>>): Promise<Digest> {
  const tree = new FakeTree(lying);
  const observations = Object.entries(uses).map(([path, used]) => ({
    path: path as ImagePath,
    uses: used ?? 0,
  }));
  const { set } = pathSetOf(sortObservations(observations));
  const outline = outlineOf(set, tree);
  return fingerprintOf(outline, await contentsOf(set, tree, outline));
}

async function expectSame(uses: number, before: Lying | undefined, after: Lying | undefined): Promise<void> {
  expect(await fingerprint(at(before), { x: uses })).toBe(await fingerprint(at(after), { x: uses }));
}

async function expectOther(uses: number, before: Lying | undefined, after: Lying | undefined): Promise<void> {
  expect(await fingerprint(at(before), { x: uses })).not.toBe(await fingerprint(at(after), { x: uses }));
}

function at(lying: Lying | undefined): Tree {
  return lying === undefined ? {} : { x: lying };
}

describe('a fingerprint', () => {
  it('differs where another type of thing lies, or nothing, or a whiteout, whatever was used', async () => {
    const states: readonly (Lying | undefined)[] = [
      undefined,
      'whiteout',
      ...(['file', 'dir', 'char', 'block', 'fifo', 'socket'] as const).map((type) => ({ type, mode: 0o644 })),
      { type: 'symlink', mode: 0o644, linkTarget: '' },
    ];
    for (const uses of [0, ...Object.values(USE), ALL]) {
      const all = await Promise.all(states.map((state) => fingerprint(at(state), { x: uses })));
      expect(new Set(all).size).toBe(states.length);
    }
  });

  /** Each fact, the use that covers it, and the file that it is changed in. */
  const facts: readonly (readonly [name: string, use: number, before: Lying, after: Lying])[] = [
    ['mode', USE.METADATA, {}, { mode: 0o755 }],
    ['uid', USE.METADATA, {}, { uid: 1 }],
    ['gid', USE.METADATA, {}, { gid: 1 }],
    ['an attribute', USE.METADATA, {}, { xattrs: { 'user.a': Buffer.of(1) } }],
    [
      'the value of an attribute',
      USE.METADATA,
      { xattrs: { a: Buffer.of(1) } },
      { xattrs: { a: Buffer.of(2) } },
    ],
    [
      'the name of an attribute',
      USE.METADATA,
      { xattrs: { a: Buffer.of(1) } },
      { xattrs: { b: Buffer.of(1) } },
    ],
    ['an empty attribute', USE.METADATA, {}, { xattrs: { a: Buffer.of() } }],
    ['the mode of a folder', USE.METADATA, { type: 'dir' }, { type: 'dir', mode: 0o700 }],
    ['opaque', USE.METADATA, { type: 'dir' }, { type: 'dir', opaque: true }],
    ['size', USE.ATTRIBUTES, {}, { size: 7 }],
    ['seconds', USE.ATTRIBUTES, {}, { mtime: { sec: -1, nsec: 0 } }],
    ['nanoseconds', USE.ATTRIBUTES, {}, { mtime: { sec: 1_700_000_000, nsec: 1 } }],
    ['the number of links', USE.ATTRIBUTES, {}, { links: 2 }],
    [
      'the name of the first link',
      USE.ATTRIBUTES,
      { links: 2, hardlinkTo: 'a' as ImagePath },
      { links: 2, hardlinkTo: 'b' as ImagePath },
    ],
    ['the first link', USE.ATTRIBUTES, { links: 2 }, { links: 2, hardlinkTo: 'a' as ImagePath }],
    [
      'the device',
      USE.ATTRIBUTES,
      { type: 'char', device: { major: 1, minor: 23 } },
      { type: 'char', device: { major: 12, minor: 3 } },
    ],
    ['content', USE.CONTENT, { content: 'a' }, { content: 'b', size: 1 }],
    ['a target', USE.TARGET, { type: 'symlink', linkTarget: 'a' }, { type: 'symlink', linkTarget: 'b' }],
    [
      'the length of a target',
      USE.ATTRIBUTES,
      { type: 'symlink', linkTarget: 'a' },
      { type: 'symlink', linkTarget: 'é' },
    ],
    [
      'the time of a symlink',
      USE.ATTRIBUTES,
      { type: 'symlink', linkTarget: 'a' },
      { type: 'symlink', linkTarget: 'a', mtime: { sec: 1, nsec: 0 } },
    ],
  ];

  it.each(facts)('differs with %s where that was used, and only there', async (_name, use, before, after) => {
    await expectOther(use, before, after);
    await expectOther(ALL, before, after);
    const others = ALL & ~use & ~(use === USE.CONTENT ? 0 : USE.CONTENT);
    // What a target's length says follows from the target.
    if (!('linkTarget' in Object(before) && use !== USE.METADATA)) await expectSame(others, before, after);
  });

  it('says nothing of a folder but metadata and listing', async () => {
    const folder = { type: 'dir', size: 0 } as const;
    await expectSame(ALL, folder, { ...folder, size: 4096, links: 3, mtime: { sec: 1, nsec: 1 } });
  });

  it('ignores what was used of a path where nothing lies', async () => {
    for (const state of [undefined, 'whiteout'] as const) {
      const tree = new FakeTree(at(state));
      const { set } = pathSetOf([{ path: 'x' as ImagePath, uses: ALL }]);
      expect(await contentsOf(set, tree, outlineOf(set, tree))).toEqual([]);
    }
  });

  it('differs with each name and type in a listing, whiteouts among them', async () => {
    const folder: Tree = { x: { type: 'dir' }, 'x/a': {}, 'x/b': {} };
    const trees: readonly Tree[] = [
      { x: { type: 'dir' } },
      folder,
      { ...folder, 'x/c': {} },
      { ...folder, 'x/c': 'whiteout' },
      { ...folder, 'x/c': { type: 'dir' } },
      { ...folder, 'x/c': { type: 'symlink', linkTarget: 'a' } },
      { x: { type: 'dir' }, 'x/afb': {} },
      { x: { type: 'dir' }, 'x/\udcff': {} },
      { x: { type: 'dir' }, 'x/\udcfe': {} },
      { x: { type: 'dir' }, 'x/\ufffd': {} },
    ];
    const listed = await Promise.all(trees.map((tree) => fingerprint(tree, { x: USE.LISTING })));
    expect(new Set(listed).size).toBe(trees.length);
    const entered = await Promise.all(trees.map((tree) => fingerprint(tree, { x: ALL & ~USE.LISTING })));
    expect(new Set(entered).size).toBe(1);
    expect(await fingerprint({ ...folder, 'x/a': { content: 'edited' } }, { x: ALL })).toBe(
      await fingerprint(folder, { x: ALL }),
    );
  });

  it('differs with the paths and uses that it is taken of', async () => {
    const all = await Promise.all(
      [{}, { x: 0 }, { y: 0 }, { x: 1 }, { x: 0, y: 0 }].map((uses) => fingerprint({}, uses)),
    );
    expect(new Set(all).size).toBe(all.length);
  });

  it('is pinned for a sample', async () => {
    const tree: Tree = {
      app: { type: 'dir', opaque: true },
      'app/a': { content: 'a', xattrs: { 'user.b': Buffer.from('b'), 'user.a': Buffer.of(0) } },
      'app/b': { content: 'a', links: 2, hardlinkTo: 'app/a' as ImagePath, mode: 0o4755, uid: 1, gid: 2 },
      'app/l': { type: 'symlink', linkTarget: '../\udc80', mtime: { sec: -1, nsec: 5 } },
      'app/n': { type: 'char', device: { major: 1, minor: 3 } },
      'app/w': 'whiteout',
    };
    const paths = ['', 'app', 'app/a', 'app/b', 'app/l', 'app/n', 'app/w'];
    expect(await fingerprint(tree, Object.fromEntries(paths.map((path) => [path, ALL])))).toBe(
      'sha256:8b39ecc4cc5e2d0d93308abe5d9ef78217242a7134bd453ee63f8dfc9b9c94c8',
    );
  });

  const names = ['a', '=a', '-', '~', 'w', 'f', 'o', '\udc80', '\x01', 'é'] as const;
  const lying: fc.Arbitrary<Lying | undefined> = fc.oneof(
    fc.constantFrom(undefined, 'whiteout' as const),
    fc
      .record({
        type: fc.constantFrom('file', 'dir', 'symlink', 'char'),
        mode: fc.constantFrom(1, 11),
        uid: fc.constantFrom(1, 11),
        gid: fc.constantFrom(1, 11),
        size: fc.constantFrom(0, 1),
        mtime: fc.record({ sec: fc.constantFrom(-1, 1), nsec: fc.constantFrom(0, 1) }),
        links: fc.constantFrom(1, 2),
        opaque: fc.boolean(),
        content: fc.constantFrom('', '\0', 'a'),
        linkTarget: fc.constantFrom('', '=', '\0', '\udc80', 'a'),
        hardlinkTo: fc.constantFrom('a', '=a').map((path) => path as ImagePath),
        xattrs: fc.dictionary(fc.constantFrom('a', '=', '\0'), fc.uint8Array({ maxLength: 2 }), {
          maxKeys: 2,
        }),
      })
      .map(({ linkTarget, hardlinkTo, ...entry }) => ({
        ...entry,
        ...(entry.type === 'symlink' ? { linkTarget } : {}),
        ...(entry.links === 2 && entry.type !== 'dir' ? { hardlinkTo } : {}),
      })),
  );
  const trees = fc
    .tuple(lying, ...names.slice(1).map(() => lying), fc.constantFrom(undefined, 'whiteout' as const))
    .map((states): Tree => ({ '': { type: 'dir' }, ...treeOf(states) }));

  function treeOf(states: readonly (Lying | undefined)[]): Tree {
    return Object.fromEntries(
      names.flatMap((name, place) => {
        const state = states[place];
        return state === undefined ? [] : [[name, state]];
      }),
    );
  }

  it('is the same for two trees exactly where all that was used of them is', async () => {
    const uses = fc.record(
      Object.fromEntries(['', ...names].map((name) => [name, fc.integer({ min: 0, max: ALL })])),
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(trees, trees, uses, fc.constantFrom(...names), async (a, other, used, place) => {
        // Mostly alike: only one name is taken from the other tree.
        const { [place]: _gone, ...rest } = a;
        const { [place]: taken } = other;
        const b: Tree = taken === undefined ? rest : { ...rest, [place]: taken };
        const same = (await saidOf(a, used)) === (await saidOf(b, used));
        expect((await fingerprint(a, used)) === (await fingerprint(b, used))).toBe(same);
      }),
      { numRuns: 500 },
    );
  });
});

/** What the uses cover, spelled out: an oracle that shares nothing with the encoding. */
async function saidOf(lying: Tree, uses: Readonly<Record<string, number | undefined>>): Promise<string> {
  const tree: ObservedTree = new FakeTree(lying);
  const said: unknown[] = [];
  for (const name of Object.keys(uses).sort()) {
    const path = name as ImagePath;
    const used = uses[name] ?? 0;
    const state = tree.state(path);
    const fact: Record<string, unknown> = { name, kind: state.kind };
    said.push(fact);
    if (state.kind !== 'present') continue;
    const { entry, links, opaque } = state;
    const { type, mode, uid, gid, size, mtime, device, hardlinkTo = null, linkTarget } = entry;
    fact['type'] = type;
    if (used & USE.METADATA) {
      const xattrs = Object.entries(entry.xattrs ?? {}).map(([key, value]) => [key, [...value]]);
      fact['metadata'] = { mode, uid, gid, xattrs: xattrs.sort(), opaque: type === 'dir' && opaque };
    }
    if (used & USE.ATTRIBUTES && type !== 'dir') {
      // The odd name in these trees is one byte that is no UTF-8.
      const bytes = type === 'symlink' ? Buffer.from(linkTarget ?? '', 'latin1').length : size;
      fact['attributes'] = { bytes, mtime, links, hardlinkTo, device };
    }
    if (used & USE.CONTENT && type === 'file') fact['content'] = await tree.digest(path);
    if (used & USE.LISTING && type === 'dir') fact['listing'] = tree.list(path);
    if (used & USE.TARGET && type === 'symlink') fact['target'] = linkTarget;
  }
  return JSON.stringify(said);
}
