import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT_PATH, USE } from '../core/index.ts';
import { CAN_SANDBOX } from './testing/box.ts';
import { observationsOf, TracedBox, usesOf } from './testing/traced-box.ts';

const APP = `
  mkdir -p /app/sub /app/lib; cd /app
  for name in a b c static.txt; do echo "content of $name" > $name; done
  echo deep > sub/deep; ln -s sub link; ln -s a alias; touch empty
  ln -s nowhere dangling
`;

const INTERPRETED = 'int main(void) { return 0; }';

describe.skipIf(!CAN_SANDBOX)('what a step looks at in traced layers', () => {
  let box: TracedBox;
  beforeAll(async () => {
    box = await TracedBox.make({ probe: true });
    await box.layer(APP);
    await box.write((upper) => {
      const lib = join(upper, 'app/lib');
      mkdirSync(lib, { recursive: true });
      copyFileSync('/bin/busybox', join(lib, 'busybox'));
      writeFileSync(join(lib, 'script'), '#!/app/lib/busybox sh\nexit 0\n', { mode: 0o755 });
      writeFileSync(join(lib, 'main.c'), INTERPRETED);
      const link = ['-Wl,--dynamic-linker=/app/lib/ld.so', '-Wl,-rpath,/app/lib'];
      execFileSync('cc', ['-o', join(lib, 'dynamic'), join(lib, 'main.c'), ...link]);
      const libraries = execFileSync('ldd', ['/bin/ls']).toString();
      copyFileSync(/\S*ld-linux\S*/.exec(libraries)?.[0] ?? '', join(lib, 'ld.so'));
      copyFileSync(/\S*\/libc\.so\.6/.exec(libraries)?.[0] ?? '', join(lib, 'libc.so.6'));
      execFileSync('chmod', ['755', join(lib, 'ld.so'), join(lib, 'libc.so.6'), join(lib, 'dynamic')]);
      execFileSync('python3', [
        '-c',
        'import socket,sys; socket.socket(1).bind(sys.argv[1])',
        join(lib, 's'),
      ]);
    });
  });
  afterAll(() => box.remove());

  const seen = async (script: string, filter = /^app\/./, insecure = false) => {
    const ran = await box.sh(script, insecure ? { spec: { security: 'insecure' } } : {});
    expect(ran.outcome).toEqual({ kind: 'exited', code: 0 });
    return usesOf(ran.trace, filter);
  };

  it('the root folder is always looked at', async () => {
    const { trace } = await box.run(['/bin/busybox', 'true']);
    const root = observationsOf(trace).find(({ path }) => path === ROOT_PATH);
    expect((root?.uses ?? 0) & USE.METADATA).toBe(USE.METADATA);
  });

  it('a file without extended attributes lists none, traced or not', async () => {
    for (const traced of [true, false]) {
      expect((await box.sh('probe attributes /app/a', { traced })).stdout).toBe('ok\n');
    }
  });

  it.each([
    ['stat', 'stat /app/a', { 'app/a': 'seen' }],
    ['a name that is not there', '[ ! -e /app/none ]', { 'app/none': 'seen' }],
    ['a name of the root that is not there', '[ ! -e /none ]', {}],
    ['reading', 'cat /app/a', { 'app/a': 'seen content' }],
    ['an open that reads nothing', 'exec 3< /app/a', { 'app/a': 'seen' }],
    ['an empty file, whose size says all', 'cat /app/empty', { 'app/empty': 'seen' }],
    ['readlink', 'readlink /app/alias', { 'app/alias': 'seen target' }],
    ['a dangling link', '[ ! -e /app/dangling ]', { 'app/dangling': 'seen target', 'app/nowhere': 'seen' }],
    [
      'a symlink on the way',
      'cat /app/link/deep',
      { 'app/link': 'seen target', 'app/sub': 'seen', 'app/sub/deep': 'seen content' },
    ],
    ['a listing gives names, nothing of the files', 'cd /app/sub; echo *', { 'app/sub': 'seen listing' }],
    ['a long listing', 'ls -l /app/sub', { 'app/sub': 'seen listing', 'app/sub/deep': 'seen' }],
    ['append reads what is copied up', 'echo x >> /app/a', { 'app/a': 'seen content' }],
    ['so does chmod', 'chmod 600 /app/a', { 'app/a': 'seen content' }],
    ['so does touch', 'touch /app/a', { 'app/a': 'seen content' }],
    ['so does a hard link', 'ln /app/a /tmp/a', { 'app/a': 'seen content' }],
    ['removal reads nothing', 'rm /app/a', { 'app/a': 'seen' }],
    ['replacement reads nothing', 'echo x > /tmp/x; mv /tmp/x /app/a', { 'app/a': 'seen' }],
    ['writing from the start reads nothing', 'echo x > /app/a', { 'app/a': 'seen' }],
    ['a static program', '/app/lib/busybox true', { 'app/lib': 'seen', 'app/lib/busybox': 'seen content' }],
    [
      'the interpreter of a script',
      '/app/lib/script',
      { 'app/lib': 'seen', 'app/lib/script': 'seen content', 'app/lib/busybox': 'seen content' },
    ],
    ['mmap', 'probe mmap /app/a', { 'app/a': 'seen content' }],
    ['after chroot', 'probe chroot /app/a', { 'app/a': 'seen content' }],
    [
      'by ".." of a folder that was moved',
      'probe rename /app/a',
      { 'app/a': 'seen content', 'app/moved': 'seen' },
    ],
    ['by a symlink that is gone', 'probe vanished /app/a', { 'app/a': 'seen content' }],
    ['name_to_handle_at', 'probe handle /app/a', { 'app/a': 'seen' }],
    [
      'fexecve',
      'probe fexecve /app/lib/script',
      { 'app/lib': 'seen', 'app/lib/script': 'seen content', 'app/lib/busybox': 'seen content' },
    ],
    ['a socket', 'probe socket /app/lib/s', { 'app/lib': 'seen', 'app/lib/s': 'seen' }],
  ])('%s', async (_what, script, expected) => {
    expect(await seen(script)).toEqual(expected);
  });

  it('a listing of a folder in which the step has written gives names, too; whoever then looks is told', async () => {
    const write = 'echo mine > /app/new; cd /app; echo *';
    expect(await seen(write)).toEqual({ 'app/new': 'seen' });
    expect(await seen(`${write}; cat a; readlink alias; test -s b; stat -c %s /app/c`)).toMatchObject({
      'app/a': 'seen content',
      'app/alias': 'seen target',
      'app/b': 'seen',
      'app/c': 'seen',
    });
    const all = await seen('echo mine > /app/new; ls -l /app; find /app -user 0');
    expect(Object.keys(all)).toEqual(
      expect.arrayContaining(['app/a', 'app/b', 'app/c', 'app/empty', 'app/sub/deep']),
    );
  });

  it('an ELF interpreter and the libraries that it loads', async () => {
    expect(await seen('/app/lib/dynamic')).toMatchObject({
      'app/lib/dynamic': 'seen content',
      'app/lib/ld.so': 'seen content',
      'app/lib/libc.so.6': 'seen content',
    });
  });

  it('what an io_uring opens', async () => {
    expect(await seen('probe ring /app/a', /^app\/./, true)).toEqual({ 'app/a': 'seen content' });
  });

  it('nothing of what it leaves alone', async () => {
    const { trace } = await box.sh('true');
    expect(usesOf(trace, /^app/)).toEqual({});
    const { trace: one } = await box.sh('cat /app/a');
    expect(usesOf(one, /^app\/[bc]/)).toEqual({});
  });

  it('names that the base has, or nobody, are absent from the traced layers, and told', async () => {
    const { trace } = await box.sh('cat /bin/nothing; stat /bin/busybox');
    expect(usesOf(trace, /^bin/)).toEqual({ bin: 'seen' });
  });

  it('the program that looked first', async () => {
    const { trace } = await box.sh('cat /app/a; head -1 /app/a; tail -1 /app/b');
    const by = observationsOf(trace).map(({ path, by: program }) => [path, program]);
    expect(by).toContainEqual(['app/a', 'cat']);
    expect(by).toContainEqual(['app/b', 'tail']);
    expect(by).toContainEqual(['', undefined]);
  });

  it('a walk over the tree counts every name as looked up', async () => {
    const { stdout, trace } = await box.sh('find /app -user 0');
    const lines = stdout.trim().split('\n').length;
    const uses = usesOf(trace, /^app/);
    expect(Object.values(uses).filter((words) => words.startsWith('seen'))).toHaveLength(lines);
    expect(uses['app/sub']).toBe('seen listing');
    expect(uses['app/a']).toBe('seen');
  });

  it('a program that cannot be started was looked for', async () => {
    const ran = await box.run(['/app/nothing']);
    expect(ran.outcome).toMatchObject({ kind: 'not-started', code: 127 });
    expect(usesOf(ran.trace, /^app/)).toEqual({ app: 'seen', 'app/nothing': 'seen' });
  });

  it('is told of a read-only root too', async () => {
    const { trace, outcome } = await box.sh('cat /app/a', { spec: { readonlyRoot: true } });
    expect(outcome).toEqual({ kind: 'exited', code: 0 });
    expect(usesOf(trace, /^app\//)).toEqual({ 'app/a': 'seen content' });
  });

  it('nothing is told where nothing is to be traced', async () => {
    expect((await box.sh('cat /app/a', { traced: false })).trace).toBeUndefined();
  });

  it('leaves in the layer what an untraced step leaves', async () => {
    const script = 'cd /app; echo 1 >> a; rm b; mkdir new; touch new/x; chmod 700 sub; mv c d; rm -r sub';
    const left = async (traced: boolean) => {
      let list = '';
      const inspect = (upper: string) => {
        list = execFileSync('find', [upper, '-printf', '%P %M %y %s %l\n']).toString();
      };
      expect((await box.sh(script, { traced, inspect })).outcome).toEqual({ kind: 'exited', code: 0 });
      return list.split('\n').sort();
    };
    expect(await left(true)).toEqual(await left(false));
  });

  it('the bytes of programs and libraries are the files’ own', async () => {
    const script = 'cd /app; find . -type f | sort | xargs sha256sum';
    expect((await box.sh(script)).stdout).toBe((await box.sh(script, { traced: false })).stdout);
    expect(readFileSync('/bin/busybox').length).toBeGreaterThan(1024 * 1024);
  });
});
