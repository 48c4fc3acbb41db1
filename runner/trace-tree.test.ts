import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FOLDER_TIME, type HostPath } from '../core/index.ts';
import { CAN_SANDBOX } from './testing/box.ts';
import { observationsOf, TracedBox, usesOf, writeNoise } from './testing/traced-box.ts';

/**
 * What lstat tells of everything in a tree, but for times of folders, numbers of inodes and devices, links (names that are hidden do
 * not count) and blocks (holes are not known).
 */
const LIST = (folder: string) => `
  find ${folder} ! -type d -print0 | sort -z | xargs -0 stat -c '%n|%F|%a|%u:%g|%s|%Y|%t:%T|%N'
  find ${folder} -type d -print0 | sort -z | xargs -0 stat -c '%n|%F|%a|%u:%g'
  find ${folder} -type f -print0 | sort -z | xargs -0 sha256sum
`;

async function same(box: TracedBox, script: string): Promise<string> {
  const traced = await box.sh(script);
  const plain = await box.sh(script, { traced: false });
  expect(traced.trace?.kind).toBe('traced');
  expect(traced.stdout).toBe(plain.stdout);
  expect(traced.outcome).toEqual(plain.outcome);
  return traced.stdout;
}

describe.skipIf(!CAN_SANDBOX)('traced layers look like the same layers untraced', () => {
  let box: TracedBox;
  beforeAll(async () => {
    box = await TracedBox.make({
      script: `
        mkdir -p /base/gone /base/kept /base/opaque /base/replaced /base/file-to-folder; touch /base/x /base/y
        touch /base/gone/1 /base/kept/1 /base/opaque/hidden /base/replaced/2; echo old > /base/over`,
    });
    await box.layer(`
      cd /base; rm -r gone; rm x; echo new > over; touch -d @1000 over; touch kept/2; rm -r file-to-folder; touch file-to-folder
      rm -r opaque; mkdir opaque; touch opaque/shown; rm -r replaced; ln -s kept replaced
      mkdir /app; cd /app; mkdir -p one/two/three gone; touch one/two/three/f gone/1 y; echo 1 > first; ln first second; ln first third
      chmod 4755 y; chown 12:34 y; mkfifo fifo; mknod node c 5 1; mknod block b 7 2; touch a a-b a.b; mkdir a_; touch -d @12345 one/two/three/f`);
    await box.layer(`
      cd /app; rm -r gone; rm first; mkdir gone; touch gone/2; rm -r one/two; mkdir -p one/two; touch one/two/new
      rm /base/file-to-folder; mkdir /base/file-to-folder; touch /base/file-to-folder/3; echo more >> /base/over; mv a z`);
    await box.write((upper) => {
      const app = join(upper, 'app');
      mkdirSync(app, { mode: 0o755 });
      const odd = [
        Buffer.from([0x6f, 0xff, 0xfe]),
        Buffer.from('new\nline'),
        Buffer.from('ü \\ "\''),
        Buffer.from('*'),
      ];
      for (const name of odd) writeFileSync(Buffer.concat([Buffer.from(`${app}/odd `), name]), name);
      writeFileSync(join(app, 'n'.repeat(255)), 'long');
      writeNoise(join(app, 'large'), 3 * 1024 * 1024 + 1234);
      writeFileSync(join(app, 'page'), Buffer.alloc(4096, 'p'));
      writeFileSync(join(app, 'sparse'), '');
      execFileSync('truncate', ['-s', '2M', join(app, 'sparse')]);
      writeFileSync(join(app, 'attributed'), 'x');
      execFileSync('setfattr', ['-n', 'user.note', '-v', 'kept', join(app, 'attributed')]);
      execFileSync('setfattr', ['-n', 'trusted.note', '-v', 'by root', join(app, 'attributed')]);
      execFileSync('cp', ['/bin/busybox', join(app, 'capable')]);
      execFileSync('setcap', ['cap_net_admin+ep', join(app, 'capable')]);
    });
  });
  afterAll(() => box.remove());

  it('to lstat, readlink and read', async () => {
    const listing = await same(box, LIST('/app /base'));
    expect(listing).toContain('/app/second|regular file|644|0:0|2|');
    expect(listing).toContain('/app/node|character special file|644|0:0|0|');
    expect(listing).not.toMatch(/gone\/1|hidden|three|base\/x|app\/first/);
  });

  it('to programs that go by listings', async () => {
    await same(
      box,
      'cd /; for d in app base app/* base/* app/*/*; do [ -d "$d" ] && echo "$d:" && (cd "$d"; echo * .*); done',
    );
  });

  it('no whiteout shows up, whether or not the base has the folder', async () => {
    const { stdout } = await box.sh('find /app /base -type c; ls /app/one /app/gone /base');
    expect(stdout.split('\n').filter(Boolean)).toEqual([
      '/app/node',
      ...['/app/gone:', '2', '', '/app/one:', 'two', '', '/base:'].filter(Boolean),
      ...['file-to-folder', 'kept', 'opaque', 'over', 'replaced', 'y'],
    ]);
  });

  it('to tar, but for times of folders', async () => {
    const { stdout } = await box.sh('cd /; tar c app base | tar tv | grep -v "^d"');
    const { stdout: plain } = await box.sh('cd /; tar c app base | tar tv | grep -v "^d"', { traced: false });
    expect(stdout.split('\n').sort()).toEqual(plain.split('\n').sort());
  });

  it('as one file system: du, find and tar see all of it with -x', async () => {
    await same(box, 'find /app /base -xdev | sort; du -sx /app/odd* /app/large /app/page');
  });

  it('a file keeps its inode number and device when it is copied up', async () => {
    const { stdout } = await box.sh(
      'cd /app; stat -c "%i %d" y z; touch y; stat -c "%i %d" y z; ls -i | grep " y$"',
    );
    const [y, z, yAgain, zAgain, listed = ''] = stdout.split('\n');
    expect([yAgain, zAgain]).toEqual([y, z]);
    expect(y).not.toBe(z);
    expect(listed.trim().split(' ')[0]).toBe(y?.split(' ')[0]);
  });

  it('hard links have one inode number, which no other file has', async () => {
    const { stdout } = await box.sh(
      'cd /app; stat -c %i second third; find /app /base -exec stat -c %i {} + | sort | uniq -d',
    );
    const [second, third, ...twice] = stdout.trim().split('\n');
    expect(second).toBe(third);
    expect(twice).toEqual([second]);
  });

  it('layers with a path that no call could open are not traced, with a reason, and the step works', async () => {
    const deep = await TracedBox.make();
    try {
      await deep.write((upper) => {
        const dig =
          'import os,sys\nos.chdir(sys.argv[1])\nfor i in range(30): os.mkdir("d"*200); os.chdir("d"*200)';
        execFileSync('python3', ['-c', dig, upper]);
      });
      const { outcome, trace } = await deep.sh('[ -d /bin ]');
      expect(outcome).toEqual({ kind: 'exited', code: 0 });
      expect(trace).toEqual({ kind: 'untraced', reason: expect.stringContaining('too long') });
    } finally {
      await deep.remove();
    }
  });

  it('attributes and capabilities are shown, and copied up', async () => {
    const script = 'touch /app/attributed /app/capable';
    const inspect = (upper: HostPath) => {
      const get = (file: string) =>
        execFileSync('getfattr', [
          '-d',
          '-m',
          '^(user|trusted[.]note|security)',
          '--absolute-names',
          join(upper, 'app', file),
        ]);
      expect(get('attributed').toString()).toMatch(/trusted.note="by root"\nuser.note="kept"/);
      expect(get('capable').toString()).toContain('security.capability=');
    };
    expect((await box.sh(script, { inspect })).outcome).toEqual({ kind: 'exited', code: 0 });
    expect.assertions(3);
  });

  it('folders have the one time, whatever happens in them', async () => {
    const { stdout } = await box.sh('stat -c "%Y %h %s" / /app /app/one /base/kept');
    const [root, ...rest] = stdout.trim().split('\n');
    expect(root?.split(' ')[0]).toBe(String(FOLDER_TIME.sec));
    expect(rest).toEqual(rest.map(() => `${FOLDER_TIME.sec} 1 4096`));
  });

  it('nobody can write through to the layers', async () => {
    const { stdout } = await box.sh(
      'echo x > /app/y; rm -r /app/one; mv /app/odd* /tmp; chmod 0 /app/large; echo done',
    );
    expect(stdout).toBe('done\n');
    await same(box, LIST('/app /base'));
  });

  it('an opaque folder and a whiteout are told like other names', async () => {
    const { trace } = await box.sh('ls /app/gone /base/opaque; [ ! -e /base/x ]');
    expect(usesOf(trace, /^base\/(x|opaque)|gone/)).toEqual({
      'app/gone': 'seen listing',
      'app/gone/2': 'seen',
      'base/opaque': 'seen listing',
      'base/opaque/shown': 'seen',
      'base/x': 'seen',
    });
  });
});

