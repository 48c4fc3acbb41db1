import { readdir, readFile } from 'node:fs/promises';
import { type Command, type TimedOptions, timed } from './command.ts';

export interface UsedMemory {
  readonly ms: number;
  /** The most that all of its processes held at once: the sum of their proportional shares (PSS), asked every 20 ms. */
  readonly peakMiB: number;
  /** The most that each process ever held (VmHWM), added up, as if all had done so at once and shared nothing. */
  readonly sumOfPeaksMiB: number;
}

const INTERVAL_MS = 20;
const KIB_IN_MIB = 1024;

/** Runs a command to its end and watches the memory of all processes that it starts, those of steps too: proc(5). */
export async function withMemory(command: Command, options: TimedOptions): Promise<UsedMemory> {
  const highest = new Map<number, number>();
  let peak = 0;
  let watching: Promise<void> | undefined;
  let isOver = false;
  const watch = async (root: number): Promise<void> => {
    while (!isOver) {
      let sum = 0;
      for (const pid of await descendants(root)) {
        const shared = await kibibytes(`/proc/${pid}/smaps_rollup`, 'Pss');
        const most = await kibibytes(`/proc/${pid}/status`, 'VmHWM');
        sum += shared;
        highest.set(pid, Math.max(most, highest.get(pid) ?? 0));
      }
      peak = Math.max(peak, sum);
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  };
  try {
    const ms = await timed(command, {
      ...options,
      onStart: (pid) => {
        watching = watch(pid);
      },
    });
    const sum = [...highest.values()].reduce((total, most) => total + most, 0);
    return { ms, peakMiB: inMiB(peak), sumOfPeaksMiB: inMiB(sum) };
  } finally {
    isOver = true;
    await watching;
  }
}

function inMiB(kib: number): number {
  return Math.round(kib / KIB_IN_MIB);
}

/** A process, its children, theirs and so on. A child of any thread is one. */
async function descendants(root: number): Promise<readonly number[]> {
  const found = [root];
  for (const pid of found) {
    const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
    for (const thread of threads) {
      const text = await readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '');
      found.push(...text.split(' ').filter(Boolean).map(Number));
    }
  }
  return found;
}

/** A line of proc(5) by its name; 0 where the process has ended. */
async function kibibytes(path: string, name: string): Promise<number> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
