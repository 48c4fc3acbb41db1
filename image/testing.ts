/** A store with real diffs on disk for this room's tests. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  type Change,
  type DiffId,
  type HostPath,
  type ImagePath,
  parseReference,
  type Reference,
} from '../core/index.ts';
import { createBlobStore } from './blob-store.ts';
import type { DiffSource, Layer, StoredImage } from './contract.ts';
import { createImageStore } from './image-store.ts';
import { createLayerTable } from './layer-table.ts';
import { type LayerSources, layerFrom, plainDescriptor } from './layers.ts';
import { packLayer } from './pack-layer.ts';

export const MTIME = { sec: 1_600_000_000, nsec: 0 };

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

export function temporaryFolder(): HostPath {
  return mkdtempSync(join(tmpdir(), 'varve-image-')) as HostPath;
}

export function removeFolder(folder: HostPath): void {
  rmSync(folder, { recursive: true, force: true });
}

export function reference(text: string): Reference {
  const parsed = parseReference(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

export interface TestStore extends LayerSources {
  readonly root: HostPath;
  readonly images: ReturnType<typeof createImageStore>;
  /** Files by path become a diff on disk and its packed layer; no blob is made. */
  addLayer(files: Readonly<Record<string, string | Buffer>>, sourceDateEpoch?: number): Promise<Layer>;
  addImage(layers: readonly Layer[], names: readonly string[], more?: object): Promise<StoredImage>;
}

export function createTestStore(root: HostPath): TestStore {
  const blobs = createBlobStore({ root });
  const table = createLayerTable({ root });
  const diffs = new Map<DiffId, DiffSource>();
  const sources: LayerSources = { blobs, table, openDiff: async (diffId) => diffs.get(diffId) };
  const images = createImageStore({ ...sources, root });

  async function addLayer(
    files: Readonly<Record<string, string | Buffer>>,
    sourceDateEpoch?: number,
  ): Promise<Layer> {
    const folder = mkdtempSync(join(root, 'diff-')) as HostPath;
    const changes: Change[] = [];
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), content);
      const size = Buffer.byteLength(content);
      const base = { type: 'file', mode: 0o644, uid: 0, gid: 0, size, mtime: MTIME } as const;
      changes.push({ kind: 'set', entry: { ...base, path: path as ImagePath } });
    }
    const source = { changes, folder };
    const packed = await packLayer(source, sourceDateEpoch === undefined ? {} : { sourceDateEpoch });
    if (sourceDateEpoch !== undefined) await table.note(packed.diffId, { sourceDateEpoch });
    diffs.set(packed.diffId, source);
    return layerFrom(packed.diffId, plainDescriptor(packed), sources);
  }

  async function addImage(
    layers: readonly Layer[],
    names: readonly string[],
    more: object = {},
  ): Promise<StoredImage> {
    const config = {
      created: '2020-09-13T12:26:40Z',
      architecture: 'amd64',
      os: 'linux',
      config: { Cmd: ['/hello'], Env: ['PATH=/bin'] },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: layers.map((_, at) => ({ created: '2020-09-13T12:26:40Z', created_by: `COPY ${at}` })),
      ...more,
    };
    return images.put({
      config: Buffer.from(JSON.stringify(config)),
      layers: layers.map((layer) => layer.descriptor),
      names,
    });
  }
  return { ...sources, root, images, addLayer, addImage };
}
