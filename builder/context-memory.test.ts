import { lstatSync, mkdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fingerprint, openFileIndex, type Selection } from '../cache/index.ts';
import {
  digestOf,
  type FileLooks,
  type HostPath,
  joinRows,
  type LookedFolder,
  ROOT_PATH,
  rowOf,
  type StatRow,
} from '../core/index.ts';
import { ContextTree } from './context.ts';
import { NO_IGNORE_RULES } from './ignore.ts';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** As many are looked at in this thread before others are looked at in bulk. */
const FOLDERS = 1000;
const FILES_OF_ONE = 30;
const FILES = FOLDERS * FILES_OF_ONE;

let folder: HostPath;
let ofFile: StatRow;

beforeEach(async () => {
  folder = (await mkdtemp(join(tmpdir(), 'varve-memory-'))) as HostPath;
  for (let at = 0; at < FOLDERS; at += 1) mkdirSync(join(folder, `folder-${at}`));
  ofFile = rowOf(lstatSync(import.meta.filename, { bigint: true }));
});

afterEach(() => rm(folder, { recursive: true }));

function looked(): LookedFolder {
  const names = Array.from({ length: FILES_OF_ONE }, (_, at) => `file-${String(at).padStart(6, '0')}.txt`);
  return { names, rows: joinRows(names.map(() => ofFile)), targets: new Map() };
}

/** Folders full of files that nobody had to make. */
const looks: FileLooks = {
  list: async (folders) => folders.map(looked),
  read: async (files) => files.map(({ path }) => ({ digest: digestOf(path), after: ofFile })),
  end: () => undefined,
};

/** Bytes that are in use, those of buffers among them. */
function used(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

test('what is kept of a file of a context, of its digest and of its fact takes few bytes each', async () => {
  const index = await openFileIndex({
    root: folder,
    temporary: folder,
    context: folder,
    clock: Date.now,
    looks,
  });
  const tree = new ContextTree({
    folder,
    ignore: NO_IGNORE_RULES,
    digestFiles: (files) => index.digests(files),
    looks,
  });
  const before = used();
  await tree.readAhead(ROOT_PATH);
  const withRows = used();
  const { facts } = await fingerprint('the build context', await selections(tree));
  const withFacts = used();
  expect([...facts]).toHaveLength(FILES);
  // Row and name.
  expect((withRows - before) / FILES).toBeLessThan(220);
  // Fact, digest in the tree, row and path in the index.
  expect((withFacts - withRows) / FILES).toBeLessThan(360);
});

async function selections(tree: ContextTree): Promise<readonly Selection[]> {
  const found: Selection[] = [];
  for (const { path } of await tree.list(ROOT_PATH)) {
    for (const entry of await tree.list(path)) found.push({ tree, from: entry.path, to: entry.path, entry });
  }
  return found;
}
