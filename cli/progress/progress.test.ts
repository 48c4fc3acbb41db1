import { describe, expect, test } from 'vitest';
import type { BuildEvent } from '../../core/index.ts';
import { COLOR_STYLE, NO_STYLE, styleFor } from '../style.ts';
import { PlainRenderer } from './plain.ts';
import { chooseMode, openRenderer } from './renderer.ts';
import { activeRows } from './rows.ts';
import { captureStream, exampleEvents, SOME_DIGEST, stepInfos } from './testing.ts';
import { formatSeconds, formatSize, safeLine } from './text.ts';
import { type BuildView, EMPTY_VIEW, reduce, stepAt } from './view.ts';

const view = (events: readonly BuildEvent[]): BuildView => events.reduce(reduce, EMPTY_VIEW);

describe('reduce', () => {
  test('numbers steps and phases in order of beginning and keeps the plan in Dockerfile order', () => {
    const { steps, phases } = view(exampleEvents());
    expect(phases.map(({ number }) => number)).toEqual([1]);
    expect(steps.map(({ title, number }) => [number, title])).toEqual([
      [2, '[build 1/2] COPY package.json .'],
      [3, '[build 2/2] RUN npm ci'],
      [4, '[stage-1 1/1] RUN touch /x'],
    ]);
  });

  test('puts lines together that come in pieces', () => {
    expect(stepAt(view(exampleEvents()), 1)?.tail).toEqual(['added 3', 'half a line\r']);
  });

  test('leaves the view that it was given as it was', () => {
    const before = view(exampleEvents().slice(0, 8));
    const copy = structuredClone(before);
    reduce(before, { type: 'step.log', at: 1, step: 1, stream: 'stdout', text: 'x\n' });
    expect(before).toEqual(copy);
  });

  test('keeps the last 40 lines only, and cuts a line without an end', () => {
    const started = view(exampleEvents().slice(0, 8));
    const text = Array.from({ length: 1000 }, (_, line) => `line ${line}\n`).join('');
    const logged = reduce(started, { type: 'step.log', at: 1, step: 1, stream: 'stdout', text });
    expect(stepAt(logged, 1)?.tail.length).toBe(40);
    expect(stepAt(logged, 1)?.tail.at(-1)).toBe('line 999');
    const flooded = reduce(started, {
      type: 'step.log',
      at: 1,
      step: 1,
      stream: 'stdout',
      text: 'x'.repeat(100_000),
    });
    const step = stepAt(flooded, 1);
    expect(step?.tail[0]?.length).toBe(16_384);
  });

  test('ignores events about steps that were never announced', () => {
    expect(reduce(EMPTY_VIEW, { type: 'step.started', at: 5, step: 7 })).toEqual({ ...EMPTY_VIEW, at: 5 });
  });

  test('titles name the platform, and count each platform’s steps of a stage by themselves', () => {
    const at = (offset: number) => ({ line: offset, column: 1, offset });
    const steps = stepInfos('b: RUN a', 'b: RUN b', 'b: RUN a', 'b: RUN b').map((info, nth) => ({
      ...info,
      platform: ['linux/amd64', 'linux/amd64', 'linux/amd64', 'linux/amd64->arm64'][nth] ?? '',
      range: { start: at(nth % 2), end: at(nth % 2) },
    }));
    const planned = view([{ type: 'build.planned', at: 0, steps }]);
    expect(planned.steps.map(({ title }) => title)).toEqual([
      '[linux/amd64 b 1/2] RUN a',
      '[linux/amd64 b 2/2] RUN b',
      '[linux/amd64 b 1/2] RUN a',
      '[linux/amd64->arm64 b 2/2] RUN b',
    ]);
  });

  test('one stage without a name is not named in titles', () => {
    const planned = view([{ type: 'build.planned', at: 0, steps: stepInfos('0: RUN a', '0: RUN b') }]);
    expect(planned.steps.map(({ title }) => title)).toEqual(['[1/2] RUN a', '[2/2] RUN b']);
  });
});

describe('PlainRenderer', () => {
  function plain(events: readonly BuildEvent[], terminal?: { columns: number; rows: number }): string {
    const output = captureStream(terminal);
    const renderer = new PlainRenderer({ output });
    for (const event of events) renderer.handle(event);
    return output.text();
  }

  test('draws stages side by side as BuildKit does, with reasons', async () => {
    await expect(plain(exampleEvents())).toMatchFileSnapshot('../golden/progress-plain.txt');
  });

  test('tells image, names and counts at the end', () => {
    const image = {
      manifestDigest: SOME_DIGEST,
      configDigest: SOME_DIGEST,
      names: ['docker.io/library/app:1'],
    };
    const events: BuildEvent[] = [
      ...exampleEvents().slice(0, -3),
      { type: 'build.finished', at: 2000, ok: true, image },
    ];
    expect(plain(events)).toContain(
      `\nimage ${SOME_DIGEST}\nnamed docker.io/library/app:1\n3 steps: 1 exact; 2.0s\n`,
    );
  });

  test('lets no control sequence of a step reach a terminal, but leaves a pipe its bytes', () => {
    const attack = '\x1b[2J\x1b]0;title\x07\x9b31mred\u202e\n';
    const events: BuildEvent[] = [
      ...exampleEvents().slice(0, 8),
      { type: 'step.log', at: 300, step: 1, stream: 'stdout', text: attack },
    ];
    const onTerminal = plain(events, { columns: 80, rows: 24 });
    expect(onTerminal).toContain('red');
    expect(onTerminal).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    expect(plain(events)).toContain('\x1b[2J');
  });
});

