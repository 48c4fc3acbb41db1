import { describe, expect, test } from 'vitest';
import { type HostPath, UsageError } from '../../core/index.ts';
import { type StdinContent, toBuildRequest } from './build-options.ts';
import { BUILD_SPEC } from './build-spec.ts';
import { parseOutput } from './output.ts';
import { readEnvFile } from './pairs.ts';
import { parseCommand } from './parse.ts';
import { toRunRequest } from './run-options.ts';
import { RUN_SPEC } from './run-spec.ts';

const env = { HOME: '/root', SET: 'from env', EMPTY: '' };

const FOLDERS = ['/src', '/src/sub', '/src/github.com/a/b'];
const isFolder = (path: string): boolean => FOLDERS.includes(path);

function build(argv: readonly string[], stdin?: StdinContent, more: Readonly<Record<string, string>> = {}) {
  const { flags, positionals } = parseCommand(BUILD_SPEC, argv);
  const around = {
    cwd: '/src',
    env: { ...env, ...more },
    id: 'b1',
    parallelism: 2,
    isFolder,
    ...(stdin === undefined ? {} : { stdin }),
  };
  return toBuildRequest({ flags, context: positionals[0] ?? '' }, around);
}

function run(argv: readonly string[], envFiles: readonly string[] = []) {
  const { flags, positionals } = parseCommand(RUN_SPEC, argv);
  const [image = '', ...command] = positionals;
  return toRunRequest({ flags, image, command }, { cwd: '/src', env, envFiles });
}

