import {
  chmodSync,
  chownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type Change,
  comparePaths,
  decodePath,
  type Entry,
  type HostPath,
  type ImagePath,
  ROOT_PATH,
  type Tree,
} from '../core/index.ts';
import {
  compareTrees,
  exec,
  type ScannedFile,
  type ScannedTree,
  scanTree,
  unpackWithUmoci,
} from '../fixtures/index.ts';
import { writeStreamTo } from './archive.ts';
import { writeOciArchive } from './image-archive.ts';
import { compressLayer, layerFrom, plainDescriptor } from './layers.ts';
import { packLayer } from './pack-layer.ts';
import { createTestStore, removeFolder, temporaryFolder } from './testing.ts';
import { treeTar } from './tree-tar.ts';

let root: HostPath;
let source: string;
let scanned: ScannedTree;

/** One of everything that a Linux tree can hold and an image can carry. */
async function makeTree(folder: string): Promise<void> {
  const at = (name: string | Buffer): Buffer => Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name)]);
  const file = (name: string | Buffer, content: string | Buffer = 'content'): void =>
    writeFileSync(at(name), content);
  mkdirSync(at('deep/er'), { recursive: true });
  file('empty', '');
  file('block', Buffer.alloc(512, 'x'));
  file('deep/big', Buffer.alloc(1_000_000, 'abc'));
  file('sparse', 'head');
  truncateSync(at('sparse'), 3_000_000);
  file('setuid');
  chmodSync(at('setuid'), 0o6755);
  mkdirSync(at('sticky'));
  chmodSync(at('sticky'), 0o1777);
  file('owned');
  chownSync(at('owned'), 4_000_000, 3_000_000);
  file('many-1');
  linkSync(at('many-1'), at('many-2'));
  linkSync(at('many-1'), at('deep/many-3'));
  symlinkSync('../../outside', at('deep/link'));
  symlinkSync('/absolute/größe', at('link'));
  symlinkSync('l'.repeat(300), at('long-link'));
  file('new\nline');
  file('größe-日本');
  file(`${'n'.repeat(255)}`);
  file(Buffer.from([0x62, 0x61, 0x64, 0xff, 0xfe]));
  mkdirSync(at(`${'p'.repeat(200)}/${'q'.repeat(200)}`), { recursive: true });
  file(`${'p'.repeat(200)}/${'q'.repeat(200)}/leaf`);
  await exec(['mknod', join(folder, 'null'), 'c', '1', '3']);
  await exec(['mknod', join(folder, 'disk'), 'b', '259', '70000']);
  await exec(['mkfifo', join(folder, 'pipe')]);
  file('capable');
  await exec(['setcap', 'cap_net_raw+ep', join(folder, 'capable')]);
  file('attributes');
  await exec(['setfattr', '-n', 'user.binary', '-v', '0x00ff0a3d80', join(folder, 'attributes')]);
  utimesSync(at('empty'), 1_600_000_000.123456, 1_600_000_000.123456);
  utimesSync(at('deep/er'), -5, -5.25);
  lutimesSync(at('link'), 1_500_000_000, 1_500_000_000);
}

const pathOf = (latin1: string): ImagePath =>
  (latin1 === '.' ? '' : decodePath(Buffer.from(latin1, 'latin1'))) as ImagePath;

