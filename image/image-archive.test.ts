import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Ajv } from 'ajv';
import formats from 'ajv-formats';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf, type HostPath, type ImagePath } from '../core/index.ts';
import { exec } from '../fixtures/index.ts';
import { bytesFile, tarOf, writeArchiveFolder, writeStreamTo } from './archive.ts';
import type { Layer, StoredImage } from './contract.ts';
import {
  dockerArchiveFiles,
  type ImageToWrite,
  ociLayoutFiles,
  writeDockerArchive,
  writeLayoutFolder,
  writeOciArchive,
} from './image-archive.ts';
import { compressLayer } from './layers.ts';
import { loadArchive } from './load-archive.ts';
import { encodeManifest, parseIndex } from './manifest.ts';
import { encodeTarHeader, paddingOf } from './tar-header.ts';
import { readTar } from './tar-reader.ts';
import { collect, createTestStore, removeFolder, type TestStore, temporaryFolder } from './testing.ts';
import { DEFAULT_UNPACK_LIMITS } from './unpack-layer.ts';

const APP = 'docker.io/library/app:latest';
const MINE = 'localhost:5000/mine:v1';
const AMD64 = { os: 'linux', architecture: 'amd64' };

let root: HostPath;
let store: TestStore;
let image: StoredImage;
let layers: readonly Layer[];

beforeEach(async () => {
  root = temporaryFolder();
  store = createTestStore(root);
  const plain = await store.addLayer({ 'etc/a': 'x'.repeat(5000) });
  const second = await store.addLayer({ 'etc/b': 'second' });
  layers = [plain, await compressLayer(second, { compression: 'gzip' }, store)];
  image = await store.addImage(layers, [APP, MINE]);
});
afterEach(() => removeFolder(root));

async function toWrite(): Promise<ImageToWrite> {
  return {
    manifest: await store.blobs.read(image.manifestDigest),
    config: await store.blobs.read(image.configDigest),
    layers: await store.images.layersOf(image),
    names: image.names,
  };
}

