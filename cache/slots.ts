import { promisify } from 'node:util';
import { zstdCompress, zstdDecompressSync } from 'node:zlib';
import { LRUCache } from 'lru-cache';
import type { Digest, StepKey } from '../core/index.ts';
import { keyPreimage } from './canonical.ts';
import type { MissReason, StepQuery, TreeInput } from './contract.ts';
import { bytesOf, DamagedRow, type Database, jsonOf, textOf } from './database.ts';
import { firstDifference, type PastQuery } from './explain.ts';
import { FactList } from './fact-list.ts';

const compress = promisify(zstdCompress);

/** Slots that are remembered; the least recently used go first. */
const MAX_SLOTS = 2000;

/** Bytes of facts that are kept: several steps often take in the same files. */
const MAX_CACHED_BYTES = 32 * 1024 * 1024;

interface Listing {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}

/**
 * What each slot came to last: the preimage of its key, and the file facts of its inputs. A slot moves on when its step
 * was a hit or has run, not when it failed, so that a miss is told from the last time that it worked.
 */
export class Slots {
  readonly #database: Database;
  readonly #facts = new LRUCache<Digest, FactList>({
    maxSize: MAX_CACHED_BYTES,
    sizeCalculation: ({ size }) => size + 1,
  });

  constructor(database: Database) {
    this.#database = database;
  }

  /** Why a look-up of `query`, whose key is `key`, found nothing. */
  why(query: StepQuery, key: StepKey): MissReason {
    return this.#database.reading(() => this.#why(query, key));
  }

  #why(query: StepQuery, key: StepKey): MissReason {
    const row = this.#database.get('SELECT key, preimage FROM slots WHERE slot = ?', query.slot);
    if (row === undefined) return { reason: 'never-ran' };
    if (textOf(row, 'key') === key) return { reason: 'evicted' };
    const past = jsonOf<PastQuery>(row, 'preimage');
    // Without any difference the preimage is one of another key version.
    const version = { reason: 'field-changed', field: 'version', before: '', after: '' } as const;
    return firstDifference(past, query, (digest) => this.#factsOf(digest)) ?? version;
  }

  /** Marks the slot as used; false where it came to another key last. To be called in a transaction. */
  touch(slot: string, key: StepKey, nowMs: number): boolean {
    const sql = 'UPDATE slots SET used_at = ? WHERE slot = ? AND key = ?';
    return this.#database.run(sql, nowMs, slot, key) > 0;
  }

  /** Packs the listings of `query` that are not stored yet. They are written with {@link write}. */
  async pack(query: StepQuery): Promise<readonly Listing[]> {
    const wanted = new Map<Digest, TreeInput>();
    for (const input of query.inputs) {
      if (!isListed(input)) continue;
      const stored = this.#database.get('SELECT 1 FROM listings WHERE digest = ?', input.digest);
      if (stored === undefined) wanted.set(input.digest, input);
    }
    return Promise.all(
      Array.from(wanted.values(), async ({ digest, facts }) => {
        this.#facts.set(digest, facts);
        return { digest, bytes: await compress(facts.bytes()) };
      }),
    );
  }

  /** Points the slot of `query` at `key`. To be called in a transaction. */
  write(
    query: StepQuery,
    listings: readonly Listing[],
    at: { readonly key: StepKey; readonly ms: number },
  ): void {
    const database = this.#database;
    const { slot, inputs } = query;
    for (const { digest, bytes } of listings) {
      database.run('INSERT OR IGNORE INTO listings (digest, facts) VALUES (?, ?)', digest, bytes);
    }
    database.run('DELETE FROM slots WHERE slot = ?', slot);
    database.run(
      'INSERT INTO slots (slot, key, preimage, used_at) VALUES (?, ?, ?, ?)',
      slot,
      at.key,
      keyPreimage(query),
      at.ms,
    );
    for (const { digest } of inputs) {
      database.run('INSERT OR IGNORE INTO slot_inputs (slot, digest) VALUES (?, ?)', slot, digest);
    }
    database.run(
      'DELETE FROM slots WHERE slot IN (SELECT slot FROM slots ORDER BY used_at DESC LIMIT -1 OFFSET ?)',
      MAX_SLOTS,
    );
    database.run(
      'DELETE FROM listings WHERE NOT EXISTS (SELECT 1 FROM slot_inputs WHERE slot_inputs.digest = listings.digest)',
    );
  }

  #factsOf(digest: Digest): FactList | undefined {
    const cached = this.#facts.get(digest);
    if (cached !== undefined) return cached;
    const row = this.#database.get('SELECT facts FROM listings WHERE digest = ?', digest);
    if (row === undefined) return undefined;
    const facts = unpack(bytesOf(row, 'facts'));
    if (facts?.digest !== digest) throw new DamagedRow(`the listing of ${digest} has another digest`);
    this.#facts.set(digest, facts);
    return facts;
  }
}

/** A snapshot that is taken as a whole is named by its ChainID, without a listing. */
function isListed({ digest, facts }: Pick<TreeInput, 'digest' | 'facts'>): boolean {
  return facts.size > 0 || facts.digest === digest;
}

function unpack(bytes: Uint8Array): FactList | undefined {
  try {
    return FactList.read(zstdDecompressSync(bytes));
  } catch (cause) {
    throw new DamagedRow('a listing cannot be unpacked', { cause });
  }
}
