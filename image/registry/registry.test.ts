import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { digestOf, type HostPath, MEDIA_TYPE } from '../../core/index.ts';
import { exec, type RunningRegistry, startRegistry } from '../../fixtures/index.ts';
import type { Registry, StoredImage, TransferProgress } from '../contract.ts';
import { compressLayer } from '../layers.ts';
import {
  collect,
  createTestStore,
  reference,
  removeFolder,
  type TestStore,
  temporaryFolder,
} from '../testing.ts';
import type { Credentials } from './credentials.ts';
import { createRegistry } from './registry.ts';

const AMD64 = { os: 'linux', architecture: 'amd64' };
/** htpasswd(1) for user `varve`, password `secret`, by crypt(3). */
const HTPASSWD = 'varve:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n';

let server: RunningRegistry;
let root: HostPath;
let store: TestStore;
let image: StoredImage;

beforeAll(async () => {
  server = await startRegistry();
});
afterAll(() => server[Symbol.asyncDispose]());

beforeEach(async () => {
  root = temporaryFolder();
  store = createTestStore(root);
  const layers = [
    await store.addLayer({ 'etc/a': 'x'.repeat(700_000), unique: String(Math.random()) }),
    await compressLayer(
      await store.addLayer({ 'etc/b': String(Math.random()) }),
      { compression: 'gzip' },
      store,
    ),
  ];
  image = await store.addImage(layers, []);
});
afterEach(() => removeFolder(root));

function client(credentials?: Credentials, config = {}): Registry {
  return createRegistry({ credentials: { get: async () => credentials }, config, userAgent: 'varve-test' });
}

async function push(registry: Registry, name: string, options: Parameters<Registry['push']>[2] = {}) {
  return registry.push(
    reference(name),
    {
      manifest: await store.blobs.read(image.manifestDigest),
      config: await store.blobs.read(image.configDigest),
      layers: await store.images.layersOf(image),
    },
    options,
  );
}

function states(): { readonly onProgress: TransferProgress; readonly seen: Map<string, string[]> } {
  const seen = new Map<string, string[]>();
  const onProgress: TransferProgress = ({ digest, state }) => {
    const list = seen.get(digest) ?? [];
    if (list.at(-1) !== state) list.push(state);
    seen.set(digest, list);
  };
  return { onProgress, seen };
}

