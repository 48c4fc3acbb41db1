import { statfsSync, statSync } from 'node:fs';
import { SETTLED_MS } from '../cache/index.ts';
import {
  areSettledRows,
  fsPath,
  type HostFact,
  type HostPath,
  type LookedRows,
  type LookedTree,
  rowBytes,
  rowOf,
  type StatRow,
} from '../core/index.ts';

/**
 * What changes nothing is believed only of file systems that give each change a time of its own, on this machine: statfs(2), f_type
 * of ext, xfs, btrfs, tmpfs, overlayfs, f2fs, bcachefs and ZFS.
 */
const TRUSTED = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630, 0xf2f52010, 0xca451a4e, 0x2fc12fc1,
]);

type Place = Pick<LookedTree, 'path' | 'real'>;

/** All that a build looks at on the machine outside of the store, so that it can be told later whether any of it has changed. */
export class HostLooks {
  readonly #files = new Map<HostPath, StatRow | undefined>();
  readonly #trees: { readonly place: Place; readonly looked: () => readonly LookedRows[] | undefined }[] = [];
  #isWhole = true;

  /** To be called before the file at `path` is read, or found to be absent. */
  file(path: string): void {
    if (this.#files.has(path as HostPath)) return;
    try {
      const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
      // Of a pipe or a device nothing tells whether it says the same again.
      if (stat !== undefined && !stat.isFile()) this.miss();
      this.#files.set(path as HostPath, stat === undefined ? undefined : rowOf(stat));
    } catch {
      this.miss();
    }
  }

  /** A folder of which what was `looked` at is asked when the build is over. */
  tree(place: Place, looked: () => readonly LookedRows[] | undefined): void {
    this.#trees.push({ place, looked });
  }

  /** Something is looked at that cannot be told of. */
  miss(): void {
    this.#isWhole = false;
  }

  /** Undefined where a change could go unnoticed. @param beganMs when the build began, ms since 1970 */
  facts(beganMs: number): readonly HostFact[] | undefined {
    if (!this.#isWhole) return undefined;
    const beforeNs = (beganMs - SETTLED_MS) * 1e6;
    const facts: HostFact[] = [];
    for (const [path, row] of this.#files) {
      if (row !== undefined && !(isTrusted(path) && areSettledRows(rowBytes(row), row, beforeNs)))
        return undefined;
      facts.push(row === undefined ? { kind: 'absent', path } : { kind: 'file', path, row });
    }
    for (const { place, looked } of this.#trees) {
      const folders = looked();
      if (folders === undefined || !isTrusted(place.real)) return undefined;
      const [first] = folders;
      for (const { row, rows } of folders) {
        const device = first?.row ?? row;
        if (!areSettledRows(rowBytes(row), device, beforeNs) || !areSettledRows(rows, device, beforeNs))
          return undefined;
      }
      facts.push({ kind: 'tree', ...place, folders });
    }
    return facts;
  }
}

function isTrusted(path: HostPath): boolean {
  try {
    return TRUSTED.has(statfsSync(fsPath(path)).type);
  } catch {
    return false;
  }
}
