// `npm run fuzz [-- --seconds N] [TARGET ...]`: gives the native program made-up input, as root. Targets: see runner/testing/fuzz.c.
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { encodeNote, type UnchangedNote } from '../cache/index.ts';
import type { Change, Entry, HostPath, SandboxSpec } from '../core/index.ts';
import { DEFAULT_SHM_BYTES, imagePath, ROOT_PATH, ROOT_USER, rowBytes, rowOf } from '../core/index.ts';
import { WireWriter } from '../runner/native-wire.ts';
import { encodeSandbox } from '../runner/sandbox-wire.ts';
import { encodeManifest } from '../snapshotter/manifest.ts';
import { buildFuzzer } from './native-variants.ts';

export const FUZZ_TARGETS = ['spec', 'tree', 'files', 'note'] as const;
export type FuzzTarget = (typeof FUZZ_TARGETS)[number];

export interface FuzzOptions {
  readonly fuzzer: string;
  readonly target: FuzzTarget;
  readonly seconds: number;
  /** Where interesting inputs are kept from run to run; absent: they are not. */
  readonly corpus?: string;
}

/** What came of a run. `input` is the one that a sanitizer reported, or that took too long. */
export type FuzzEnd =
  | { readonly kind: 'quiet'; readonly runs: number }
  | { readonly kind: 'fault'; readonly log: string; readonly input: Buffer | undefined };

/** Runs the fuzzer on one target, starting from inputs that varve itself would make. */
export async function fuzz({ fuzzer, target, seconds, corpus }: FuzzOptions): Promise<FuzzEnd> {
  // The fuzzer changes its root to this folder: all its paths are relative.
  const home = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'varve-fuzz-'));
  try {
    const own = join(home, 'corpus');
    mkdirSync(own);
    if (corpus !== undefined && existsSync(corpus)) cpSync(corpus, own, { recursive: true });
    for (const [number, seed] of seeds(target).entries()) writeFileSync(join(own, `seed-${number}`), seed);
    const limits = [`-max_total_time=${seconds}`, '-timeout=20', '-rss_limit_mb=1024', '-max_len=4096'];
    const { code, log } = await start(fuzzer, [...limits, '-print_final_stats=1', 'corpus'], {
      home,
      target,
    });
    if (corpus !== undefined) cpSync(own, corpus, { recursive: true });
    const runs = Number(/number_of_executed_units: (\d+)/.exec(log)?.[1] ?? 0);
    if (code === 0 && runs > 0) return { kind: 'quiet', runs };
    const bad = readdirSync(home).find((name) => /^(crash|timeout|oom)-/.test(name));
    return { kind: 'fault', log, input: bad === undefined ? undefined : readFileSync(join(home, bad)) };
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

function start(fuzzer: string, args: readonly string[], place: { home: string; target: FuzzTarget }) {
  const ASAN_OPTIONS = 'detect_leaks=0:allocator_may_return_null=1:symbolize=0';
  const env = { FUZZ_HOME: place.home, FUZZ_TARGET: place.target, ASAN_OPTIONS };
  const child = spawn(fuzzer, args, { cwd: place.home, env, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = `${log}${chunk}`.slice(-20_000);
  });
  return new Promise<{ readonly code: number | null; readonly log: string }>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, log }));
  });
}

function seeds(target: FuzzTarget): readonly Uint8Array[] {
  switch (target) {
    case 'spec':
      return [specSeed()];
    case 'tree':
      return [treeSeed()];
    case 'files':
      return [filesSeed(0), filesSeed(1)];
    case 'note':
      return noteSeeds();
  }
}

function specSeed(): Uint8Array {
  const path = '/w' as HostPath;
  const spec: SandboxSpec = {
    root: {
      type: 'overlay',
      lowers: [path],
      traced: [path],
      writable: { upper: path, work: path },
      userXattrs: true,
    },
    readonlyRoot: true,
    mounts: [
      { type: 'bind', source: path, target: imagePath('a'), readonly: true },
      { type: 'tmpfs', target: imagePath('b'), sizeBytes: 4096 },
      {
        type: 'tree',
        root: { type: 'directory', path, readonly: true },
        target: imagePath('c'),
        source: imagePath('d'),
        readonly: true,
      },
      { type: 'file', target: imagePath('e'), content: Buffer.from('secret'), mode: 0o400, uid: 1, gid: 2 },
    ],
    args: ['sh', '-c', 'true'],
    env: ['PATH=/bin'],
    cwd: ROOT_PATH,
    user: { ...ROOT_USER, additionalGids: [1] },
    userNamespace: {
      uids: [{ inside: 0, outside: 1000, count: 1 }],
      gids: [{ inside: 0, outside: 1000, count: 1 }],
    },
    hostname: 'box',
    network: 'none',
    extraHosts: [],
    limits: {},
    ulimits: [{ name: 'nofile', soft: 1, hard: 2 }],
    devices: [{ type: 'char', major: 1, minor: 3 }],
    shmSizeBytes: DEFAULT_SHM_BYTES,
    security: 'default',
    noNewPrivileges: true,
    id: 'seed',
  };
  const host = {
    mounts: spec.mounts,
    cgroupProcs: ['/c'],
    unifiedCgroup: '/u',
    devices: 'filter',
    leftovers: ['/l'],
  } as const;
  return encodeSandbox(spec, { mode: 'pipe' }, host);
}

