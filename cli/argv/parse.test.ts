import { describe, expect, test } from 'vitest';
import { UsageError } from '../../core/index.ts';
import { BUILD_SPEC } from './build-spec.ts';
import { commandHelp } from './help.ts';
import { nearest } from './nearest.ts';
import { parseCommand } from './parse.ts';
import { RUN_SPEC } from './run-spec.ts';
import { parseSize } from './size.ts';

const build = (...argv: string[]) => parseCommand(BUILD_SPEC, argv);
const run = (...argv: string[]) => parseCommand(RUN_SPEC, argv);

function usageError(work: () => unknown): UsageError {
  try {
    work();
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error('no UsageError was thrown');
}

describe('parseCommand', () => {
  test.each([
    [['-it', 'i'], { interactive: true, tty: true }],
    [['-ti', 'i'], { interactive: true, tty: true }],
    [
      ['-e', 'A=b', '-eC=d', '-e=E=f', '--env', 'G=h', '--env=I=j', 'i'],
      { env: ['A=b', 'C=d', 'E=f', 'G=h', 'I=j'] },
    ],
    [['-m512m', 'i'], { memory: 512 * 2 ** 20 }],
    [['-m', '1g', '--memory-swap', '-1', 'i'], { memory: 2 ** 30, 'memory-swap': -1 }],
    [['--rm=false', 'i'], { rm: false }],
    [['--rm', '--rm=0', 'i'], { rm: false }],
    [['--net', 'host', 'i'], { network: 'host' }],
    [['-w', '-odd-', 'i'], { workdir: '-odd-' }],
    [['--entrypoint', '', 'i'], { entrypoint: '' }],
    [['-itu', '1:2', 'i'], { tty: true, user: '1:2' }],
    [['--cpus', '1.5', 'i'], { cpus: 1.5 }],
  ])('reads %j as Docker does', (argv, expected) => {
    expect(run(...argv).flags).toMatchObject(expected);
  });

  test('leaves everything after the first positional argument of run alone', () => {
    const { positionals, flags } = run('--rm', 'alpine', 'ls', '-la', '--rm=false', '--', '-t');
    expect(positionals).toEqual(['alpine', 'ls', '-la', '--rm=false', '--', '-t']);
    expect(flags).toMatchObject({ rm: true, tty: false });
  });

  test('run: takes what follows -- as positional', () => {
    expect(run('--rm', '--', 'alpine', '-x').positionals).toEqual(['alpine', '-x']);
  });

  test('build: reads flags after the context too, and - as context', () => {
    const { flags, positionals } = build('-', '-t', 'a', '--tag=b', '-f-');
    expect(flags.tag).toEqual(['a', 'b']);
    expect(flags.file).toBe('-');
    expect(positionals).toEqual(['-']);
  });

  test('gives absent flags false, [] and undefined', () => {
    expect(build('.').flags).toMatchObject({ pull: false, tag: [], target: undefined });
  });

  test('names the nearest flag for an unknown one', () => {
    const error = usageError(() => build('--no-cahce', '.'));
    expect(error.message).toBe('unknown flag: --no-cahce');
    expect(error.hint).toBe('Did you mean --no-cache?');
  });

  test.each([
    [['--zzz', '.'], 'unknown flag: --zzz'],
    [['-Z', '.'], 'unknown shorthand flag: -Z'],
    [['--tag'], 'flag needs an argument: --tag'],
    [['.', '-t'], 'flag needs an argument: -t'],
    [['--pull=maybe', '.'], 'invalid value "maybe" for --pull: use true or false'],
    [['--progress=fancy', '.'], 'invalid value "fancy" for --progress: use auto, tty, plain, rawjson, quiet'],
    [['--parallelism=x', '.'], 'invalid value "x" for --parallelism: a number is needed'],
    [
      ['--cache-to', 'x', '.'],
      '--cache-to is not supported: varve exports no cache; it keeps one in its state folder',
    ],
    [
      ['--attest', 'type=sbom', '.'],
      '--attest is not supported: varve makes no attestations; --provenance=false and --sbom=false ask for none',
    ],
    [['--builder=ci', '.'], '--builder is not supported: varve is the only builder that there is'],
    [['--policy', 'x', '.'], '--policy is not supported: varve reads no policies for sources'],
    [['--detach', '.'], '--detach is not supported: varve builds in its own process, without a server'],
    [['--__proto__', '.'], 'unknown flag: --__proto__'],
    [[], "'varve build' requires 1 argument"],
    [['a', 'b'], '\'varve build\' requires 1 argument; "b" is one too many'],
  ])('refuses build %j with one clear message', (argv, message) => {
    expect(usageError(() => build(...argv)).message).toBe(message);
  });

  test('accepts an unsupported flag that asks for nothing', () => {
    const asks = [
      '--provenance=false',
      '--sbom',
      '0',
      '--builder=default',
      '--attest',
      'disabled=true,type=sbom',
    ];
    expect(build(...asks, '--rm', '--squash=false', '--cache-from=', '.').warnings).toEqual([]);
  });

  test('warns of flags that Docker takes and that change nothing', () => {
    const given = ['--squash', '--cache-from', 'a', '--cache-from', 'b', '--isolation=hyperv'];
    const { warnings } = build(
      ...given,
      '--security-opt',
      'no-new-privileges',
      '--security-opt=label=x',
      '.',
    );
    expect(warnings.map((one) => one.replace(/:.*/, ''))).toEqual([
      '--squash has no effect',
      '--cache-from has no effect',
      '--isolation has no effect',
      '--security-opt has no effect',
    ]);
  });

  test('an empty word where there is a choice chooses nothing', () => {
    expect(build('--network=', '--progress', '', '.').flags).toMatchObject({
      network: undefined,
      progress: undefined,
    });
  });

  test('--print is the old name of --call', () => {
    expect(build('--print=outline', '.').flags.call).toBe('outline');
  });

  test('checks nothing else where --help is given', () => {
    expect(build('--help').help).toBe(true);
    expect(build('--help', '--nonsense').help).toBe(true);
    expect(run('-h', 'name', 'image').help).toBe(false);
  });
});

describe('commandHelp', () => {
  test.each([
    ['build', BUILD_SPEC],
    ['run', RUN_SPEC],
  ])('prints %s in the layout of Docker', async (name, spec) => {
    await expect(commandHelp(spec)).toMatchFileSnapshot(`../golden/help-${name}.txt`);
  });

  test('stays within 100 columns', () => {
    for (const line of `${commandHelp(BUILD_SPEC)}${commandHelp(RUN_SPEC)}`.split('\n')) {
      expect(line.length).toBeLessThanOrEqual(100);
    }
  });
});

describe('nearest', () => {
  test.each([
    ['no-cahce', 'no-cache'],
    ['tagg', 'tag'],
    ['metadata', 'metadata-file'],
    ['xyzzy', undefined],
  ])('%s -> %s', (word, expected) => {
    expect(nearest(word, ['no-cache', 'tag', 'target', 'metadata-file'])).toBe(expected);
  });
});

describe('parseSize', () => {
  test.each([
    ['0', 0],
    ['100', 100],
    ['64k', 65536],
    ['512m', 536870912],
    ['512MB', 536870912],
    ['1.5GiB', 1610612736],
    ['2 g', 2147483648],
    ['-1', -1],
  ])('%s -> %i bytes', (text, bytes) => {
    expect(parseSize(text, '--memory')).toBe(bytes);
  });

  test.each(['', 'm', '1x', '-2', '1e9', '999999p', '0x10'])('refuses %j', (text) => {
    expect(() => parseSize(text, '--memory')).toThrow(/--memory/);
  });
});
