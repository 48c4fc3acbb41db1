import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeNote, type NotedOutput, openStepCache, type UnchangedNote } from '../cache/index.ts';
import {
  type HostFact,
  type HostPath,
  imagePath,
  joinRows,
  type LookedRows,
  type LookedTree,
  rowOf,
  type StoreFact,
} from '../core/index.ts';
import { hasNativeProgram, locateNative } from '../runner/index.ts';
import { type Call, callDigest } from './unchanged-call.ts';

const isRoot = process.getuid?.() === 0;

const native = process.env['VARVE_NATIVE'];

/** What is started where a note does not answer. */
const STARTED = ['/bin/echo', 'started'];
const BOOT = '/proc/sys/kernel/random/boot_id';
const GENERATION = '0'.repeat(32);

let folder: string;
let root: HostPath;
let context: HostPath;

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'varve-unchanged-')));
  root = join(folder, 'root') as HostPath;
  context = join(folder, 'context') as HostPath;
  for (const path of ['', 'sessions', 'tmp', 'unchanged', 'diffs'])
    mkdirSync(join(root, path), { mode: 0o700 });
  writeFileSync(join(root, 'generation'), GENERATION);
  writeFileSync(join(root, 'varve.db'), 'SQLite format 3\0 and more');
  writeFileSync(join(root, 'name'), 'of an image');
  writeFileSync(join(root, 'manifest'), 'of a diff');
  symlinkSync('../data/x', join(root, 'diffs/name'));
  mkdirSync(join(context, 'below'), { recursive: true });
  writeFileSync(join(context, 'file'), 'content');
  writeFileSync(join(context, 'below/deep'), 'content');
  symlinkSync('file', join(context, 'link'));
  symlinkSync(context, join(folder, 'named'));
  writeFileSync(join(folder, 'Dockerfile'), 'FROM scratch');
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function ownCall(more: Partial<Call> = {}): Call {
  const environment = [`VARVE_ROOT=${root}`, 'SECRET=hunter2'];
  return { words: STARTED, environment, folder, terminals: { stdout: false }, ...more };
}

const row = (path: string) => rowOf(lstatSync(path, { bigint: true }));

function tree(): LookedTree {
  const looked = (path: string, names: readonly string[]): LookedRows => ({
    path: imagePath(path),
    row: row(join(context, path)),
    names,
    rows: joinRows(names.map((name) => row(join(context, path, name)))),
  });
  return {
    kind: 'tree',
    path: join(folder, 'named') as HostPath,
    real: context,
    folders: [looked('', ['below', 'file', 'link']), looked('below', ['deep'])],
  };
}

function hostFacts(): readonly HostFact[] {
  const file = join(folder, 'Dockerfile') as HostPath;
  return [
    { kind: 'file', path: file, row: row(file) },
    { kind: 'absent', path: join(folder, '.dockerignore') as HostPath },
    tree(),
  ];
}

function storeFacts(): readonly StoreFact[] {
  return [
    { kind: 'content', path: 'name', bytes: Buffer.from('of an image') },
    { kind: 'link', path: 'diffs/name', target: '../data/x' },
    { kind: 'stored', path: 'manifest', row: row(join(root, 'manifest')) },
  ];
}

const ANSWER: readonly NotedOutput[] = [{ fd: 1, pieces: [{ kind: 'text', text: 'noted\n' }] }];

function note(more: Partial<UnchangedNote> = {}): UnchangedNote {
  const report = {
    id: 'b',
    startedAtMs: 1,
    finishedAtMs: 2,
    dockerfile: '',
    context: '',
    target: '',
    ok: true,
    steps: [],
  };
  return {
    head: { notedAtMs: 1, report, uses: [] },
    call: callDigest(ownCall()),
    boot: readFileSync(BOOT, 'latin1'),
    generation: GENERATION,
    database: { path: 'varve.db', bytes: 10 },
    store: storeFacts(),
    host: hostFacts(),
    output: ANSWER,
    ...more,
  };
}

const noteFile = (call = ownCall()) => join(root, 'unchanged', callDigest(call).toString('hex'));

function leave(bytes: Uint8Array = encodeNote(note())): void {
  writeFileSync(noteFile(), bytes, { mode: 0o600 });
}

/** What is written by a call: `noted` or `started`. */
function called(more: Partial<Call> = {}, stdio: 'pipe' | 'inherit' = 'pipe'): string {
  const { words, environment, folder: cwd } = ownCall(more);
  const env = Object.fromEntries(environment.map((one) => one.split('=', 2)));
  const run = spawnSync(locateNative(native), ['unchanged', ...words], { cwd, env, encoding: 'utf8', stdio });
  expect(run.status).toBe(0);
  return `${run.stdout}${run.stderr}`.trim();
}