async function* stream(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

/** Loads into a store of its own. */
async function load(bytes: Uint8Array, platform = AMD64) {
  const other = temporaryFolder();
  try {
    const target = createTestStore(other);
    const loaded = await loadArchive(stream(bytes), { blobs: target.blobs, platform });
    const images: StoredImage[] = [];
    for (const { image } of loaded) images.push(await target.images.put(image));
    return images;
  } finally {
    removeFolder(other);
  }
}

describe('writeOciArchive and ociLayoutFiles', () => {
  it('write the same bytes each time, and JSON that fits the schemas of the image-spec', async () => {
    const files = ociLayoutFiles([await toWrite()]);
    const tar = await collect(tarOf(files));
    expect(await collect(writeOciArchive([await toWrite()]))).toEqual(tar);
    const ajv = new Ajv({ strict: true, allowUnionTypes: true, strictTypes: false });
    formats.default(ajv);
    for (const name of ['descriptor', 'index', 'manifest', 'layout', 'config']) {
      const url = new URL(`../fixtures/oci-schemas/${name}.json`, import.meta.url);
      ajv.addSchema(JSON.parse(readFileSync(url, 'utf8')));
    }
    const documents = {
      layout: files.find((file) => file.path === 'oci-layout'),
      index: files.find((file) => file.path === 'index.json'),
      manifest: files.find((file) => file.path.endsWith(image.manifestDigest.slice(7))),
      config: files.find((file) => file.path.endsWith(image.configDigest.slice(7))),
    };
    for (const [name, file] of Object.entries(documents)) {
      if (file === undefined) throw new Error(`no ${name}`);
      const value: unknown = JSON.parse((await collect(file.open())).toString());
      const valid = ajv.validate(`https://varve.test/oci/${name}.json`, value);
      expect(ajv.errors, name).toBeNull();
      expect(valid).toBe(true);
    }
    // The schemas do refuse: what the specification requires is missing here.
    expect(ajv.validate('https://varve.test/oci/manifest.json', { schemaVersion: 2, layers: [] })).toBe(
      false,
    );
  });

  it('give an archive that skopeo takes, by its name', async () => {
    const file = join(root, 'app.tar') as HostPath;
    await writeStreamTo(file, writeOciArchive([await toWrite()]));
    const target = join(root, 'copied');
    await exec(['skopeo', 'copy', '--quiet', `oci-archive:${file}:latest`, `dir:${target}`]);
    const copied = JSON.parse(readFileSync(join(target, 'manifest.json'), 'utf8'));
    expect(copied).toEqual(image.manifest);
  });

  it('give a folder that skopeo takes', async () => {
    const folder = join(root, 'layout') as HostPath;
    await writeArchiveFolder(ociLayoutFiles([await toWrite()]), folder);
    const { stdout } = await exec(['skopeo', 'inspect', '--raw', `oci:${folder}:v1`]);
    expect(JSON.parse(stdout)).toEqual(image.manifest);
  });

  it('a folder that is a layout already keeps its other images', async () => {
    const folder = join(root, 'layout') as HostPath;
    const named = async (...names: string[]) => ociLayoutFiles([{ ...(await toWrite()), names }]);
    const listed = () => {
      const { manifests } = parseIndex(readFileSync(join(folder, 'index.json')));
      return manifests.map(({ annotations }) => annotations?.['io.containerd.image.name']);
    };
    await writeLayoutFolder(await named(APP), folder);
    await writeLayoutFolder(await named(MINE), folder);
    await writeLayoutFolder(await named(), folder);
    await writeLayoutFolder(await named(APP), folder);
    await writeLayoutFolder(await named(), folder);
    expect(listed()).toEqual([MINE, APP, undefined]);
    writeFileSync(join(folder, 'index.json'), '{');
    await expect(writeLayoutFolder(await named(APP), folder)).rejects.toMatchObject({
      code: 'image-invalid',
    });
  });
});

describe('writeDockerArchive', () => {
  it('gives an archive that skopeo takes in Docker form, by its short name', async () => {
    const file = join(root, 'app.tar') as HostPath;
    await writeStreamTo(file, writeDockerArchive([await toWrite()]));
    const { stdout } = await exec([
      'skopeo',
      'inspect',
      '--config',
      '--raw',
      `docker-archive:${file}:app:latest`,
    ]);
    expect(digestOf(stdout)).toBe(image.configDigest);
    await exec([
      'skopeo',
      'copy',
      '--quiet',
      `docker-archive:${file}:localhost:5000/mine:v1`,
      `dir:${root}/copied`,
    ]);
  });

  it('fails where a layer gives other bytes than it announced', async () => {
    const broken = { ...(await toWrite()) };
    const [first, ...rest] = broken.layers;
    if (first === undefined) throw new Error('no layer');
    const short = { ...first, open: () => stream(Buffer.from('short')) };
    await expect(collect(writeDockerArchive([{ ...broken, layers: [short, ...rest] }]))).rejects.toThrow();
  });
});

describe('an archive of a layer that is gone', () => {
  it('fails with layer-missing instead of a short archive', async () => {
    const written = await toWrite();
    const compressed = layers[1]?.descriptor.digest;
    if (compressed === undefined) throw new Error('no layer');
    await store.blobs.remove(compressed);
    await expect(collect(writeOciArchive([written]))).rejects.toMatchObject({ code: 'layer-missing' });
  });
});

describe('loadArchive', () => {
  it.each(['oci', 'docker'] as const)('reads the %s archive back: same digests, same names', async (form) => {
    const write = form === 'oci' ? writeOciArchive : writeDockerArchive;
    const bytes = await collect(write([await toWrite()]));
    expect(await load(bytes)).toEqual([image]);
    expect(await load(gzipSync(bytes))).toEqual([image]);
  });

  it("reads skopeo's docker-archive, as old versions of Docker wrote it", async () => {
    const folder = join(root, 'layout') as HostPath;
    await writeArchiveFolder(ociLayoutFiles([await toWrite()]), folder);
    const file = join(root, 'old.tar');
    await exec(['skopeo', 'copy', '--quiet', `oci:${folder}:latest`, `docker-archive:${file}:app:1`]);
    const [loaded, ...others] = await load(readFileSync(file));
    expect(others).toEqual([]);
    expect(loaded?.names).toEqual(['docker.io/library/app:1']);
    expect(loaded?.config.rootfs).toEqual(image.config.rootfs);
    expect(loaded?.config.config).toMatchObject({ Cmd: ['/hello'] });
  });

  it('follows the links between equal layers of old archives', async () => {
    const tar = await collect((layers[0] as Layer).open());
    const config = Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        rootfs: { type: 'layers', diff_ids: [digestOf(tar), digestOf(tar)] },
      }),
    );
    const list = [{ Config: 'c.json', RepoTags: ['app:2'], Layers: ['one/layer.tar', 'two/layer.tar'] }];
    const entries = [
      entry('one/layer.tar', tar),
      entry('two/layer.tar', Buffer.alloc(0), '../one/layer.tar'),
      entry('c.json', config),
      entry('manifest.json', Buffer.from(JSON.stringify(list))),
    ];
    const [loaded] = await load(Buffer.concat([...entries, Buffer.alloc(1024)]));
    expect(loaded?.manifest.layers.map((layer) => layer.digest)).toEqual([digestOf(tar), digestOf(tar)]);
  });

  it('chooses the platform of an index and leaves attestations alone', async () => {
    const written = await toWrite();
    const arm = Buffer.from(
      JSON.stringify({ os: 'linux', architecture: 'arm64', rootfs: { type: 'layers', diff_ids: [] } }),
    );
    const armManifest = encodeManifest({ config: arm, layers: [] });
    const files = ociLayoutFiles([
      { ...written, names: [APP] },
      { manifest: armManifest, config: arm, layers: [], names: [APP] },
    ]);
    const bytes = await collect(tarOf(files));
    expect((await load(bytes)).map((one) => one.configDigest)).toEqual([image.configDigest]);
    const forArm = await load(bytes, { os: 'linux', architecture: 'arm64' });
    expect(forArm.map((one) => one.configDigest)).toEqual([digestOf(arm)]);
  });

  const INDEX = { schemaVersion: 2, manifests: [] };
  it.each([
    ['neither index.json nor manifest.json', { other: 'x' }],
    ['an index without images', { 'index.json': JSON.stringify(INDEX) }],
    ['an index that is no JSON', { 'index.json': '{' }],
    ['a manifest that is not there', { 'index.json': JSON.stringify({ manifests: [descriptorOf('x')] }) }],
    ['a manifest.json without Layers', { 'manifest.json': '[{"Config":"c.json"}]' }],
    [
      'a layer that is not there',
      { 'c.json': '{}', 'manifest.json': '[{"Config":"c.json","Layers":["l.tar"]}]' },
    ],
    [
      'a configuration that is none',
      { 'c.json': '{}', 'manifest.json': '[{"Config":"c.json","Layers":[]}]' },
    ],
  ])('refuses an archive with %s', async (_what, files) => {
    const plan = Object.entries(files).map(([path, text]) => bytesFile(path, Buffer.from(String(text))));
    await expect(load(await collect(tarOf(plan)))).rejects.toMatchObject({ code: 'image-invalid' });
  });

  it('refuses a blob that is not what its name says', async () => {
    const files = dockerArchiveFiles([await toWrite()]).map((file) =>
      file.path.endsWith(layers[1]?.descriptor.digest.slice(7) ?? '')
        ? bytesFile(file.path, Buffer.from('evil'))
        : file,
    );
    await expect(load(await collect(tarOf(files)))).rejects.toMatchObject({ code: 'digest-mismatch' });
  });

  it('refuses a layer that is not the one of the configuration', async () => {
    const other = await store.addLayer({ evil: 'x' });
    const written = await toWrite();
    const swapped = [other, written.layers[1] as Layer];
    const manifest = encodeManifest({
      config: written.config,
      layers: swapped.map((layer) => layer.descriptor),
    });
    const bytes = await collect(writeOciArchive([{ ...written, manifest, layers: swapped }]));
    await expect(load(bytes)).rejects.toMatchObject({ code: 'image-invalid' });
  });

  it.each(['../../etc/passwd', 'blobs/../../x.tar', '..'])('refuses the entry %j', async (name) => {
    const tar = Buffer.concat([entry(name, Buffer.from('x')), Buffer.alloc(1024)]);
    await expect(load(tar)).rejects.toMatchObject({ code: 'layer-refused' });
  });

  it('refuses a ring of links, a cut archive and a huge document', async () => {
    const list = Buffer.from('[{"Config":"a.json","Layers":[]}]');
    const ring = [
      entry('a.json', Buffer.alloc(0), 'b.json'),
      entry('b.json', Buffer.alloc(0), 'a.json'),
      entry('manifest.json', list),
    ];
    await expect(load(Buffer.concat(ring))).rejects.toMatchObject({ code: 'layer-refused' });
    const whole = await collect(writeOciArchive([await toWrite()]));
    await expect(load(whole.subarray(0, whole.length / 2))).rejects.toMatchObject({ code: 'layer-refused' });
    await expect(load(entry('manifest.json', Buffer.alloc(5_000_000, ' ')))).rejects.toMatchObject({
      code: 'layer-refused',
    });
  });
});

