import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type GitSource, type HostPath, parseGitUrl } from '../../core/index.ts';
import {
  freePort,
  GitFixture,
  serveWeb,
  type TemporaryFolder,
  temporaryFolder,
  type Web,
} from '../../fixtures/index.ts';
import { machineErrorOf } from '../../fixtures/machine-error.ts';
import type { Sources } from './contract.ts';
import { sourcesIn } from './testing.ts';

const OPTIONS = { signal: new AbortController().signal };

let root: TemporaryFolder;
let web: Web;
let sources: Sources;
let app: GitFixture;
let library: GitFixture;
const commits = { first: '', second: '', tagged: '' };

beforeAll(async () => {
  root = await temporaryFolder('varve-git');
  const repositories = join(root.path, 'repos');
  web = await serveWeb(repositories);
  sources = sourcesIn(join(root.path, 'store'));
  library = new GitFixture(join(repositories, 'library.git'));
  library.commit({ 'lib.txt': 'library\n' });
  app = new GitFixture(join(repositories, 'app.git'));
  commits.first = app.commit({ 'a.txt': 'one\n', 'docs/d.txt': 'docs\n', 'deep/er/e.txt': 'e\n' });
  chmodSync(join(app.folder, 'a.txt'), 0o666);
  writeFileSync(join(app.folder, 'run.sh'), '#!/bin/sh\n');
  chmodSync(join(app.folder, 'run.sh'), 0o755);
  symlinkSync('docs', join(app.folder, 'link'));
  symlinkSync('/etc', join(app.folder, 'out'));
  commits.second = app.commit({ 'a.txt': 'two\n' });
  app.git('tag', '--annotate', '--message=t', 'v1');
  app.git('tag', 'light', commits.first);
  app.git('branch', 'old', commits.first);
  app.git('update-ref', 'refs/pull/1/head', commits.first);
  commits.tagged = app.git('rev-parse', 'v1');
});

