import { describe, expect, test } from 'vitest';
import { parseDuration } from './duration.ts';
import { parse } from './index.ts';
import { nearest } from './suggest.ts';

function faults(instruction: string): readonly string[] {
  return parse(`FROM scratch\n${instruction}\n`).diagnostics.map(({ code, message, hint }) =>
    [code, message, hint].filter((part) => part !== undefined).join('|'),
  );
}

describe('flags', () => {
  test.each([
    'FROM --platform=linux/amd64 a',
    'RUN --mount=type=bind --mount=type=cache --network=host --security=sandbox --device=d x',
    'COPY --from=a --chown=b --chmod=644 --link --parents --exclude=x --exclude=y a b',
    'COPY --link=TRUE --parents=False a b',
    'ADD --chown=b --chmod=644 --link --keep-git-dir --checksum=c --unpack=false --exclude=x a b',
    'HEALTHCHECK --interval=1m --timeout=1s --start-period=0s --start-interval= --retries=0 CMD x',
    'HEALTHCHECK --interval=never --what NONE',
    'COPY --exclude= --chown="" a b',
  ])('of %s are all known', (instruction) => {
    expect(faults(instruction)).toEqual([]);
  });

  test.each([
    ['COPY --chmdo=1 a b', 'unknown-flag|unknown flag --chmdo for COPY|did you mean --chmod?'],
    [
      'HEALTHCHECK --retires=1 CMD x',
      'unknown-flag|unknown flag --retires for HEALTHCHECK|did you mean --retries?',
    ],
    ['FROM --zzz=1 a', 'unknown-flag|unknown flag --zzz for FROM|FROM knows --platform'],
    [
      'RUN --__proto__=1 a',
      'unknown-flag|unknown flag --__proto__ for RUN|RUN knows --mount, --network, --security, --device',
    ],
    ['COPY --chown=a --chown=b c d', 'duplicate-flag|--chown is given twice'],
    ['COPY --from a b', 'invalid-flag-value|--from needs a value: --from=…'],
    ['COPY --link=no a b', 'invalid-flag-value|--link takes true or false, not "no"'],
    ['RUN --mount= x', 'invalid-flag-value|--mount has no value'],
    ['RUN --mount=type=bind,\\"a x', 'invalid-flag-value|--mount a double quote is not closed'],
    [
      'RUN --mount=type=bind,a\\"b x',
      'invalid-flag-value|--mount a double quote stands in a field that does not begin with one',
    ],
    [
      'RUN --mount=\\"a\\"b x',
      'invalid-flag-value|--mount something follows the double quote that ends a field',
    ],
    [
      'RUN --mount=from=$stage,target=/t x',
      "invalid-flag-value|--mount: 'from' doesn't support variable expansion|define a stage before: FROM with the variable, and a name behind AS",
    ],
    ['RUN --device= x', 'invalid-flag-value|--device has no value'],
    ['RUN --device=a,required=2 x', 'invalid-flag-value|--device: invalid value for required: 2'],
    ['RUN --device=a,name=b x', 'invalid-flag-value|--device: device name already set to a'],
    ['RUN --device=a,b x', "invalid-flag-value|--device: invalid field 'b' must be a key=value pair"],
    ['RUN --device=a,b=c x', "invalid-flag-value|--device: unexpected key 'b' in 'b=c'"],
    ['RUN --network=vpn x', 'invalid-flag-value|--network: "vpn" is none of default, none, host'],
    [
      'ONBUILD --what ARG A',
      'unknown-flag|unknown flag --what for ONBUILD|ONBUILD takes no flags; to start its text with --, write "ONBUILD -- …"',
    ],
  ])('of %s are refused', (instruction, fault) => {
    expect(faults(instruction)).toEqual([fault]);
  });

  test('of ARG and STOPSIGNAL are not looked at, as in BuildKit: a warning', () => {
    const { dockerfile, diagnostics } = parse('FROM a\nARG --x=1 A=b\nSTOPSIGNAL --y KILL\n');
    expect(diagnostics.map(({ severity, message }) => `${severity}: ${message}`)).toEqual([
      'warning: ARG takes no flags: --x says nothing',
      'warning: STOPSIGNAL takes no flags: --y says nothing',
    ]);
    expect(dockerfile?.stages[0]?.instructions).toMatchObject([
      { args: [{ name: { text: 'A' }, defaultValue: { text: 'b' } }] },
      { word: { text: 'KILL' } },
    ]);
  });

  test('of ONBUILD itself are refused before a faulty trigger too', () => {
    const { diagnostics } = parse('FROM a\nONBUILD --x what\n');
    expect(diagnostics.map(({ severity, code }) => `${severity} ${code}`)).toContain('error unknown-flag');
  });

  test('stand behind plain blanks only: another one begins the text', () => {
    const { dockerfile } = parse('FROM a\nRUN \u00a0--mount=type=what x\n');
    expect(dockerfile?.stages[0]?.instructions).toMatchObject([
      { flags: [], command: { text: '--mount=type=what x' } },
    ]);
  });
});

describe('parseDuration', () => {
  test.each([
    ['300ms', 300e6],
    ['1m30s', 90e9],
    ['1.5h', 5400e9],
    ['.5s', 0.5e9],
    ['1.s', 1e9],
    ['2us', 2000],
    ['2µs', 2000],
    ['3ns', 3],
    ['0', 0],
    ['-1s', -1e9],
    ['+1s', 1e9],
  ])('of %s is %d nanoseconds', (text, nanoseconds) => {
    expect(parseDuration(text)).toBe(nanoseconds);
  });

  test('of more than 64 bits is none', () => {
    expect(parseDuration('2562047h')).toBe(2562047 * 3600e9);
    expect(parseDuration('2562048h')).toBeUndefined();
  });

  test.each(['', '1', 's', '1d', '1 s', '.s', '1s2', '1e3s', `${'1'.repeat(100_000)}x`])(
    'of %j is undefined',
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );
});

describe('nearest', () => {
  test.each([
    ['RUNN', 'RUN'],
    ['rn', 'RUN'],
    ['FORM', 'FROM'],
    ['ENTRYPIONT', 'ENTRYPOINT'],
    ['CPOY', 'COPY'],
    ['HELATHCHEK', 'HEALTHCHECK'],
    ['FOO', undefined],
    ['INCLUDE', undefined],
    ['', undefined],
  ])('to %s is %s', (text, expected) => {
    const names = ['RUN', 'FROM', 'ENTRYPOINT', 'COPY', 'HEALTHCHECK'];
    expect(nearest(text, names)).toBe(expected);
  });
});