const inContext = (path: string) => join(context, path);
const inRoot = (path: string) => join(root, path);
const rewrite = (path: string, text: string) => {
  renameSync(path, `${path}.old`);
  writeFileSync(path, text);
  rmSync(`${path}.old`);
};

/** Of everything that a note says, one thing is made another. */
const CHANGES: Readonly<Record<string, () => void>> = {
  'a file written': () => writeFileSync(inContext('file'), 'CONTENT'),
  'a file deep down written': () => writeFileSync(inContext('below/deep'), 'CONTENT'),
  'a file with its old time and size': () => {
    const { atime, mtime } = statSync(inContext('file'));
    writeFileSync(inContext('file'), 'CONTENT');
    utimesSync(inContext('file'), atime, mtime);
  },
  'a mode': () => chmodSync(inContext('file'), 0o755),
  'a file put in its place': () => {
    writeFileSync(join(folder, 'other'), 'content');
    renameSync(join(folder, 'other'), inContext('file'));
  },
  'a file gone': () => unlinkSync(inContext('file')),
  'a file more': () => writeFileSync(inContext('more'), ''),
  'a file more deep down': () => writeFileSync(inContext('below/more'), ''),
  'a folder more': () => mkdirSync(inContext('folder')),
  'a name changed': () => renameSync(inContext('below/deep'), inContext('below/deeper')),
  'a folder exchanged for a link to it': () => {
    renameSync(inContext('below'), join(folder, 'moved'));
    symlinkSync(join(folder, 'moved'), inContext('below'));
  },
  'a link elsewhere': () => {
    unlinkSync(inContext('link'));
    symlinkSync('below', inContext('link'));
  },
  'a file for a folder': () => {
    rmSync(inContext('below'), { recursive: true });
    writeFileSync(inContext('below'), '');
  },
  'the context named by another link': () => {
    mkdirSync(join(folder, 'elsewhere'));
    unlinkSync(join(folder, 'named'));
    symlinkSync('elsewhere', join(folder, 'named'));
  },
  'the context moved, and its link with it': () => {
    renameSync(context, join(folder, 'elsewhere'));
    unlinkSync(join(folder, 'named'));
    symlinkSync('elsewhere', join(folder, 'named'));
  },
  'the context gone': () => rmSync(context, { recursive: true }),
  'the Dockerfile': () => writeFileSync(join(folder, 'Dockerfile'), 'FROM SCRATCH'),
  'the Dockerfile gone': () => unlinkSync(join(folder, 'Dockerfile')),
  'the Dockerfile behind a pipe': () => {
    unlinkSync(join(folder, 'Dockerfile'));
    spawnSync('mkfifo', [join(folder, 'Dockerfile')]);
  },
  'an ignore file that was absent': () => writeFileSync(join(folder, '.dockerignore'), ''),
  'an ignore file that leads nowhere but to itself': () =>
    symlinkSync('.dockerignore', join(folder, '.dockerignore')),
  'a name of the store': () => writeFileSync(inRoot('name'), 'of another'),
  'a name of the store, longer': () => writeFileSync(inRoot('name'), 'of an image and more'),
  'a name of the store, shorter': () => writeFileSync(inRoot('name'), 'of an'),
  'a name of the store gone': () => unlinkSync(inRoot('name')),
  'a diff’s name': () => {
    unlinkSync(inRoot('diffs/name'));
    symlinkSync('../data/y', inRoot('diffs/name'));
  },
  'a diff’s name that goes on': () => {
    unlinkSync(inRoot('diffs/name'));
    symlinkSync('../data/xy', inRoot('diffs/name'));
  },
  'a diff’s name gone': () => unlinkSync(inRoot('diffs/name')),
  'a diff’s manifest': () => rewrite(inRoot('manifest'), 'of a diff'),
  'a diff’s manifest gone': () => unlinkSync(inRoot('manifest')),
  'the generation': () => writeFileSync(inRoot('generation'), '1'.repeat(32)),
  'the generation torn': () => writeFileSync(inRoot('generation'), '0'.repeat(7)),
  'the generation gone': () => unlinkSync(inRoot('generation')),
  'the database gone': () => unlinkSync(inRoot('varve.db')),
  'the database cut': () => truncateSync(inRoot('varve.db'), 9),
  'the database made something else': () => writeFileSync(inRoot('varve.db'), 'SQLite format 4\0 and more'),
  'a session that died': () => writeFileSync(inRoot('sessions/1-a.lock'), ''),
  'a temporary folder of a session that died': () => mkdirSync(inRoot('tmp/1-a')),
  'no sessions': () => rmSync(inRoot('sessions'), { recursive: true }),
  'a note that others can write': () => chmodSync(noteFile(), 0o620),
  'a store that others can write': () => chmodSync(root, 0o770),
  'a note by way of a link': () => {
    renameSync(noteFile(), join(folder, 'note'));
    symlinkSync(join(folder, 'note'), noteFile());
  },
  'an empty note': () => truncateSync(noteFile(), 0),
};