afterAll(async () => {
  await web[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
});

function source(suffix = '', name = 'app'): GitSource {
  const parsed = parseGitUrl(`${web.url}/git/${name}.git${suffix}`);
  if (!parsed.ok || parsed.value === undefined) throw new Error(`no source: ${suffix}`);
  return parsed.value;
}

async function checkedOut(wanted: GitSource, from = sources) {
  const commit = await from.findCommit(wanted, OPTIONS);
  return { commit, ...(await from.checkOut(wanted, commit, OPTIONS)) };
}

describe('findCommit', () => {
  test.each([
    ['', 'second', 'refs/heads/main'],
    ['#main', 'second', 'refs/heads/main'],
    ['#old', 'first', 'refs/heads/old'],
    ['#refs/heads/old', 'first', 'refs/heads/old'],
    ['#v1', 'second', 'refs/tags/v1'],
    ['#light', 'first', 'refs/tags/light'],
    ['?tag=v1', 'second', 'refs/tags/v1'],
    ['?branch=old', 'first', 'refs/heads/old'],
    ['?ref=pull/1/head', 'first', 'refs/pull/1/head'],
  ] as const)('reads %s as a branch, a tag or another ref', async (suffix, which, ref) => {
    expect(await sources.findCommit(source(suffix), OPTIONS)).toMatchObject({ id: commits[which], ref });
  });

  test('asks nobody about a full commit', async () => {
    web.asked.length = 0;
    expect(await sources.findCommit(source(`#${commits.first}`), OPTIONS)).toEqual({ id: commits.first });
    expect(web.asked).toEqual([]);
  });

  test('takes a checksum that begins like the commit or like the annotated tag, and no other', async () => {
    const { first, second, tagged } = commits;
    for (const checksum of [second, second.slice(0, 7), tagged.slice(0, 7)]) {
      expect((await sources.findCommit(source(`?tag=v1&checksum=${checksum}`), OPTIONS)).id).toBe(second);
    }
    const error = await machineErrorOf(sources.findCommit(source(`?tag=v1&checksum=${first}`), OPTIONS));
    expect(error.code).toBe('git-checksum-mismatch');
    expect(error.message).toContain(`expected checksum to match ${first}, got ${second}`);
  });

  test('finds a commit alone by its first digits, whether a name leads to it or not', async () => {
    const long = new GitFixture(join(root.path, 'repos/long.git'));
    const [one = '', two = '', three = ''] = ['1', '2', '3'].map((text) => long.commit({ f: text }));
    long.git('tag', 'first', one);
    for (const id of [one, two, three]) {
      const { commit, folder } = await checkedOut(source(`?commit=${id.slice(0, 9)}`, 'long'));
      expect(commit.id).toBe(id);
      expect(readFileSync(join(folder, 'f'), 'utf8')).toBe(String([one, two, three].indexOf(id) + 1));
    }
    const none = await machineErrorOf(sources.findCommit(source('?commit=0123456789', 'long'), OPTIONS));
    expect(none.message).toMatch(/does not contain ref 0123456789: .* none or several commits/);
  });

  test('says what is missing: a ref, a short commit, a repository, commits, a server', async () => {
    const missing = await machineErrorOf(sources.findCommit(source('#nothing'), OPTIONS));
    expect(missing).toMatchObject({ code: 'git-ref-missing' });
    expect(missing.message).toMatch(/does not contain ref nothing/);
    expect((await machineErrorOf(sources.findCommit(source('#abcdef1'), OPTIONS))).hint).toContain('in full');
    const unknown = await machineErrorOf(sources.findCommit(source('', 'nowhere'), OPTIONS));
    expect(unknown.code).toBe('git-unreachable');
    expect(unknown.message).toContain('nowhere.git');
    new GitFixture(join(root.path, 'repos/empty.git'));
    expect((await machineErrorOf(sources.findCommit(source('', 'empty'), OPTIONS))).message).toMatch(
      /no commits/,
    );
    const dead = { remote: 'http://127.0.0.1:1/x.git', likeAPath: false };
    expect(await machineErrorOf(sources.findCommit(dead, OPTIONS))).toMatchObject({
      code: 'git-unreachable',
    });
  });

  test('keeps passwords out of its messages', async () => {
    const remote = `http://user:secret@127.0.0.1:1/x.git`;
    const error = await machineErrorOf(sources.findCommit({ remote, likeAPath: false }, OPTIONS));
    expect(`${error.message} ${error.hint}`).not.toMatch(/secret|user/);
  });

  test('says that git is missing', async () => {
    const bare = sourcesIn(join(root.path, 'bare'), { env: { PATH: '/nonexistent' } });
    expect(await machineErrorOf(bare.findCommit(source(), OPTIONS))).toMatchObject({ code: 'git-missing' });
  });
});

describe('checkOut', () => {
  test('writes the files with plain modes, without .git, at the time of the commit', async () => {
    const { folder, commitTime } = await checkedOut(source());
    expect(readdirSync(folder).sort()).toEqual(['a.txt', 'deep', 'docs', 'link', 'out', 'run.sh']);
    expect(readFileSync(join(folder, 'a.txt'), 'utf8')).toBe('two\n');
    expect(statSync(join(folder, 'a.txt')).mode & 0o777).toBe(0o644);
    expect(statSync(join(folder, 'run.sh')).mode & 0o777).toBe(0o755);
    expect(statSync(join(folder, 'docs')).mode & 0o777).toBe(0o755);
    expect(commitTime).toBe(1_600_000_000);
    expect((await checkedOut(source('?mtime=checkout'))).commitTime).toBeUndefined();
  });

  test('fetches what it has once no second time', async () => {
    await checkedOut(source('#old'));
    web.asked.length = 0;
    const again = sourcesIn(join(root.path, 'store'));
    const { folder } = await checkedOut(source(`#${commits.first}`), again);
    expect(readFileSync(join(folder, 'a.txt'), 'utf8')).toBe('one\n');
    expect(web.asked).toEqual([]);
  });

  test.each([
    ['#:docs', 'd.txt'],
    ['?subdir=deep/er', 'e.txt'],
    ['#main:link', 'd.txt'],
  ])('gives the folder that %s names', async (suffix, file) => {
    expect(readdirSync((await checkedOut(source(suffix))).folder)).toEqual([file]);
  });

  test.each(['#:none', '#:a.txt', '#:out', '#:out/ssl'])(
    'refuses %s: no folder of the repository',
    async (suffix) => {
      expect(await machineErrorOf(checkedOut(source(suffix)))).toMatchObject({ code: 'git-subdir-missing' });
    },
  );

  test('keeps .git where that is asked for: one commit, its branch, no password, the same bytes each time', async () => {
    const remote = source().remote.replace('http://', 'http://user:secret@');
    const wanted: GitSource = { ...source('#main'), remote, keepGitDir: true };
    const { folder } = await checkedOut(wanted);
    const git = new GitFixture(folder);
    expect(git.git('rev-parse', 'HEAD')).toBe(commits.second);
    expect(git.git('rev-parse', 'main')).toBe(commits.second);
    expect(git.git('rev-list', '--count', 'HEAD')).toBe('1');
    expect(git.git('status', '--porcelain')).toBe('');
    expect(git.git('remote', 'get-url', 'origin')).toBe(source().remote);
    const config = readFileSync(join(folder, '.git/config'), 'utf8');
    expect(config).not.toMatch(/secret|user/);
    const twice = await Promise.all([checkedOut(wanted), checkedOut(wanted)]);
    const [one, other] = twice.map(({ folder: at }) => readFileSync(join(at, '.git/index')));
    expect(one).toEqual(other);
    expect(existsSync(join(folder, '.git/FETCH_HEAD'))).toBe(false);
  });

  test('keeps an annotated tag as one', async () => {
    const { folder } = await checkedOut(source('?tag=v1&keep-git-dir=true'));
    expect(new GitFixture(folder).git('describe')).toBe('v1');
  });

  test('fetches a commit that no branch ends at', async () => {
    const fresh = sourcesIn(join(root.path, 'fresh'));
    app.git('update-ref', '-d', 'refs/pull/1/head');
    const { folder } = await checkedOut(source(`#${commits.first}`), fresh);
    expect(readFileSync(join(folder, 'a.txt'), 'utf8')).toBe('one\n');
    const missing = await machineErrorOf(checkedOut(source(`#${'1'.repeat(40)}`), fresh));
    expect(missing).toMatchObject({ code: 'git-ref-missing' });
    expect(missing.message).toContain(`has no commit ${'1'.repeat(40)}`);
  });

  test('follows a branch that moved', async () => {
    const moving = new GitFixture(join(root.path, 'repos/moving.git'));
    moving.commit({ f: '1' });
    await checkedOut(source('', 'moving'));
    moving.commit({ f: '2' });
    const { folder } = await checkedOut(source('', 'moving'));
    expect(readFileSync(join(folder, 'f'), 'utf8')).toBe('2');
  });

  test('reads a repository of SHA-256', async () => {
    new GitFixture(join(root.path, 'repos/sha256.git'), '--object-format=sha256').commit({ f: '256' });
    const { folder, commit } = await checkedOut(source('', 'sha256'));
    expect(commit.id).toHaveLength(64);
    expect(readFileSync(join(folder, 'f'), 'utf8')).toBe('256');
    await checkedOut(source('?keep-git-dir', 'sha256'));
  });
});

test('a private repository is fetched with the header that is handed in, and without it is not', async () => {
  const authorization = 'basic eDp5';
  web.guard = ({ headers }) => headers.authorization === authorization;
  try {
    const store = sourcesIn(join(root.path, 'private'));
    const error = await machineErrorOf(store.findCommit(source(), OPTIONS));
    expect(error.hint).toContain('--secret');
    const options = { ...OPTIONS, authorization };
    const commit = await store.findCommit(source(), options);
    const { folder } = await store.checkOut(source('?keep-git-dir'), commit, options);
    expect(readFileSync(join(folder, '.git/config'), 'utf8')).not.toContain('eDp5');
  } finally {
    delete web.guard;
  }
});

describe('submodules', () => {
  test('come along, relative ones too, without .git; not where they are unwanted', async () => {
    const outer = new GitFixture(join(root.path, 'repos/outer.git'));
    outer.git('submodule', '--quiet', 'add', library.folder, 'sub/lib');
    outer.git('config', '--file=.gitmodules', 'submodule.sub/lib.url', '../library.git');
    outer.commit({ 'o.txt': 'o\n' });
    const { folder } = await checkedOut(source('', 'outer'));
    expect(readFileSync(join(folder, 'sub/lib/lib.txt'), 'utf8')).toBe('library\n');
    expect(existsSync(join(folder, 'sub/lib/.git'))).toBe(false);
    const without = await checkedOut(source('?submodules=0', 'outer'));
    expect(readdirSync(join(without.folder, 'sub/lib'))).toEqual([]);
    const kept = await checkedOut(source('?keep-git-dir', 'outer'));
    expect(new GitFixture(kept.folder).git('submodule', 'status')).toMatch(/^[0-9a-f]{40} sub\/lib/);
  });

  test.each(['file', 'path', 'ext'])('cannot name files or programs of this machine (%s)', async (kind) => {
    const marker = join(root.path, `ran-${kind}`);
    const urls = {
      file: `file://${library.folder}`,
      path: library.folder,
      ext: `ext::sh -c touch% ${marker}`,
    } as const;
    const evil = new GitFixture(join(root.path, `repos/evil-${kind}.git`));
    evil.git('submodule', '--quiet', 'add', library.folder, 'lib');
    evil.git('config', '--file=.gitmodules', 'submodule.lib.url', urls[kind as keyof typeof urls]);
    evil.commit({ x: 'x' });
    const error = await machineErrorOf(checkedOut(source('', `evil-${kind}`)));
    expect(error.message).toMatch(/failed to update submodules/);
    expect(existsSync(marker)).toBe(false);
  });
});

describe('a hostile repository', () => {
  test('runs neither hooks nor filters', async () => {
    const marker = join(root.path, 'ran');
    const evil = new GitFixture(join(root.path, 'repos/hooks.git'));
    evil.commit({
      '.gitattributes': '* filter=evil\n',
      '.gitconfig': `[filter "evil"]\n\tsmudge = touch ${marker}\n`,
      'hooks/post-checkout': `#!/bin/sh\ntouch ${marker}\n`,
      x: 'x',
    });
    await checkedOut(source('', 'hooks'));
    expect(existsSync(marker)).toBe(false);
  });
});

test('the git protocol works too', async () => {
  const port = await freePort();
  const args = ['daemon', '--export-all', '--reuseaddr', '--listen=127.0.0.1', `--port=${port}`];
  const daemon = spawn('git', [...args, `--base-path=${root.path}/repos`, '--verbose'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  try {
    await new Promise((resolve) => daemon.stderr.once('data', resolve));
    const remote = { remote: `git://127.0.0.1:${port}/app.git`, likeAPath: false };
    const { folder } = await checkedOut(remote);
    expect(readFileSync(join(folder, 'a.txt'), 'utf8')).toBe('two\n');
  } finally {
    if (daemon.pid !== undefined) process.kill(-daemon.pid, 'SIGKILL');
  }
});

test('SSH is asked without configuration, prompts or keys of the user, with the agent that is handed in', async () => {
  const bin = join(root.path, 'bin');
  const log = join(root.path, 'ssh.log');
  mkdirSync(bin);
  const script = `#!/bin/sh\ntest -d ${join(root.path, 'over-ssh/sources')} || exit 1\necho "$SSH_AUTH_SOCK $*" > ${log}\nfor last; do :; done\ncd ${root.path}/repos && exec sh -c "$last"\n`;
  writeFileSync(join(bin, 'ssh'), script, { mode: 0o755 });
  const env = { PATH: `${bin}:${process.env['PATH']}`, SSH_AUTH_SOCK: '/own/agent', HOME: '/root' };
  const store = sourcesIn(join(root.path, 'over-ssh'), { env });
  const wanted = { remote: 'git@example.com:app.git', likeAPath: false };
  const commit = await store.findCommit(wanted, OPTIONS);
  expect(readFileSync(log, 'utf8')).toMatch(/^ -F \/dev\/null -o BatchMode=yes -o IdentityFile=none /);
  const options = { ...OPTIONS, agent: '/lent/agent' as HostPath };
  const { folder } = await store.checkOut(wanted, commit, options);
  expect(readFileSync(log, 'utf8')).toMatch(
    /^\/lent\/agent -F .*git@example\.com git-upload-pack 'app\.git'/,
  );
  expect(readFileSync(join(folder, 'a.txt'), 'utf8')).toBe('two\n');
  await store.findCommit(wanted, { ...OPTIONS, agent: 'own' });
  expect(readFileSync(log, 'utf8')).toMatch(/^\/own\/agent /);
});

test('repositories are listed, and removed unless they were used meanwhile', async () => {
  const store = sourcesIn(join(root.path, 'pruned'));
  await checkedOut(source(), store);
  const [kept] = await store.repositories();
  if (kept === undefined) throw new Error('nothing is kept');
  expect(kept.bytes).toBeGreaterThan(100);
  const { signal } = OPTIONS;
  expect(await store.removeRepository({ ...kept, lastUsedAtMs: kept.lastUsedAtMs - 1 }, signal)).toBe(0);
  expect(await store.removeRepository(kept, signal)).toBe(kept.bytes);
  expect(await store.repositories()).toEqual([]);
  await checkedOut(source(), store);
});
