import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Digest, digestHex, digestOf, type HostPath } from '../core/index.ts';
import { machineErrorOf } from '../fixtures/machine-error.ts';
import { createBlobStore } from './blob-store.ts';
import { readOciLayout } from './oci-layout.ts';
import { temporaryFolder } from './testing.ts';

const AMD64 = { os: 'linux', architecture: 'amd64' } as const;
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';

let root: HostPath;
let layout: HostPath;

beforeEach(() => {
  root = temporaryFolder();
  layout = join(root, 'layout') as HostPath;
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
});
afterEach(() => rmSync(root, { recursive: true }));

function blob(content: string, mediaType: string) {
  const digest = digestOf(content);
  writeFileSync(pathOf(digest), content);
  return { mediaType, digest, size: content.length };
}

const pathOf = (digest: Digest): string => join(layout, 'blobs/sha256', digestHex(digest));

/** An image whose one layer holds `text`. */
function image(text: string, architecture = 'amd64') {
  const layer = blob(text, 'application/vnd.oci.image.layer.v1.tar');
  const rootfs = { type: 'layers', diff_ids: [layer.digest] };
  const config = blob(
    JSON.stringify({ os: 'linux', architecture, rootfs }),
    'application/vnd.oci.image.config.v1+json',
  );
  const manifest = { schemaVersion: 2, mediaType: MANIFEST, config, layers: [layer] };
  return { layer, config, descriptor: blob(JSON.stringify(manifest), MANIFEST) };
}

function index(...manifests: readonly object[]): void {
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
}

const read = (wanted: { readonly tag?: string; readonly digest?: Digest } = {}) =>
  readOciLayout(layout, { blobs: createBlobStore({ root }), platform: AMD64, ...wanted });

test('readOciLayout finds an image by tag, as latest, as the only one, and by digest', async () => {
  const [one, two] = [image('one'), image('two')];
  const name = (ref: string) => ({ annotations: { 'org.opencontainers.image.ref.name': ref } });
  index({ ...one.descriptor, ...name('v1') }, { ...two.descriptor, ...name('host/repo:latest') });
  expect((await read({ tag: 'v1' })).manifestDigest).toBe(one.descriptor.digest);
  expect((await read()).manifestDigest).toBe(two.descriptor.digest);
  expect((await read({ digest: one.descriptor.digest })).manifest.layers[0]?.digest).toBe(one.layer.digest);
  expect((await machineErrorOf(read({ tag: 'v2' }))).message).toMatch(/has no image v2/);
  index(one.descriptor);
  expect((await read()).manifestDigest).toBe(one.descriptor.digest);
  expect(await createBlobStore({ root }).size(one.layer.digest)).toBe(3);
});

test('readOciLayout takes this platform out of an index', async () => {
  const [amd64, arm64] = [image('amd64'), image('arm64', 'arm64')];
  const manifests = [
    { ...arm64.descriptor, platform: { os: 'linux', architecture: 'arm64' } },
    { ...amd64.descriptor, platform: AMD64 },
  ];
  index(blob(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests }), INDEX));
  expect((await read()).manifestDigest).toBe(amd64.descriptor.digest);
  index(blob(JSON.stringify({ schemaVersion: 2, manifests: manifests.slice(0, 1) }), INDEX));
  expect(await machineErrorOf(read())).toMatchObject({ code: 'no-platform' });
});

test('readOciLayout refuses what is damaged, missing or no layout', async () => {
  expect(await machineErrorOf(read())).toMatchObject({ code: 'layout-missing' });
  const one = image('one');
  index(one.descriptor);
  writeFileSync(pathOf(one.layer.digest), 'two');
  expect(await machineErrorOf(read())).toMatchObject({ code: 'digest-mismatch' });
  rmSync(pathOf(one.layer.digest));
  expect((await machineErrorOf(read())).message).toMatch(/lacks the blob/);
  writeFileSync(pathOf(one.descriptor.digest), '{}');
  expect((await machineErrorOf(read())).message).toMatch(/is damaged/);
  index({ ...one.descriptor, digest: 'sha256:../../x' });
  expect(await machineErrorOf(read())).toMatchObject({ code: 'image-invalid' });
  writeFileSync(join(layout, 'index.json'), 'x');
  expect(await machineErrorOf(read())).toMatchObject({ code: 'image-invalid' });
});
