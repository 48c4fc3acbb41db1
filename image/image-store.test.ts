import { execFile } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestHex, digestOf, type HostPath, MEDIA_TYPE } from '../core/index.ts';
import type { Layer } from './contract.ts';
import { compressLayer, layerFrom } from './layers.ts';
import { collect, createTestStore, removeFolder, type TestStore, temporaryFolder } from './testing.ts';

let root: HostPath;
let store: TestStore;

beforeEach(() => {
  root = temporaryFolder();
  store = createTestStore(root);
});
afterEach(() => removeFolder(root));

const APP = 'docker.io/library/app:latest';

async function firstLayer(layers: Promise<readonly Layer[]> | readonly Layer[]): Promise<Layer> {
  const [layer] = await layers;
  if (layer === undefined) throw new Error('no layer');
  return layer;
}

describe('createImageStore', () => {
  it('put makes an image that is found by name, by ID and by a prefix of its ID', async () => {
    const image = await store.addImage([await store.addLayer({ hello: 'x' })], [APP]);
    for (const name of [
      'app',
      'app:latest',
      APP,
      image.configDigest,
      image.manifestDigest,
      digestHex(image.configDigest),
      digestHex(image.configDigest).slice(0, 12),
      `app@${image.manifestDigest}`,
    ]) {
      expect(await store.images.resolve(name), name).toEqual(image);
    }
    for (const name of ['other', 'app:2', digestHex(image.configDigest).slice(0, 3), 'NOT valid!']) {
      expect(await store.images.resolve(name), name).toBeUndefined();
    }
  });

  it('resolve refuses a prefix that fits two images', async () => {
    // One configuration under two manifests: every prefix of its ID fits both.
    const image = await store.addImage([await store.addLayer({ hello: 'x' })], []);
    const other = { ...image.manifest, annotations: { note: 'x' } };
    await store.images.put({
      config: await store.blobs.read(image.configDigest),
      layers: image.manifest.layers,
      names: [],
      manifest: Buffer.from(JSON.stringify(other)),
    });
    const prefix = digestHex(image.configDigest).slice(0, 20);
    await expect(store.images.resolve(prefix)).rejects.toMatchObject({ code: 'image-ambiguous' });
  });

  it('names move to the newer image; the older stays without a name', async () => {
    const layers = [await store.addLayer({ hello: 'x' })];
    const older = await store.addImage(layers, [APP, 'docker.io/library/app:1']);
    const newer = await store.addImage(layers, [APP], { author: 'new' });
    expect(newer.names).toEqual([APP]);
    expect(await store.images.resolve(APP)).toEqual(newer);
    expect((await store.images.resolve(older.configDigest))?.names).toEqual(['docker.io/library/app:1']);
    expect((await store.images.list()).map((image) => image.names.length)).toEqual([1, 1]);
  });

  it('tag, untag and delete change names and marks only', async () => {
    const image = await store.addImage([await store.addLayer({ hello: 'x' })], [APP]);
    await store.images.tag(image.manifestDigest, 'localhost:5000/app:v1');
    const [had] = await store.images.untag(APP);
    expect(had?.names).toEqual([APP, 'localhost:5000/app:v1']);
    expect(await store.images.untag(APP)).toEqual([]);
    await expect(store.images.delete(image.manifestDigest)).rejects.toThrow('still has the names');
    await store.images.untag('localhost:5000/app:v1');
    await store.images.delete(image.manifestDigest);
    expect(await store.images.list()).toEqual([]);
    expect(await store.blobs.has(image.manifestDigest)).toBe(true);
  });

  it("put keeps a pulled image's manifest byte for byte", async () => {
    const layer = await store.addLayer({ hello: 'x' });
    const built = await store.addImage([layer], []);
    const manifest = Buffer.from(`${JSON.stringify(built.manifest, null, 3)}\n`);
    const config = await store.blobs.read(built.configDigest);
    const pulled = await store.images.put({ config, layers: built.manifest.layers, names: [APP], manifest });
    expect(pulled.manifestDigest).toBe(digestOf(manifest));
  });

  it.each([
    ['no JSON', 'nonsense'],
    ['no diff_ids', JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: {} })],
    [
      'a diff_id that is none',
      JSON.stringify({ os: 'l', architecture: 'a', rootfs: { diff_ids: ['../x'] } }),
    ],
    [
      'more diff_ids than layers',
      JSON.stringify({ os: 'l', architecture: 'a', rootfs: { diff_ids: [digestOf('')] } }),
    ],
    [
      'an environment that is no list',
      JSON.stringify({ os: 'l', architecture: 'a', rootfs: { diff_ids: [] }, config: { Env: 'x' } }),
    ],
  ])('put refuses a configuration with %s', async (_what, config) => {
    const put = store.images.put({ config: Buffer.from(config), layers: [], names: [APP] });
    await expect(put).rejects.toMatchObject({ code: 'image-invalid' });
    expect(await store.images.list()).toEqual([]);
  });

  it('takes names longer than file names may be', async () => {
    const name = `registry.example.com/${'a/'.repeat(100)}b:${'t'.repeat(128)}`;
    const image = await store.addImage([], [name]);
    expect(await store.images.resolve(name)).toEqual(image);
  });

  it('fails clearly for a name file of a newer version, and once for a damaged one', async () => {
    await store.addImage([], [APP]);
    const [file = ''] = readdirSync(join(root, 'images/names'));
    writeFileSync(join(root, 'images/names', file), JSON.stringify({ version: 2 }));
    await expect(store.images.resolve('app')).rejects.toMatchObject({ code: 'store-version' });
    const other = JSON.stringify({
      version: 1,
      name: 'docker.io/library/other:latest',
      manifest: `sha256:${'a'.repeat(64)}`,
    });
    for (const text of ['{"ver', '{}', '{"version":1}', other]) {
      writeFileSync(join(root, 'images/names', file), text);
      await expect(store.images.resolve('app')).rejects.toMatchObject({ code: 'store-corrupt' });
      expect(await store.images.resolve('app')).toBeUndefined();
    }
  });

  it('keeps whole names while eight processes move one name at once', async () => {
    const first = await store.addImage([], ['docker.io/library/n:1']);
    const script = `
      const { createTestStore } = await import(${JSON.stringify(new URL('./testing.ts', import.meta.url).href)});
      const store = createTestStore(process.argv[1]);
      for (let at = 0; at < 20; at += 1) {
        await store.addImage([], [${JSON.stringify(APP)}], { author: process.pid + '-' + at });
        if ((await store.images.resolve('app')) === undefined) throw new Error('lost');
      }`;
    const run = promisify(execFile);
    await Promise.all(
      Array.from({ length: 8 }, () => run(process.execPath, ['--input-type=module', '-e', script, root])),
    );
    const images = await store.images.list();
    expect(images).toHaveLength(161);
    expect(images.filter((image) => image.names.includes(APP))).toHaveLength(1);
    expect(await store.images.resolve('n:1')).toEqual(first);
  });
});

