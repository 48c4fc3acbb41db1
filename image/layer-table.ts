import { readFileSync } from 'node:fs';
import { type DiffId, digestHex, errnoOf, type HostPath, joinHost } from '../core/index.ts';
import type { LayerFacts, LayerTable } from './contract.ts';
import { diskError, writeWhole } from './durable.ts';
import { isDescriptor, isObject } from './json.ts';

/**
 * Facts below `root`/layers, one small JSON file for each diffId. They only save work: a file that does not parse
 * counts as "nothing known". Two processes that note at once may lose one of the notes, never mix them.
 */
export function createLayerTable({ root }: { readonly root: HostPath }): LayerTable {
  const fileOf = (diffId: DiffId): HostPath => joinHost(root, 'layers', `${digestHex(diffId)}.json`);

  async function get(diffId: DiffId): Promise<LayerFacts> {
    try {
      // At once: it is small, and to hand a read over to another thread takes longer than it does.
      return factsOf(readFileSync(fileOf(diffId), 'utf8'));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return {};
      throw diskError(error, `reading what is known about layer ${diffId}`);
    }
  }

  async function note(diffId: DiffId, facts: LayerFacts): Promise<void> {
    await writeWhole(fileOf(diffId), JSON.stringify({ ...(await get(diffId)), ...facts }));
  }

  return { get, note };
}

function factsOf(text: string): LayerFacts {
  const value = parse(text);
  if (!isObject(value)) return {};
  const { sourceDateEpoch, gzip, zstd } = value;
  return {
    ...(typeof sourceDateEpoch === 'number' ? { sourceDateEpoch } : {}),
    ...(isDescriptor(gzip) ? { gzip } : {}),
    ...(isDescriptor(zstd) ? { zstd } : {}),
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