describe.skipIf(!CAN_SANDBOX)('traced layers without a whiteout', () => {
  it('hide what a file, replaced by a folder later, has hidden', async () => {
    const box = await TracedBox.make({ script: 'mkdir /x; touch /x/of-base' });
    await box.layer('rm -r /x; touch /x');
    await box.layer('rm /x; mkdir /x; touch /x/new');
    expect(await same(box, 'ls /x; [ ! -e /x/of-base ] && echo gone')).toBe('new\ngone\n');
    await box.remove();
  });
});

describe.skipIf(!CAN_SANDBOX)('traced layers of many files', () => {
  let box: TracedBox;
  beforeAll(async () => {
    box = await TracedBox.make();
    await box.layer('mkdir /many; cd /many; for i in $(seq 20000); do : > f$i; done; echo x > f7');
  });
  afterAll(() => box.remove());

  it('20,000 names in one folder are listed in order, once each', async () => {
    const { stdout } = await box.sh(
      'cd /many; ls | wc -l; find . -type f | sort -c && echo sorted; find . | sort | uniq -d',
    );
    expect(stdout).toBe('20000\nsorted\n');
    await same(box, 'cd /many; stat -c "%n %s %h" f* | sha256sum');
  });

  it('100,000 names that do not exist are told', { timeout: 60_000 }, async () => {
    const { trace, stdout } = await box.sh(
      'cd /many; for i in $(seq 100000); do [ -e none$i ]; done; cat f7',
    );
    expect(stdout).toBe('x\n');
    const observations = observationsOf(trace);
    expect(observations.filter(({ path }) => path.startsWith('many/none'))).toHaveLength(100_000);
    expect(usesOf(trace, /f7/)).toEqual({ 'many/f7': 'seen content' });
  });
});

