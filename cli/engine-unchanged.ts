import { readFileSync } from 'node:fs';
import { HostLooks, type UnchangedBuild } from '../builder/index.ts';
import type { NotedOutput } from '../cache/index.ts';
import { errnoOf, type HostFact } from '../core/index.ts';
import type { Environment } from './argv/pairs.ts';
import { configFiles } from './config.ts';
import type { EngineParts } from './engine-parts.ts';
import { isInUserNamespace } from './user-namespace.ts';

/** A build in which nothing had to be done, how it was called, and what it told. */
export interface NotableBuild {
  readonly unchanged: UnchangedBuild;
  readonly call: Uint8Array;
  readonly output: readonly NotedOutput[];
}

/** See `Engine.noteUnchanged`. A disk that takes no note does not fail a build that is done. */
export async function noteUnchanged(
  parts: EngineParts,
  env: Environment,
  { unchanged, call, output }: NotableBuild,
): Promise<void> {
  if (parts.hasWarned() || isInUserNamespace()) return;
  const { host, records, report } = unchanged;
  const images = parts.images.facts();
  const around = lookAround(parts.nativeProgram, env).facts(report.startedAtMs);
  if (images === undefined || around === undefined) return;
  try {
    const diffs = await parts.snapshotter.facts();
    if (diffs === undefined) return;
    const keys = [...records.values()].map(({ key }) => key);
    parts.cache.noteUnchanged(
      {
        head: { notedAtMs: parts.now(), report, keys },
        call,
        boot: readFileSync('/proc/sys/kernel/random/boot_id', 'latin1'),
        store: [...images, ...diffs],
        host: [...around, ...host] satisfies readonly HostFact[],
        output,
      },
      parts.temporary,
    );
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
  }
}

/** What decides beside the command line what varve does: its own programs, and configuration. */
function lookAround(native: string | undefined, env: Environment): HostLooks {
  const looks = new HostLooks();
  const [, entry = ''] = process.argv;
  // Sources are many files; and a program that is found by way of PATH may be another one next time.
  const program = process.argv0;
  if (native === undefined || entry.endsWith('.ts') || !program.startsWith('/')) looks.miss();
  for (const path of [program, entry, native ?? '', ...configFiles(env)]) looks.file(path);
  return looks;
}