describe.skipIf(!hasNativeProgram(native))('varve-native unchanged', () => {
  it('answers by a note that holds, and gives it the time of that', () => {
    expect(called()).toBe('started');
    leave();
    utimesSync(noteFile(), 1, 1);
    expect(called()).toBe('noted');
    expect(statSync(noteFile()).mtimeMs).toBeGreaterThan(Date.now() - 60_000);
    expect(called()).toBe('noted');
  });

  it.each(Object.entries(CHANGES))('starts varve after a change of one thing: %s', (_name, change) => {
    leave();
    expect(called()).toBe('noted');
    change();
    expect(called()).toBe('started');
  });

  it('starts varve for any other call', () => {
    leave();
    const { environment } = ownCall();
    expect(called({ environment: [...environment, 'OTHER=1'] })).toBe('started');
    expect(called({ environment: [`VARVE_ROOT=${root}`, 'SECRET=hunter3'] })).toBe('started');
    expect(called({ environment: [`VARVE_ROOT=${root}`] })).toBe('started');
    expect(called({ words: ['/bin/echo', 'started', ''] })).toBe('started');
    expect(called({ words: ['/usr/bin/echo', 'started'] })).toBe('started');
    expect(called({ folder: context })).toBe('started');
    expect(called()).toBe('noted');
  });

  it('does not mind what shells say of themselves', () => {
    leave();
    const { environment } = ownCall();
    expect(called({ environment: [...environment, '_=/bin/x', 'SHLVL=7', 'OLDPWD=/'] })).toBe('noted');
  });

  it('finds the store by --root too', () => {
    const environment: readonly string[] = [];
    for (const words of [
      ['/bin/echo', '--root', root],
      ['/bin/echo', `--root=${root}`],
    ]) {
      const call = ownCall({ words, environment });
      writeFileSync(noteFile(call), encodeNote(note({ call: callDigest(call) })), { mode: 0o600 });
      expect(called({ words, environment })).toBe('noted');
    }
  });

  it('answers while another process has the store open', () => {
    leave();
    rmSync(inRoot('varve.db'));
    const living = openStepCache({ root, clock: Date.now, session: '1-a' });
    mkdirSync(inRoot('tmp/1-a'));
    leave(encodeNote(note({ generation: readFileSync(inRoot('generation'), 'latin1') })));
    expect(called()).toBe('noted');
    living.close();
    expect(called()).toBe('started');
  });

  it('leaves no word of the call in the store', () => {
    expect(encodeNote(note()).includes('hunter2')).toBe(false);
  });

  it('takes no note of another start of the machine, nor one that stands under another call’s name', () => {
    leave(encodeNote(note({ boot: '00000000-0000-0000-0000-000000000000\n' })));
    expect(called()).toBe('started');
    leave(encodeNote(note({ call: callDigest(ownCall({ folder: '/' })) })));
    expect(called()).toBe('started');
  });

  it.skipIf(!isRoot)('takes no note of another user', () => {
    leave();
    chownSync(noteFile(), 1, 1);
    expect(called()).toBe('started');
  });

  it('takes no note that is cut, or has one wrong bit', () => {
    const whole = encodeNote(note());
    for (let size = 1; size < whole.length; size += 7) {
      leave(whole.subarray(0, size));
      expect(called()).toBe('started');
    }
    for (let at = 0; at < whole.length; at += 5) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8(damaged.readUInt8(at) ^ (1 << (at % 8)), at);
      leave(damaged);
      expect(called()).toBe('started');
    }
    leave(whole);
    expect(called()).toBe('noted');
  }, 60_000);

  it('answers while what it says of ages is right', () => {
    const now = Date.now();
    const during = (fromMs: number, untilMs: number): string => {
      leave(encodeNote(note({ during: { fromMs: now + fromMs, untilMs: now + untilMs } })));
      return called();
    };
    expect(during(-60_000, 60_000)).toBe('noted');
    expect(during(-60_000, 0)).toBe('started');
    expect(during(60_000, 120_000)).toBe('started');
  });

  it('writes times as they are now', () => {
    const ago = (ms: number) => ({ kind: 'ago', atMs: Date.now() - ms }) as const;
    const text = (one: string) => ({ kind: 'text', text: one }) as const;
    const pieces = [
      ago(0),
      text(','),
      ago(-5000),
      text(','),
      ago(61_000),
      text(','),
      ago(7_300_000),
      text(','),
    ];
    const output: readonly NotedOutput[] = [
      { fd: 2, pieces: [...pieces, ago(86_400_000 * 3), text(','), { kind: 'elapsed' }] },
    ];
    leave(encodeNote(note({ output })));
    expect(called()).toMatch(/^a moment ago,a moment ago,1 minute ago,2 hours ago,3 days ago,\d+\.\ds$/);
  });
});
