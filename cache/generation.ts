import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type HostPath, joinHost } from '../core/index.ts';

const FORM = /^[0-9a-f]{32}$/;

/**
 * A name for what the store can answer: as long as it is the same, no record was taken away or replaced. It is kept in a file of the store,
 * which whoever is about to take something away writes anew before and after. A file that is torn is no generation.
 */
export class Generation {
  readonly #file: HostPath;

  constructor(root: HostPath) {
    this.#file = joinHost(root, 'generation');
  }

  /** Undefined where there is none, or it cannot be read. */
  read(): string | undefined {
    try {
      const text = readFileSync(this.#file, 'latin1');
      return FORM.test(text) ? text : undefined;
    } catch {
      return undefined;
    }
  }

  /** Begins a new one. Where the disk has no room for its name there is none, which is as good. */
  renew(): void {
    try {
      // In place: half of it fits no note either. Unlike a rename it leaves nothing behind where its process dies.
      writeFileSync(this.#file, randomBytes(16).toString('hex'), { mode: 0o600 });
    } catch {
      rmSync(this.#file, { force: true });
    }
  }

  /** Runs `work`, which takes records away, between two generations. */
  around<T>(work: () => T): T {
    this.renew();
    try {
      return work();
    } finally {
      this.renew();
    }
  }
}
