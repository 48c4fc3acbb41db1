import { accessSync, constants, lstatSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { HostLooks, type UnchangedBuild } from '../builder/index.ts';
import type { NotedOutput, TimeSpan } from '../cache/index.ts';
import {
  errnoOf,
  type HostFact,
  type HostPath,
  joinRows,
  ROOT_PATH,
  rowBytes,
  rowOf,
  type StoreFact,
} from '../core/index.ts';
import { networkHelperPlaces } from '../runner/index.ts';
import type { Environment } from './argv/pairs.ts';
import { configFiles } from './config.ts';
import { type EngineParts, programsOf } from './engine-parts.ts';
import { isInUserNamespace } from './user-namespace.ts';

/** A build in which nothing had to be done, how it was called, and what it told. */
export interface NotableBuild {
  readonly unchanged: UnchangedBuild;
  readonly call: Uint8Array;
  readonly output: readonly NotedOutput[];
  readonly during?: TimeSpan | undefined;
}

/** Variables that bring other code into a process, or have it tell what it does. */
const MEDDLERS = [
  'NODE_OPTIONS',
  'NODE_V8_COVERAGE',
  'NODE_DEBUG',
  'NODE_DEBUG_NATIVE',
  'LD_PRELOAD',
  'LD_AUDIT',
];

/** See `Engine.noteUnchanged`. A disk that takes no note does not fail a build that is done. */
export async function noteUnchanged(
  parts: EngineParts,
  env: Environment,
  { unchanged, call, output, during }: NotableBuild,
): Promise<void> {
  if (parts.hasWarned()) return;
  const { host, hits, report } = unchanged;
  try {
    const around = lookAround(parts.nativeProgram, env).facts(report.startedAtMs);
    const images = parts.images.facts();
    const diffs = await parts.snapshotter.facts();
    if (around === undefined || images === undefined || diffs === undefined) return;
    const uses = [...hits.values()].map(({ record, slot }) => ({ key: record.key, slot }));
    parts.cache.noteUnchanged(
      {
        head: { notedAtMs: parts.now(), report, uses },
        call,
        boot: readFileSync('/proc/sys/kernel/random/boot_id', 'latin1'),
        store: [...images, ...diffs, ...ownIds()],
        host: [...around, ...host] satisfies readonly HostFact[],
        output,
        during,
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
  // What is loaded into Node beside varve may be there for what it does.
  if (MEDDLERS.some((name) => (env[name] ?? '') !== '')) looks.miss();
  if (native === undefined || entry.endsWith('.ts') || !program.startsWith('/')) looks.miss();
  if (isInUserNamespace()) lookForNetwork(looks, env);
  for (const path of [program, native ?? '', ...configFiles(env)]) looks.file(path);
  lookInto(looks, dirname(entry));
  return looks;
}

function canReach(folder: string): boolean {
  try {
    accessSync(folder, constants.X_OK);
    return true;
  } catch (error) {
    return errnoOf(error) !== 'EACCES';
  }
}

/** All that lies in a folder. */
function lookInto(looks: HostLooks, folder: string): void {
  const row = rowOf(lstatSync(folder, { bigint: true }));
  const names = readdirSync(folder);
  const rows = joinRows(names.map((name) => rowOf(lstatSync(join(folder, name), { bigint: true }))));
  const place = { path: folder as HostPath, real: realpathSync(folder) as HostPath };
  looks.tree(place, () => [{ path: ROOT_PATH, row, names, rows }]);
}

/** Which ids there are, for an ordinary user: steps may come to something else where there are others. */
function ownIds(): readonly StoreFact[] {
  if (!isInUserNamespace()) return [];
  return ['/proc/self/uid_map', '/proc/self/gid_map'].map((path) => ({
    kind: 'content',
    path,
    bytes: readFileSync(path),
  }));
}

/** What decides whether an ordinary user is told that commands have the machine's network. */
function lookForNetwork(looks: HostLooks, env: Environment): void {
  const { device, programs } = networkHelperPlaces(programsOf(env).searchPath);
  const stat = lstatSync(device, { bigint: true, throwIfNoEntry: false });
  const folder = dirname(device) as HostPath;
  if (stat === undefined) looks.file(device);
  else {
    const own = lstatSync(folder, { bigint: true });
    const looked = [
      { path: ROOT_PATH, row: rowOf(own), names: [basename(device)], rows: rowBytes(rowOf(stat)) },
    ];
    looks.tree({ path: folder, real: folder }, () => looked);
  }
  // Folders that are closed to this user have none for it.
  for (const path of programs) if (canReach(dirname(path))) looks.file(path);
}