function entryOf(path: string, file: ScannedFile, first: ReadonlyMap<string, ImagePath>): Entry {
  const [uid = 0, gid = 0] = file.owner.split(':').map(Number);
  const mtime = BigInt(file.mtime);
  const nsec = ((mtime % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  const [major = 0, minor = 0] = (file.device ?? '').split(':').map(Number);
  const target = file.hardlink === undefined ? undefined : first.get(file.hardlink);
  const xattrs = Object.entries(file.xattrs ?? {}).map(([name, hex]): [string, Uint8Array] => [
    name,
    Uint8Array.from(Buffer.from(hex.slice(2), 'hex')),
  ]);
  return {
    path: pathOf(path),
    type: file.type,
    mode: file.type === 'symlink' ? 0o777 : Number.parseInt(file.mode, 8),
    uid,
    gid,
    size: file.size ?? 0,
    mtime: { sec: Number((mtime - nsec) / 1_000_000_000n), nsec: Number(nsec) },
    ...(file.target === undefined ? {} : { linkTarget: pathOf(file.target) }),
    ...(file.device === undefined ? {} : { device: { major, minor } }),
    ...(xattrs.length === 0 ? {} : { xattrs: Object.fromEntries(xattrs) }),
    ...(target === undefined || target === pathOf(path) ? {} : { hardlinkTo: target }),
  };
}

function changesOf(tree: ScannedTree): Change[] {
  const first = new Map<string, ImagePath>();
  for (const path of [...tree.keys()].map(pathOf).sort(comparePaths)) {
    const group = [...tree].find(([other]) => pathOf(other) === path)?.[1].hardlink;
    if (group !== undefined && !first.has(group)) first.set(group, path);
  }
  return [...tree].map(([path, file]) => ({ kind: 'set', entry: entryOf(path, file, first) }));
}

describe.skipIf(process.getuid?.() !== 0)('a layer with one of everything (needs root)', () => {
  beforeEach(async () => {
    root = temporaryFolder();
    source = join(root, 'source');
    mkdirSync(source);
    await makeTree(source);
    scanned = await scanTree(source);
  });
  afterEach(() => removeFolder(root));

  it('layerTar gives what umoci unpacks to the same tree, plain and gzip', async () => {
    const store = createTestStore(root);
    const diff = { changes: changesOf(scanned), folder: source as HostPath };
    const sources = { ...store, openDiff: async () => diff };
    const plain = layerFrom(...(await packed(diff)), sources);
    for (const layer of [plain, await compressLayer(plain, { compression: 'gzip' }, store)]) {
      const image = await store.addImage([layer], ['docker.io/library/app:judged']);
      const file = join(root, 'app.tar') as HostPath;
      const written = {
        manifest: await store.blobs.read(image.manifestDigest),
        config: await store.blobs.read(image.configDigest),
        layers: [layer],
        names: image.names,
      };
      await writeStreamTo(file, writeOciArchive([written]));
      const folder = temporaryFolder();
      try {
        const rootfs = await unpackWithUmoci(`oci-archive:${file}:judged`, folder);
        expect(compareTrees(scanned, await scanTree(rootfs), { mtimes: true })).toEqual([]);
      } finally {
        removeFolder(folder);
      }
    }
  });

  it('treeTar gives what GNU tar unpacks to the same tree', async () => {
    const changes = changesOf(scanned).filter((change) => change.kind === 'set' && change.entry.path !== '');
    const entries = changes.flatMap((change) => (change.kind === 'set' ? [change.entry] : []));
    const tree: Tree = {
      lstat: async (path) => entries.find((entry) => entry.path === path),
      list: async (folder) =>
        entries.filter((entry) => entry.path.slice(0, Math.max(0, entry.path.lastIndexOf('/'))) === folder),
      digest: () => Promise.reject(new Error('unused')),
      hostPath: async (path) => `${source}/${path}` as HostPath,
    };
    const file = join(root, 'tree.tar') as HostPath;
    await writeStreamTo(file, treeTar([{ tree, below: ROOT_PATH }]));
    const target = join(root, 'target');
    mkdirSync(target);
    const flags = ['--numeric-owner', '--same-permissions', '--xattrs', '--xattrs-include=*', '-C', target];
    await exec(['tar', ...flags, '-xf', file]);
    const differences = compareTrees(scanned, await scanTree(target), { mtimes: true });
    expect(differences.filter((one) => one.path !== '.')).toEqual([]);
  });
});

async function packed(
  diff: Parameters<typeof packLayer>[0],
): Promise<[Awaited<ReturnType<typeof packLayer>>['diffId'], ReturnType<typeof plainDescriptor>]> {
  const layer = await packLayer(diff);
  return [layer.diffId, plainDescriptor(layer)];
}
