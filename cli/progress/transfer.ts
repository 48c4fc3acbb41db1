import { type Digest, digestHex, unreachable } from '../../core/index.ts';
import type { TransferProgress } from '../../image/index.ts';

type Progress = Parameters<TransferProgress>[0];

/** Tells of blobs on their way as `docker pull` does without a terminal: one line whenever one changes its state. */
export class TransferLines {
  readonly #write: (line: string) => unknown;
  readonly #states = new Map<Digest, Progress['state']>();

  constructor(write: (line: string) => unknown) {
    this.#write = write;
  }

  handle(progress: Progress): void {
    const { digest, state } = progress;
    const before = this.#states.get(digest);
    if (before === state) return;
    this.#states.set(digest, state);
    this.#write(`${digestHex(digest).slice(0, 12)}: ${words(state, before)}`);
  }
}

function words(state: Progress['state'], before: Progress['state'] | undefined): string {
  switch (state) {
    case 'waiting':
      return 'Waiting';
    case 'downloading':
      return 'Downloading';
    case 'uploading':
      return 'Pushing';
    case 'exists':
      return 'Already exists';
    case 'mounted':
      return 'Mounted from another repository';
    case 'done':
      return before === 'uploading' ? 'Pushed' : 'Download complete';
    default:
      return unreachable(state);
  }
}