/** acl(5) as the kernel keeps it: the owner may write, user 7, the group, and others may read. */
const ACL = `0x02000000${['01000600ffffffff', '0200040007000000', '04000400ffffffff', '10000400ffffffff', '20000400ffffffff'].join('')}`;

describe.skipIf(!CAN_SANDBOX)('what cannot be traced is told, and runs all the same', () => {
  it('a file with an access control list', async () => {
    const box = await TracedBox.make();
    await box.write((upper) => {
      writeFileSync(join(upper, 'file'), 'x');
      execFileSync('setfattr', ['-n', 'system.posix_acl_access', '-v', ACL, join(upper, 'file')]);
    });
    const { trace, stdout } = await box.sh('cat file');
    expect(stdout).toBe('x');
    expect(trace).toEqual({
      kind: 'untraced',
      reason: 'a file of the traced layers has an access control list',
    });
    await box.remove();
  });

  it('a list of files that is damaged', async () => {
    const box = await TracedBox.make();
    await box.layer('echo x > /file');
    const [home = ''] = await box.tracedFolders();
    const manifest = readFileSync(join(home, 'manifest'));
    manifest[20] = (manifest[20] ?? 0) ^ 1;
    writeFileSync(join(home, 'manifest'), manifest);
    const { trace, stdout } = await box.sh('cat file');
    expect(stdout).toBe('x\n');
    expect(trace).toEqual({ kind: 'untraced', reason: "the list of a diff's files is damaged" });
    await box.remove();
  });
});
