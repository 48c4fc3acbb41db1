import { describe, expect, test } from 'vitest';
import type { SourceRange } from '../../core/index.ts';
import type { CallAnswer } from '../engine-contract.ts';
import { callFailure, callJson, callText } from './call.ts';

const TEXT = `FROM scratch as one
RUN a
ENV b c
CMD run \\
  it
LABEL last=1`;

const dockerfile = { file: 'Dockerfile', text: TEXT };
const about = { dockerfile, unknownImages: [] } as const;

function lines(first: number, last = first): SourceRange {
  return {
    start: { line: first, column: 1, offset: 0 },
    end: { line: last, column: 5, offset: 0 },
  };
}

const CHECKED: Extract<CallAnswer, { kind: 'check' }> = {
  ...about,
  kind: 'check',
  notes: [],
  warnings: [
    {
      severity: 'warning',
      code: 'InvalidBaseImagePlatform',
      message: 'Base image one is for \u001b[31manother',
      range: lines(1),
    },
    {
      severity: 'warning',
      code: 'JSONArgsRecommended',
      message: 'JSON arguments recommended for CMD to prevent unintended behavior related to OS signals',
      range: lines(4, 5),
      hint: 'not shown',
      url: 'https://docs.docker.com/go/dockerfile/rule/json-args-recommended/',
    },
  ],
};

describe('callText', () => {
  test('of a check has each warning with its lines, as buildx', () => {
    expect(callText(CHECKED)).toBe(`Check complete, 2 warnings have been found!

WARNING: InvalidBaseImagePlatform
Base image one is for another
Dockerfile:1
--------------------
   1 | >>> FROM scratch as one
   2 |     RUN a
   3 |     ENV b c
--------------------

WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/
JSON arguments recommended for CMD to prevent unintended behavior related to OS signals
Dockerfile:4
--------------------
   3 |     ENV b c
   4 | >>> CMD run \\
   5 | >>>   it
   6 |     LABEL last=1
--------------------
`);
  });

  test('of a check that found one thing, nothing, or a failure alone', () => {
    const [warning] = CHECKED.warnings;
    if (warning === undefined) throw new Error('no warning');
    expect(callText({ ...CHECKED, warnings: [warning] })).toMatch(
      /^Check complete, 1 warning has been found!\n/,
    );
    expect(callText({ ...CHECKED, warnings: [] })).toBe('Check complete, no warnings found.\n');
    const failure = { kind: 'build-failure', code: 'x', message: 'no', range: lines(3) } as const;
    const failed = { ...CHECKED, warnings: [], failure };
    expect(callText(failed)).toBe('');
    expect(callFailure(failed)).toMatch(/^no\nDockerfile:3\n-+\n {3}1 \| {5}FROM.*\n.*\n {3}3 \| >>> ENV/);
  });

  test('of an outline and of targets are tables', () => {
    const range = lines(1);
    expect(
      callText({
        ...about,
        kind: 'outline',
        outline: {
          name: 'app',
          description: 'is what runs',
          args: [
            { name: 'VERSION', value: '1', description: 'of the app', range },
            { name: 'DEBUG', range },
          ],
          secrets: [{ id: 'token', required: true, range }],
          ssh: [{ id: 'default', required: false, range }],
          cache: [{ id: '/root/.npm', required: false, range }],
        },
      }),
    ).toBe(`TARGET:      app
DESCRIPTION: is what runs

BUILD ARG   VALUE   DESCRIPTION
VERSION     1       of the app
DEBUG${' '.repeat(15)}

SECRET   REQUIRED
token    true

SSH       REQUIRED
default${' '.repeat(3)}

CACHE MOUNT
/root/.npm

`);
    expect(
      callText({
        ...about,
        kind: 'targets',
        targets: [
          { name: 'build', description: 'compiles', isDefault: false, base: 'x', range },
          { name: 'app', isDefault: true, base: 'build', range },
        ],
      }),
    ).toBe(`TARGET        DESCRIPTION
build         compiles
app (default)${' '}
`);
  });
});

describe('callJson', () => {
  test('of a check has the shape of BuildKit: one range for each line, the source in base64', () => {
    const failure = {
      kind: 'build-failure',
      code: 'unknown-instruction',
      message: 'unknown instruction: BAD',
      range: lines(3),
      diagnostics: [{ severity: 'error', code: 'x', message: 'unknown instruction: BAD', range: lines(3) }],
    } as const;
    expect(JSON.parse(callJson({ ...CHECKED, failure }))).toEqual({
      warnings: [
        expect.objectContaining({
          ruleName: 'InvalidBaseImagePlatform',
          description: 'Base image platform does not match expected target platform',
          location: { ranges: [{ start: { line: 1 }, end: { line: 1 } }] },
        }),
        {
          ruleName: 'JSONArgsRecommended',
          description:
            'JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals',
          url: 'https://docs.docker.com/go/dockerfile/rule/json-args-recommended/',
          detail: 'JSON arguments recommended for CMD to prevent unintended behavior related to OS signals',
          location: {
            ranges: [
              { start: { line: 4 }, end: { line: 4 } },
              { start: { line: 5 }, end: { line: 5 } },
            ],
          },
        },
      ],
      sources: [
        { filename: 'Dockerfile', language: 'Dockerfile', data: Buffer.from(TEXT).toString('base64') },
      ],
      buildError: {
        message: 'dockerfile parse error on line 3: unknown instruction: BAD',
        location: { ranges: [{ start: { line: 3 }, end: { line: 3 } }] },
      },
    });
  });

  test('of an outline leaves out what is empty; of targets it names the default', () => {
    const range = lines(2);
    const location = { ranges: [{ start: { line: 2 }, end: { line: 2 } }] };
    const data = Buffer.from(TEXT).toString('base64');
    const outline = { args: [], secrets: [], ssh: [], cache: [] };
    expect(JSON.parse(callJson({ ...about, kind: 'outline', outline }))).toEqual({ sources: [data] });
    const mounts = {
      ...outline,
      secrets: [{ id: 's', required: true, range }],
      cache: [{ id: 'c', required: false, range }],
    };
    expect(JSON.parse(callJson({ ...about, kind: 'outline', outline: mounts }))).toEqual({
      secrets: [{ name: 's', required: true, location }],
      cache: [{ ID: 'c', location }],
      sources: [data],
    });
    const targets = [{ name: 'a', isDefault: true, base: 'b', platform: '$P', range }];
    expect(JSON.parse(callJson({ ...about, kind: 'targets', targets }))).toEqual({
      targets: [{ name: 'a', default: true, base: 'b', platform: '$P', location }],
      sources: [data],
    });
  });
});
