import { readFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';

/** What figures depend on beside the program. */
export interface Machine {
  readonly processor: string;
  readonly processors: number;
  readonly memoryGiB: number;
  /** `uname -r`. */
  readonly kernel: string;
  /** `PRETTY_NAME` of os-release(5). */
  readonly system: string;
  readonly node: string;
}

export async function describeMachine(): Promise<Machine> {
  const system = await readFile('/etc/os-release', 'utf8').catch(() => '');
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    processors: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    system: /^PRETTY_NAME="?([^"\n]*)/m.exec(system)?.[1] ?? 'unknown',
    node: process.versions.node,
  };
}