/** Operations of every kind; their form is in runner/native/tree_apply.c. */
function treeSeed(): Uint8Array {
  const out = new WireWriter();
  const start = (kind: string, path: string) => {
    out.tag(kind);
    out.text(path);
  };
  const attributes = () => {
    for (const word of [0o755, 0, 0]) out.u32(word);
    out.flag(true);
    out.i64(1);
    out.u32(2);
    out.flag(true);
    out.flag(false);
    out.text('user.name');
    out.bytes(Buffer.from('value'));
  };
  for (const kind of ['d', 'e']) {
    start(kind, 'folder');
    attributes();
  }
  start('f', 'folder/file');
  attributes();
  out.tag('b');
  out.i64(3);
  for (const letter of 'abc') out.tag(letter);
  start('f', 'folder/copy');
  attributes();
  out.tag('h');
  out.text('/d/fs/a');
  start('l', 'link');
  attributes();
  out.text('folder');
  start('h', 'link/hard');
  out.text('folder/file');
  start('n', 'pipe');
  attributes();
  for (const word of [0o010000, 0, 0]) out.u32(word);
  start('r', 'folder/file');
  start('c', 'folder');
  out.tag('z');
  return out.take();
}

/** The facts of notes, one of them such that all hold; see `try_note`. */
function noteSeeds(): readonly Uint8Array[] {
  const row = rowOf(statSync('/', { bigint: true }));
  const path = '/w' as HostPath;
  const empty: UnchangedNote = {
    head: {
      notedAtMs: 1,
      report: {
        id: '',
        startedAtMs: 1,
        finishedAtMs: 1,
        dockerfile: '',
        context: '',
        target: '',
        ok: true,
        steps: [],
      },
      uses: [],
    },
    call: Buffer.alloc(32),
    boot: '',
    generation: '',
    database: { path: 'varve.db', bytes: 1 },
    store: [],
    host: [],
    output: [],
  };
  const notes: readonly UnchangedNote[] = [
    {
      ...empty,
      store: [{ kind: 'content', path: 'fs/a', bytes: Buffer.from('content') }],
      host: [{ kind: 'absent', path: '/nothing' as HostPath }],
      output: [
        { fd: 2, pieces: [{ kind: 'text', text: 'a' }, { kind: 'ago', atMs: 1 }, { kind: 'elapsed' }] },
        { fd: 1, pieces: [] },
      ],
    },
    { ...empty, store: [{ kind: 'link', path: 'fs', target: 'a' }] },
    { ...empty, store: [{ kind: 'stored', path: 'fs/a', row }] },
    { ...empty, host: [{ kind: 'file', path, row }] },
    {
      ...empty,
      host: [
        {
          kind: 'tree',
          path,
          real: path,
          folders: [{ path: ROOT_PATH, row, names: ['a'], rows: rowBytes(row) }],
        },
      ],
    },
  ];
  const facts = (note: UnchangedNote): Buffer => {
    const bytes = encodeNote(note);
    // Magic, version, head, call, two empty blocks; the database is not there.
    const head = 16 + bytes.readUInt32LE(12) + 32 + 8;
    const database = 1 + 4 + 'varve.db\0'.length + 8;
    return bytes.subarray(head + database, -4);
  };
  return notes.map(facts);
}

const QUESTIONS = [
  [1, 0, 0],
  [0, 0, 2, 97, 0],
  [2, 1, 24, ...Array(16).fill(0), 64, ...Array(7).fill(0)],
  [5, 0, 24, ...Array(17).fill(0), 9],
  [6, 1, 15, 200, ...Array(7).fill(0), 117, 115, 101, 114, 46, 97, 0],
  [7, 1, 8, 200],
  [0, 0, 4, 108, 105, 110, 107],
  [3, 2, 0],
];

function filesSeed(alone: number): Uint8Array {
  const entry = (path: string, more: Partial<Entry>): Entry => ({
    path: imagePath(path),
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: { sec: 1, nsec: 2 },
    ...more,
  });
  const changes: readonly Change[] = [
    { kind: 'set', entry: entry('a', { size: 7, xattrs: { 'user.a': Buffer.from('v') } }) },
    { kind: 'set', entry: entry('dir', { type: 'dir' }) },
    { kind: 'opaque', path: imagePath('dir') },
    { kind: 'set', entry: entry('dir/first', { size: 7 }) },
    { kind: 'set', entry: entry('dir/second', { size: 7, hardlinkTo: imagePath('dir/first') }) },
    { kind: 'whiteout', path: imagePath('gone') },
    { kind: 'set', entry: entry('link', { type: 'symlink', linkTarget: 'a' }) },
    { kind: 'set', entry: entry('null', { type: 'char', device: { major: 1, minor: 3 } }) },
  ];
  const file = encodeManifest({ createdAtMs: 1, root: entry('', { type: 'dir' }), changes });
  const body = file.subarray('varvdiff'.length, -4);
  return Buffer.concat([
    Buffer.from([alone, body.length & 0xff, body.length >> 8]),
    body,
    Buffer.from(QUESTIONS.flat()),
  ]);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      corpus: { type: 'string', default: '.cache/fuzz' },
    },
    allowPositionals: true,
  });
  const folder = mkdtempSync(join(tmpdir(), 'varve-fuzzer-'));
  try {
    const fuzzer = join(folder, 'fuzzer');
    buildFuzzer(fuzzer);
    for (const target of FUZZ_TARGETS.filter(
      (name) => positionals.length === 0 || positionals.includes(name),
    )) {
      const corpus = join(values.corpus, target);
      const end = await fuzz({ fuzzer, target, seconds: Number(values.seconds), corpus });
      if (end.kind === 'quiet') {
        console.log(`${target}: nothing found in ${end.runs} runs`);
        continue;
      }
      console.log(end.log);
      console.log(`${target}: a fault; the input in base64: ${end.input?.toString('base64') ?? 'unknown'}`);
      process.exitCode = 1;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) await main();