describe('openRenderer', () => {
  test('rawjson prints every event on a line of its own', async () => {
    const output = captureStream();
    const renderer = await openRenderer('rawjson', { output, style: NO_STYLE, now: () => 0 });
    for (const event of exampleEvents()) renderer.handle(event);
    await renderer.finish();
    const lines = output.text().trimEnd().split('\n');
    expect(lines.map((line): unknown => JSON.parse(line))).toEqual(exampleEvents());
  });

  test('quiet shows only the last lines of a step that failed', async () => {
    const output = captureStream();
    const renderer = await openRenderer('quiet', { output, style: NO_STYLE, now: () => 0 });
    for (const event of exampleEvents()) renderer.handle(event);
    expect(output.text()).toBe('');
    await renderer.finish();
    expect(output.text()).toBe('------\n > [build 2/2] RUN npm ci:\nadded 3\nhalf a line\n------\n');
  });

  test('tty leaves every finished layer and the failed step on the screen', async () => {
    const output = captureStream({ columns: 80, rows: 24 });
    const renderer = await openRenderer('tty', { output, style: NO_STYLE, now: () => 0 });
    for (const event of exampleEvents()) renderer.handle(event);
    await renderer.finish();
    const text = output.text().replace(/ +/g, ' ');
    expect(text).toContain(' exact [build 1/2] COPY package.json . same command, same files');
    expect(text).toContain(' ran [stage-1 1/1] RUN touch /x never ran before');
    expect(text).toContain(' failed [build 2/2] RUN npm ci exit code 1');
    expect(text).toContain('half a line');
    expect(text).toContain('[+] Failed 1.6s (3/3) Dockerfile');
  });

  test('tty shows nothing of the control characters that a step prints', async () => {
    const output = captureStream({ columns: 80, rows: 24 });
    const renderer = await openRenderer('tty', { output, style: NO_STYLE, now: () => 0 });
    const events: BuildEvent[] = [
      ...exampleEvents().slice(0, 8),
      {
        type: 'step.log',
        at: 300,
        step: 1,
        stream: 'stdout',
        text: '\x1b]0;owned\x07\x1b[?1049hvisible\nagain\x1b[5;5H',
      },
    ];
    for (const event of events) renderer.handle(event);
    await renderer.finish();
    expect(output.text()).toContain('again');
    expect(output.text()).not.toContain('owned');
    expect(output.text()).not.toContain('\x1b[?1049h');
    expect(output.text()).not.toContain('\x1b[5;5H');
  });
});

describe('activeRows', () => {
  test.each([3, 5, 8, 23])('never needs more than %i rows', (height) => {
    const names = Array.from({ length: 60 }, (_, index) => `s${index}: RUN ${index}`);
    let planned = reduce(EMPTY_VIEW, { type: 'build.planned', at: 0, steps: stepInfos(...names) });
    for (let step = 0; step < 12; step += 1) {
      planned = reduce(planned, { type: 'step.started', at: 0, step });
      planned = reduce(planned, { type: 'step.log', at: 0, step, stream: 'stdout', text: 'log\n' });
    }
    expect(activeRows(planned, { at: 1, height, style: NO_STYLE }).length).toBeLessThanOrEqual(height);
  });
});

test.each([
  ['auto', true, {}, 'tty'],
  ['auto', false, {}, 'plain'],
  ['auto', true, { TERM: 'dumb' }, 'plain'],
  ['auto', true, { CI: 'true' }, 'plain'],
  ['tty', false, {}, 'plain'],
  ['plain', true, {}, 'plain'],
  ['rawjson', true, {}, 'rawjson'],
] as const)('chooseMode: %s with terminal %s and %j is %s', (asked, isTTY, env, expected) => {
  expect(chooseMode(asked, { isTTY }, env)).toBe(expected);
});

test('styleFor: colours on terminals only, and not under NO_COLOR', () => {
  expect(styleFor({ isTTY: true }, {})).toBe(COLOR_STYLE);
  expect(styleFor({ isTTY: true }, { NO_COLOR: '1' })).toBe(NO_STYLE);
  expect(styleFor({ isTTY: true }, { NO_COLOR: '' })).toBe(COLOR_STYLE);
  expect(styleFor({}, {})).toBe(NO_STYLE);
});

test.each([
  ['a\tb', 'a    b'],
  ['10%\r20%\r30%', '30%'],
  ['done\r', 'done'],
  ['\x1b[31mred\x1b[0m', 'red'],
  ['\x1b]8;;http://x\x07link\x1b]8;;\x07', 'link'],
  ['a\u0000\u0007\u009bb', 'ab'],
  ['日本語 ok', '日本語 ok'],
])('safeLine: %j is shown as %j', (line, expected) => {
  expect(safeLine(line)).toBe(expected);
});

test.each([
  [0, '0.0s'],
  [449, '0.4s'],
  [59_999, '59.9s'],
  [65_000, '1m05s'],
  [3_725_000, '1h02m'],
])('formatSeconds: %i ms is %s', (ms, expected) => {
  expect(formatSeconds(ms)).toBe(expected);
});

test.each([
  [0, '0B'],
  [999, '999B'],
  [1000, '1kB'],
  [1_234_567, '1.23MB'],
  [74_800_000, '74.8MB'],
])('formatSize: %i bytes are %s', (bytes, expected) => {
  expect(formatSize(bytes)).toBe(expected);
});
