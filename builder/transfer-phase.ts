import type { Digest } from '../core/index.ts';
import type { TransferProgress } from '../image/index.ts';
import type { TimelessEvent } from './solve.ts';

/** One transfer of several blobs, shown as one phase. Disposing of it ends the phase. */
export interface TransferPhase extends Disposable {
  readonly onProgress: TransferProgress;
}

/** Begins a phase that sums up the bytes of all blobs of one transfer. */
export function beginTransfer(emit: (event: TimelessEvent) => void, phase: string): TransferPhase {
  const blobs = new Map<Digest, { readonly current: number; readonly total: number }>();
  emit({ type: 'phase.started', phase, name: phase });
  return {
    onProgress: ({ digest, current, total, state }) => {
      const done = state === 'done' || state === 'exists' || state === 'mounted';
      blobs.set(digest, { current: done ? total : current, total });
      const sums = { current: 0, total: 0 };
      for (const blob of blobs.values()) {
        sums.current += blob.current;
        sums.total += blob.total;
      }
      emit({ type: 'phase.progress', phase, unit: 'bytes', ...sums });
    },
    [Symbol.dispose]: () => emit({ type: 'phase.finished', phase }),
  };
}

/** Begins a phase that shows the bytes of one file. Disposing of it ends the phase. */
export function beginFetch(
  emit: (event: TimelessEvent) => void,
  phase: string,
): Disposable & { readonly onBytes: (current: number, total?: number) => void } {
  emit({ type: 'phase.started', phase, name: phase });
  return {
    onBytes: (current, total) =>
      emit({
        type: 'phase.progress',
        phase,
        unit: 'bytes',
        current,
        ...(total === undefined ? {} : { total }),
      }),
    [Symbol.dispose]: () => emit({ type: 'phase.finished', phase }),
  };
}