describe('Layer of a stored image', () => {
  it('open packs the layer of a built image again, byte for byte', async () => {
    const layer = await store.addLayer({ hello: 'x'.repeat(100_000) }, 1000);
    const image = await store.addImage([layer], [APP]);
    const again = await firstLayer(store.images.layersOf(image));
    const tar = await collect(again.open());
    expect(digestOf(tar)).toBe(layer.diffId);
    expect(tar.length).toBe(layer.descriptor.size);
    expect((await store.blobs.list()).map((blob) => blob.digest)).not.toContain(layer.diffId);
  });

  it('open fails where the diff was changed behind the store, and where it is gone', async () => {
    const layer = await store.addLayer({ hello: 'content' });
    const [diff = ''] = readdirSync(root).filter((name) => name.startsWith('diff-'));
    writeFileSync(join(root, diff, 'hello'), 'CONTENT');
    await expect(collect(layer.open())).rejects.toMatchObject({ code: 'layer-changed' });
    const gone = layerFrom(layer.diffId, layer.descriptor, { ...store, openDiff: async () => undefined });
    await expect(collect(gone.open())).rejects.toMatchObject({ code: 'layer-missing' });
  });
});

describe('compressLayer', () => {
  it.each(['gzip', 'zstd'] as const)('%s holds the same tar, the same bytes each time', async (form) => {
    const layer = await store.addLayer({ hello: 'x'.repeat(100_000) });
    const compressed = await compressLayer(layer, { compression: form }, store);
    const bytes = await collect(compressed.open());
    const plain = form === 'gzip' ? gunzipSync(bytes) : zstdDecompressSync(bytes);
    expect(digestOf(plain)).toBe(layer.diffId);
    expect(compressed.descriptor).toEqual({
      mediaType: form === 'gzip' ? MEDIA_TYPE.ociLayerGzip : MEDIA_TYPE.ociLayerZstd,
      digest: digestOf(bytes),
      size: bytes.length,
    });
    await store.blobs.remove(compressed.descriptor.digest);
    expect((await compressLayer(layer, { compression: form }, store)).descriptor).toEqual(
      compressed.descriptor,
    );
  });

  it('finds the blob that an earlier call left, without opening the layer', async () => {
    const layer = await store.addLayer({ hello: 'x' });
    const { descriptor } = await compressLayer(layer, { compression: 'gzip' }, store);
    const closed: Layer = {
      ...layer,
      open: () => {
        throw new Error('opened');
      },
    };
    expect((await compressLayer(closed, { compression: 'gzip' }, store)).descriptor).toEqual(descriptor);
    rmSync(join(root, 'layers'), { recursive: true });
    await expect(compressLayer(closed, { compression: 'gzip' }, store)).rejects.toThrow('opened');
  });

  it('gives a compressed layer back as it is', async () => {
    const gzip = await compressLayer(await store.addLayer({ hello: 'x' }), { compression: 'gzip' }, store);
    expect(await compressLayer(gzip, { compression: 'zstd' }, store)).toBe(gzip);
  });
});