describe("createRegistry with Debian's docker-registry", () => {
  it('push, then resolve and fetchBlobs give the same image back', async () => {
    const name = `${server.address}/team/app:v1`;
    expect(await push(client(), name)).toBe(image.manifestDigest);
    const resolved = await client().resolve(reference(name), AMD64);
    expect(resolved.manifestDigest).toBe(image.manifestDigest);
    expect(resolved.config).toEqual(image.config);
    const other = temporaryFolder();
    try {
      const target = createTestStore(other);
      const { onProgress, seen } = states();
      await client().fetchBlobs(reference(name), resolved.manifest.layers, {
        blobs: target.blobs,
        onProgress,
      });
      expect([...seen.values()]).toEqual([
        ['waiting', 'downloading', 'done'],
        ['waiting', 'downloading', 'done'],
      ]);
      const pulled = await target.images.put({
        config: resolved.configBytes,
        layers: resolved.manifest.layers,
        names: [],
        manifest: resolved.manifestBytes,
      });
      expect(pulled).toEqual(image);
      for (const layer of await target.images.layersOf(pulled)) {
        expect(digestOf(await collect(layer.open()))).toBe(layer.descriptor.digest);
      }
      const again = states();
      await client().fetchBlobs(reference(name), resolved.manifest.layers, {
        blobs: target.blobs,
        onProgress: again.onProgress,
      });
      expect([...again.seen.values()]).toEqual([['exists'], ['exists']]);
    } finally {
      removeFolder(other);
    }
  });

  it('push makes an image that skopeo copies', async () => {
    const name = `${server.address}/judged:latest`;
    await push(client(), name);
    const target = join(root, 'copied');
    await exec(['skopeo', 'copy', '--quiet', '--src-tls-verify=false', `docker://${name}`, `dir:${target}`]);
    expect(JSON.parse(readFileSync(join(target, 'manifest.json'), 'utf8'))).toEqual(image.manifest);
  });

  it("resolve reads an image in Docker's own form, as skopeo pushes it", async () => {
    await push(client(), `${server.address}/forms:oci`);
    const flags = ['--quiet', '--format', 'v2s2', '--src-tls-verify=false', '--dest-tls-verify=false'];
    const [from, to] = ['oci', 'docker'].map((tag) => `docker://${server.address}/forms:${tag}`);
    await exec(['skopeo', 'copy', ...flags, `${from}`, `${to}`]);
    const resolved = await client().resolve(reference(`${server.address}/forms:docker`), AMD64);
    expect(resolved.manifest.mediaType).toBe(MEDIA_TYPE.dockerManifest);
    expect(resolved.config.rootfs).toEqual(image.config.rootfs);
    const { manifest, configBytes: config, manifestBytes } = resolved;
    const kept = await store.images.put({
      config,
      layers: manifest.layers,
      names: [],
      manifest: manifestBytes,
    });
    expect(kept.manifestDigest).toBe(resolved.manifestDigest);
  });

  it('push skips blobs that are there and mounts those of a sibling', async () => {
    const first = states();
    await push(client(), `${server.address}/one:1`, { onProgress: first.onProgress });
    expect([...first.seen.values()].map((list) => list.at(-1))).toEqual(['done', 'done', 'done']);
    const second = states();
    await push(client(), `${server.address}/one:2`, { onProgress: second.onProgress });
    expect([...second.seen.values()]).toEqual([['exists'], ['exists'], ['exists']]);
    const third = states();
    const options = { mountFrom: ['not/there', 'one'], onProgress: third.onProgress };
    await push(client(), `${server.address}/two:1`, options);
    expect([...third.seen.values()].map((list) => list.at(-1))).toContain('mounted');
    expect((await client().resolve(reference(`${server.address}/two:1`), AMD64)).manifest).toEqual(
      image.manifest,
    );
  });

  it('resolve by digest takes that digest only', async () => {
    await push(client(), `${server.address}/app:d`);
    const byDigest = reference(`${server.address}/app@${image.manifestDigest}`);
    expect((await client().resolve(byDigest, AMD64)).manifestDigest).toBe(image.manifestDigest);
    const other = reference(`${server.address}/app@${digestOf('other')}`);
    await expect(client().resolve(other, AMD64)).rejects.toMatchObject({ code: 'image-unknown' });
  });

  it('resolve fails clearly for an unknown tag and an unknown repository', async () => {
    await push(client(), `${server.address}/app:v1`);
    for (const name of ['app:v2', 'nobody/has:this']) {
      const failure = client().resolve(reference(`${server.address}/${name}`), AMD64);
      await expect(failure).rejects.toMatchObject({ code: 'image-unknown' });
    }
  });

  it('resolve gives an image without an index for whatever platform is asked', async () => {
    await push(client(), `${server.address}/app:v1`);
    const arm = { os: 'linux', architecture: 'arm64' };
    const found = await client().resolve(reference(`${server.address}/app:v1`), arm);
    expect(found.config.architecture).toBe('amd64');
  });

  it('pulls from a mirror that is up, and from the registry where mirrors fail', async () => {
    await push(client(), `${server.address}/library/app:v1`);
    const mirrored = { 'registry.invalid': { mirrors: ['127.0.0.1:1', `http://${server.address}`] } };
    const byMirror = await client(undefined, mirrored).resolve(
      reference('registry.invalid/library/app:v1'),
      AMD64,
    );
    expect(byMirror.manifestDigest).toBe(image.manifestDigest);
    const broken = { [server.address]: { mirrors: ['127.0.0.1:1', 'http://127.0.0.1:1/path'] } };
    const direct = await client(undefined, broken).resolve(
      reference(`${server.address}/library/app:v1`),
      AMD64,
    );
    expect(direct.manifestDigest).toBe(image.manifestDigest);
  });

  it('fetchBlobs refuses a blob that was changed on the server, and keeps nothing of it', async () => {
    const name = `${server.address}/tampered:v1`;
    await push(client(), name);
    const [layer] = image.manifest.layers;
    if (layer === undefined) throw new Error('no layer');
    const hex = layer.digest.slice(7);
    const file = join(server.storage, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    const bytes = readFileSync(file);
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const other = temporaryFolder();
    try {
      const { blobs } = createTestStore(other);
      const fetching = client().fetchBlobs(reference(name), image.manifest.layers, { blobs });
      await expect(fetching).rejects.toMatchObject({ code: 'digest-mismatch' });
      expect(await blobs.has(layer.digest)).toBe(false);
      expect(readdirSync(join(other, 'blobs/ingest'))).toEqual([]);
    } finally {
      removeFolder(other);
    }
  });

  it('fails with the reason of the signal when aborted', async () => {
    const failure = push(client(), `${server.address}/app:v1`, {
      signal: AbortSignal.abort(new Error('enough')),
    });
    await expect(failure).rejects.toThrow('enough');
  });
});

describe('createRegistry with basic authentication', () => {
  let guarded: RunningRegistry;
  const right: Credentials = { kind: 'basic', username: 'varve', password: 'secret' };
  const wrong: Credentials = { kind: 'basic', username: 'varve', password: 'wrong' };

  beforeEach(async () => {
    writeFileSync(join(root, 'htpasswd'), HTPASSWD);
    guarded = await startRegistry({ htpasswd: join(root, 'htpasswd') });
  });
  afterEach(() => guarded[Symbol.asyncDispose]());

  it('pushes and pulls with the right password; ping tells right from wrong', async () => {
    const name = `${guarded.address}/app:v1`;
    await push(client(right), name);
    expect((await client(right).resolve(reference(name), AMD64)).manifestDigest).toBe(image.manifestDigest);
    await client().ping(guarded.address, right);
    await expect(client().ping(guarded.address, wrong)).rejects.toMatchObject({ code: 'registry-denied' });
    await expect(client().ping(guarded.address)).rejects.toMatchObject({ code: 'registry-denied' });
  });

  it.each([
    ['none', undefined],
    ['a wrong password', wrong],
  ])('fails with registry-denied with %s', async (_what, credentials) => {
    const name = reference(`${guarded.address}/app:v1`);
    const denied = { code: 'registry-denied', hint: expect.stringContaining('varve login') };
    await expect(client(credentials).resolve(name, AMD64)).rejects.toMatchObject(denied);
    await expect(push(client(credentials), `${guarded.address}/app:v1`)).rejects.toMatchObject(denied);
  });
});