describe('writeStreamTo', () => {
  it('leaves an existing file as it was when the stream fails', async () => {
    const file = join(root, 'out.tar') as HostPath;
    await writeStreamTo(file, stream(Buffer.from('old')));
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('new');
      throw new Error('no more');
    }
    await expect(writeStreamTo(file, broken())).rejects.toThrow('no more');
    expect(readFileSync(file, 'utf8')).toBe('old');
  });
});

describe('tarOf', () => {
  it('writes folders first and the contents in order', async () => {
    const tar = await collect(
      tarOf([bytesFile('a/b/c', Buffer.from('1')), bytesFile('d', Buffer.alloc(100_000))]),
    );
    const names: string[] = [];
    for await (const one of readTar(stream(tar), DEFAULT_UNPACK_LIMITS))
      names.push(`${one.type} ${one.name} ${one.size}`);
    expect(names).toEqual(['dir a/ 0', 'dir a/b/ 0', 'file a/b/c 1', 'file d 100000']);
  });
});

function descriptorOf(content: string) {
  return {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: digestOf(content),
    size: content.length,
  };
}

function entry(name: string, content: Buffer, linkName?: string): Buffer {
  const mtime = { sec: 0, nsec: 0 };
  const header = { name: name as ImagePath, mode: 0o644, uid: 0, gid: 0, size: content.length, mtime };
  const head = encodeTarHeader(
    linkName === undefined ? { ...header, typeflag: '0' } : { ...header, typeflag: '2', linkName },
  );
  return Buffer.concat([head, content, Buffer.alloc(paddingOf(content.length))]);
}
