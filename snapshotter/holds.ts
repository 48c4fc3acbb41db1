import type { Diff } from './diff.ts';
import type { DiffStore } from './diff-store.ts';

/** Keeps uncommitted data folders while something stands on them, whatever becomes of their snapshots. */
export class Holds {
  readonly #store: DiffStore;
  readonly #counts = new Map<string, number>();
  readonly #doomed = new Map<string, Diff>();

  constructor(store: DiffStore) {
    this.#store = store;
  }

  hold(diffs: readonly Diff[]): void {
    for (const { uid } of diffs) this.#counts.set(uid, (this.#counts.get(uid) ?? 0) + 1);
  }

  async release(diffs: readonly Diff[]): Promise<void> {
    for (const diff of diffs) {
      const count = (this.#counts.get(diff.uid) ?? 0) - 1;
      if (count > 0) this.#counts.set(diff.uid, count);
      else this.#counts.delete(diff.uid);
    }
    await this.#removeFree();
  }

  /** Removes a diff that is not committed as soon as nothing stands on it. */
  async doom(diff: Diff): Promise<void> {
    this.#doomed.set(diff.uid, diff);
    await this.#removeFree();
  }

  async #removeFree(): Promise<void> {
    const free = [...this.#doomed.values()].filter((diff) => !this.#counts.has(diff.uid));
    for (const diff of free) this.#doomed.delete(diff.uid);
    await this.#store.discard(free.map((diff) => diff.home));
  }
}