describe('toBuildRequest', () => {
  test('without flags: the folder, its Dockerfile, the local store', () => {
    expect(build(['.'])).toEqual({
      id: 'b1',
      context: { kind: 'directory', path: '/src' },
      dockerfile: { kind: 'file', path: 'Dockerfile' },
      buildArgs: {},
      labels: {},
      tags: [],
      noCache: false,
      noCacheFilter: [],
      caching: { mode: 'observed', noise: [] },
      pull: false,
      network: 'default',
      outputs: [{ type: 'image', push: false }],
      parallelism: 2,
    });
  });

  test('--platform names one platform or several, in one flag or in several', () => {
    expect(build(['--platform=linux/arm64', '.']).platforms).toEqual(['linux/arm64']);
    const both = build(['--platform', 'linux/amd64, linux/arm64', '--platform', 'linux/arm/v7', '.']);
    expect(both.platforms).toEqual(['linux/amd64', 'linux/arm64', 'linux/arm/v7']);
    const usual = { DOCKER_DEFAULT_PLATFORM: 'linux/arm64' };
    expect(build(['.'], undefined, usual).platforms).toEqual(['linux/arm64']);
    expect(build(['--platform=local', '.'], undefined, usual).platforms).toEqual(['local']);
    expect(build(['.'], undefined, { DOCKER_DEFAULT_PLATFORM: '' }).platforms).toBeUndefined();
  });

  test('--add-host takes several in one flag; --security-opt only no-new-privileges', () => {
    const hosts = build(['--add-host', 'a:10.0.0.1,b=10.0.0.2', '.']).runLimits?.extraHosts;
    expect(hosts?.map(({ name }) => name)).toEqual(['a', 'b']);
    const opt = (...words: string[]) =>
      build([...words.flatMap((word) => ['--security-opt', word]), '.']).runLimits;
    expect(opt('no-new-privileges')).toEqual({ noNewPrivileges: true });
    expect(opt('no-new-privileges=true', 'no-new-privileges:false', 'seccomp=unconfined')).toBeUndefined();
  });

  test.each([
    ['https://example.com/a/b.git#main:docs', 'git'],
    ['git@example.com:a/b', 'git'],
    ['ssh://git@example.com/a/b', 'git'],
    ['git://example.com/a', 'git'],
    ['https://example.com/context.tar.gz', 'http'],
  ])('takes %s for a remote context', (url, kind) => {
    expect(build([url]).context).toEqual({ kind, url });
    // Relative names lie in the context; absolute ones here.
    expect(build(['-f', 'a/Dockerfile', url]).dockerfile).toEqual({ kind: 'file', path: 'a/Dockerfile' });
    expect(build(['-f', '/x/Dockerfile', url]).dockerfile).toEqual({ kind: 'file', path: '/x/Dockerfile' });
  });

  test('takes a folder before an address that is called like it, and a Dockerfile from a web server', () => {
    const path = '/src/github.com/a/b';
    expect(build(['github.com/a/b']).context).toEqual({ kind: 'directory', path });
    expect(build(['github.com/missing/b']).context).toEqual({ kind: 'git', url: 'github.com/missing/b' });
    const url = 'https://example.com/Dockerfile';
    expect(build(['-f', url, '.']).dockerfile).toEqual({ kind: 'remote', url });
  });

  test('--build-context names folders, images, layouts, repositories and files, by the short form of the name', () => {
    const digest = `sha256:${'0'.repeat(64)}`;
    const flags = [
      'a=sub',
      'docker.io/library/b:latest=docker-image://alpine:3',
      'c:1=oci-layout://lay:tag',
      `d=oci-layout:///lay@${digest}`,
      'e=https://example.com/x.git',
      'f=https://example.com/x',
      'g=docker-image://scratch',
    ].flatMap((value) => ['--build-context', value]);
    expect(build([...flags, '.']).namedContexts).toEqual({
      a: { kind: 'directory', path: '/src/sub' },
      b: { kind: 'image', name: 'alpine:3' },
      'c:1': { kind: 'oci-layout', path: '/src/lay', tag: 'tag' },
      d: { kind: 'oci-layout', path: '/lay', digest },
      e: { kind: 'git', url: 'https://example.com/x.git' },
      f: { kind: 'http', url: 'https://example.com/x' },
      g: { kind: 'image', name: 'scratch' },
    });
  });

  test('--build-arg NAME takes the value from the environment and is left out where it is not set', () => {
    const { buildArgs } = build([
      '--build-arg',
      'SET',
      '--build-arg=UNSET',
      '--build-arg',
      'EMPTY',
      '--build-arg',
      'A=b=c',
      '.',
    ]);
    expect(buildArgs).toEqual({ SET: 'from env', EMPTY: '', A: 'b=c' });
  });

  test('SOURCE_DATE_EPOCH of the environment counts as a build argument, behind one that is given', () => {
    const request = (argv: readonly string[]) => {
      const { flags, positionals } = parseCommand(BUILD_SPEC, argv);
      const around = {
        cwd: '/src',
        env: { SOURCE_DATE_EPOCH: '1' },
        id: 'b1',
        parallelism: 2,
        isFolder: () => true,
      };
      return toBuildRequest({ flags, context: positionals[0] ?? '' }, around);
    };
    expect(request(['.']).buildArgs).toEqual({ SOURCE_DATE_EPOCH: '1' });
    expect(request(['--build-arg', 'SOURCE_DATE_EPOCH=2', '.']).buildArgs).toEqual({
      SOURCE_DATE_EPOCH: '2',
    });
  });

  test('a build argument named __proto__ is an argument like any other', () => {
    expect(Object.entries(build(['--build-arg', '__proto__=x', '.']).buildArgs)).toEqual([
      ['__proto__', 'x'],
    ]);
  });

  test('--label NAME is empty; later ones win', () => {
    expect(build(['--label', 'a', '--label', 'b=1', '--label', 'b=2', '.']).labels).toEqual({
      a: '',
      b: '2',
    });
  });

  test('-f is taken from the working folder', () => {
    expect(build(['-f', 'docker/Dockerfile.dev', 'app'])).toMatchObject({
      context: { path: '/src/app' },
      dockerfile: { kind: 'file', path: '/src/docker/Dockerfile.dev' },
    });
  });

  test('-f - reads the Dockerfile from standard input beside a folder', () => {
    expect(build(['-f', '-', '.'], { kind: 'text', text: 'FROM scratch' })).toMatchObject({
      context: { kind: 'directory' },
      dockerfile: { kind: 'inline', text: 'FROM scratch' },
    });
  });

  test('the context - is empty for a Dockerfile and an archive for a tar', () => {
    expect(build(['-'], { kind: 'text', text: 'FROM a' })).toMatchObject({ context: { kind: 'empty' } });
    const path = '/tmp/context.tar' as HostPath;
    expect(build(['-f', 'sub/Dockerfile', '-'], { kind: 'archive', path })).toMatchObject({
      context: { kind: 'archive', path },
      dockerfile: { kind: 'file', path: 'sub/Dockerfile' },
    });
  });

  test('--push, --load and --output add up', () => {
    expect(build(['--push', '-t', 'a', '.']).outputs).toEqual([{ type: 'image', push: true }]);
    expect(build(['-o', 'out', '--load', '.']).outputs).toEqual([
      { type: 'local', dest: '/src/out' },
      { type: 'daemon' },
    ]);
    expect(build(['-t', 'a', '--push', '-o', 'type=image,compression=zstd', '.']).outputs).toEqual([
      { type: 'image', push: true, form: { layers: { compression: 'zstd' } } },
    ]);
    expect(build(['-o', 'type=cacheonly', '.']).outputs).toEqual([]);
  });

  test('--annotation names the places that get it', () => {
    const given = ['--annotation', 'a=1', '--annotation', 'index,manifest-descriptor[linux/arm64]:b:c=2=3'];
    expect(build([...given, '.']).annotations).toEqual([
      { at: 'manifest', name: 'a', value: '1' },
      { at: 'index', name: 'b:c', value: '2=3' },
      { at: 'manifest-descriptor', name: 'b:c', value: '2=3', platform: 'linux/arm64' },
    ]);
    expect(() => build(['--annotation', 'a', '.'])).toThrow(/invalid annotation "a"/);
    expect(() => build(['--annotation', 'indx:a=b', '.'])).toThrow(/unknown place "indx"/);
    // As in buildx, what stands before a colon is a place, and platforms have no wildcards.
    expect(() => build(['--annotation', 'Org.x:y=1', '.'])).toThrow(/unknown place "Org.x"/);
    expect(() => build(['--annotation', 'manifest[linux/*]:a=b', '.'])).toThrow(/unknown place "manifest\[/);
    expect(build(['--annotation', 'url=http://x:1', '.']).annotations?.[0]?.value).toBe('http://x:1');
  });

  test('--cache, --cache-ttl and --cache-noise say what the cache may answer', () => {
    const flags = [
      '--cache=exact',
      '--cache-ttl',
      '1d',
      '--cache-noise=/var/log/*.log',
      '--cache-noise=/x',
      '.',
    ];
    expect(build(flags).caching).toEqual({
      mode: 'exact',
      ttlMs: 86_400_000,
      noise: ['/var/log/*.log', '/x'],
    });
  });

  test.each([
    ['--cache-ttl=soon', /--cache-ttl: "soon" is no age/],
    ['--cache-noise=log', /--cache-noise: "log" is no absolute path/],
    ['--cache=perhaps', /perhaps/],
  ])('%s is refused', (flag, message) => {
    expect(() => build([flag, '.'])).toThrow(message);
  });

  test('splits --no-cache-filter at commas', () => {
    expect(build(['--no-cache-filter', 'a,b', '--no-cache-filter', 'c', '.']).noCacheFilter).toEqual([
      'a',
      'b',
      'c',
    ]);
  });

  test.each([
    [['-t', 'UPPER', '.'], /invalid tag "UPPER".*lowercase/],
    [['-t', `a@sha256:${'0'.repeat(64)}`, '.'], /cannot hold a digest/],
    [['--push', '.'], /needs a name/],
    [['--build-arg', '=x', '.'], /the name is empty/],
    [['--platform', 'linux/amd64,', '.'], /invalid platform ""/],
    [['--platform', 'linux//v7', '.'], /invalid platform/],
    [['https://example.com/a/b.git?what=1'], /unexpected query "what"/],
    [['--build-context', 'x', '.'], /has no "="/],
    [['--build-context', 'Upper=.', '.'], /is no name/],
    [['--build-context', 'x=', '.'], /has no value/],
    [['--build-context', 'x=missing', '.'], /missing is no folder/],
    [['--build-context', 'x=docker-image://UPPER', '.'], /lowercase/],
    [['--build-context', 'x=oci-layout://', '.'], /names no folder/],
    [['--build-context', 'x=oci-layout://l@sha256:1', '.'], /is no digest/],
    [['--build-context', 'x=target:other', '.'], /targets of other builds/],
    [['--build-context', 'x=input:other', '.'], /input:other is no folder/],
    [['--build-context', 'x::linux/arm64=docker-image://y', '.'], /is no name/],
    [['-f', '-', '-'], /only one of them/],
    [['-o', '-', '-o', 'type=oci', '.'], /only one output/],
    [['--parallelism', '0', '.'], /above 0/],
    [[''], /context is empty/],
  ])('refuses %j', (argv, message) => {
    expect(() => build(argv, { kind: 'text', text: '' })).toThrow(message);
  });
});

describe('parseOutput', () => {
  test.each([
    ['out', { type: 'local', dest: '/w/out' }],
    ['-', { type: 'tar', dest: { kind: 'stdout' } }],
    ['type=tar,dest=-', { type: 'tar', dest: { kind: 'stdout' } }],
    ['type=oci,dest=a.tar', { type: 'oci', tar: true, dest: { kind: 'file', path: '/w/a.tar' } }],
    ['type=oci', { type: 'oci', tar: true, dest: { kind: 'stdout' } }],
    ['type=oci,tar=false,dest=/d', { type: 'oci', tar: false, dest: { kind: 'file', path: '/d' } }],
    ['type=docker', { type: 'daemon' }],
    ['type=docker,dest=a', { type: 'docker', tar: true, dest: { kind: 'file', path: '/w/a' } }],
    ['type=registry,name=r/a', { type: 'image', push: true }],
    ['type=local,"dest=a,b"', { type: 'local', dest: '/w/a,b' }],
    ['type=local,dest=a,platform-split=false', { type: 'local', dest: '/w/a', platformSplit: false }],
    ['type=image,push-by-digest=true', { type: 'image', push: true, byDigest: true }],
    ['type=registry,push=false', { type: 'image', push: false }],
    [
      'type=image,compression=zstd,compression-level=19,force-compression=true,oci-mediatypes=false',
      {
        type: 'image',
        push: false,
        form: { layers: { compression: 'zstd', level: 19, force: true }, mediaTypes: 'docker' },
      },
    ],
    [
      'type=oci,dest=a,annotation.org.Me=1,annotation-index.b.c=2,annotation-manifest[linux/arm64].d==3',
      {
        type: 'oci',
        tar: true,
        dest: { kind: 'file', path: '/w/a' },
        form: {
          annotations: [
            { at: 'manifest', name: 'org.Me', value: '1' },
            { at: 'index', name: 'b.c', value: '2' },
            { at: 'manifest', name: 'd', value: '=3', platform: 'linux/arm64' },
          ],
        },
      },
    ],
    ['type=image,rewrite-timestamp=true,unpack=true,store=1', { type: 'image', push: false }],
  ])('%s', (text, expected) => {
    expect(parseOutput(text, '/w').output).toEqual(expected);
  });

  test('name= gives further names', () => {
    expect(parseOutput('type=image,"name=a,b"', '/w').names).toEqual(['a', 'b']);
  });

  test.each([
    '',
    'dest=a',
    'type=zip',
    'type=local',
    'type=oci,tar=no,dest=a',
    'type=oci,dst=a',
    'type=oci,tar=false',
    'type=local,"dest=a',
    'type=image,compression=estargz',
    'type=image,compression=zip',
    'type=image,compression-level=10',
    'type=image,rewrite-timestamp=perhaps',
    'type=image,annotation-manifst.a=b',
    'type=image,annotation-index[linux/amd64].a=b',
  ])('refuses %j', (text) => {
    expect(() => parseOutput(text, '/w')).toThrow(/--output/);
  });

  test('attributes of buildx that have no meaning here say what to do instead', () => {
    const hint = (attribute: string): unknown => {
      try {
        parseOutput(`type=image,${attribute}`, '/w');
      } catch (error) {
        return error instanceof UsageError ? error.hint : error;
      }
      return undefined;
    };
    expect(hint('registry.insecure=true')).toMatch(/config.toml/);
    expect(hint('context=desktop')).toMatch(/DOCKER_HOST/);
    expect(hint('name-canonical=true')).toBeUndefined();
  });
});

describe('toRunRequest', () => {
  test('gathers environment: files first, then flags, in order', () => {
    const request = run(
      ['--env-file', 'f', '-e', 'SET', '-e', 'NONE', '-e', 'A=2', 'i'],
      ['# c\n\nA=1\n SET\r\nB=" q "\n'],
    );
    expect(request.env).toEqual(['A=1', 'SET=from env', 'B=" q "', 'SET=from env', 'A=2']);
  });

  test('reads mounts, limits and hosts', () => {
    const request = run([
      ...[
        '-v',
        './data:/data:ro',
        '-v',
        '/a:/b',
        '--tmpfs',
        '/tmp:size=1m,mode=1777',
        '-m',
        '64m',
        '--cpus',
        '0.5',
      ],
      ...['--pids-limit', '10', '--add-host', 'a:1.2.3.4', '--add-host', 'b=::1', 'i'],
    ]);
    expect(request.mounts).toEqual([
      { type: 'bind', source: '/src/data', target: 'data', readonly: true },
      { type: 'bind', source: '/a', target: 'b', readonly: false },
      { type: 'tmpfs', target: 'tmp', sizeBytes: 2 ** 20, mode: 0o1777 },
    ]);
    expect(request.limits).toEqual({ memoryBytes: 64 * 2 ** 20, cpus: 0.5, pids: 10 });
    expect(request.extraHosts).toEqual([
      { name: 'a', address: '1.2.3.4' },
      { name: 'b', address: '::1' },
    ]);
  });

  test('0 and -1 mean no limit', () => {
    expect(run(['--pids-limit', '-1', '--cpus', '0', '-m', '0', 'i']).limits).toEqual({});
  });

  test.each([
    [['-v', 'cache:/c', 'i'], /named volumes/],
    [['-v', '/only', 'i'], /invalid volume/],
    [['-v', '/a:b', 'i'], /absolute/],
    [['-v', '/a:/', 'i'], /not "\/"/],
    [['-v', '/a:/b:shared', 'i'], /not supported/],
    [['-w', 'rel', 'i'], /absolute/],
    [['--memory-swap', '1g', 'i'], /together with --memory/],
    [['-m', '1g', '--memory-swap', '512m', 'i'], /below --memory/],
    [['-m', '1m', 'i'], /minimum/],
    [['--name', '-x', 'i'], /container name/],
    [['--hostname', 'a b', 'i'], /hostname/],
    [['--add-host', 'a', 'i'], /NAME:ADDRESS/],
    [['--security-opt', 'seccomp=unconfined', 'i'], /not supported yet/],
    [['A b'], /invalid image name/],
  ])('refuses %j', (argv, message) => {
    expect(() => run(argv)).toThrow(message);
  });
});

test('readEnvFile names file and line of a bad name', () => {
  expect(() => readEnvFile('A=1\nB C=2\n', 'my.env', {})).toThrow('my.env:2');
});
