import { expect, test } from 'vitest';
import type { UnchangedBuild } from '../builder/index.ts';
import type { StepRecord } from '../cache/index.ts';
import { type BuildEvent, digestOf, type StepKey } from '../core/index.ts';
import { captureStream, SOME_DIGEST, stepInfos } from './progress/testing.ts';
import { NO_STYLE } from './style.ts';
import { plainAgain, terminalAgain } from './unchanged.ts';

const NOW = 1_700_000_000_000;
const MINUTE = 60_000;
const KEY = digestOf('key') as string as StepKey;

const record: StepRecord = {
  key: KEY,
  origin: 'ran',
  createdAtMs: NOW - 5 * MINUTE - 1,
  ranAtMs: NOW - 5 * MINUTE - 1,
  durationMs: 1500,
};

const unchanged: UnchangedBuild = {
  host: [],
  hits: new Map([[0, { record, slot: 's' }]]),
  report: {
    ...{ id: 'b', startedAtMs: NOW, finishedAtMs: NOW, dockerfile: '', context: '', target: '' },
    ok: true,
    steps: [],
  },
};

const image = { manifestDigest: SOME_DIGEST, configDigest: SOME_DIGEST, names: ['app:latest'] };
const told = {
  events: [
    { type: 'build.started', at: 0, id: 'b', dockerfile: 'Dockerfile' },
    { type: 'build.planned', at: 90, steps: stepInfos('0: COPY a .') },
    { type: 'step.started', at: 100, step: 0 },
    { type: 'step.finished', at: 300, step: 0, outcome: 'exact', reason: 'as 4 minutes ago', ms: 200 },
    { type: 'phase.started', at: 300, phase: 'export', name: 'exporting to image' },
    { type: 'phase.finished', at: 1200, phase: 'export', detail: 'image x' },
    { type: 'build.finished', at: 1300, ok: true, image },
  ] satisfies readonly BuildEvent[],
  warnings: ' 1 warning found:\n',
};

test('plainAgain leaves the ages of hits and the time that it took to be put in', () => {
  const { fd, pieces } = plainAgain(told, unchanged);
  expect(fd).toBe(2);
  const text = pieces.map((piece) => (piece.kind === 'text' ? piece.text : `<${piece.kind}>`)).join('');
  expect(text).toBe(`#0 building Dockerfile (build b)

#1 [1/1] COPY a .
#1 CACHED (exact: same action, parent and inputs as <ago>, saved 1.5s)

#2 [internal] exporting to image
#2 image x
#2 DONE 0.0s

image ${SOME_DIGEST}
named app:latest
1 step: 1 exact; <elapsed>
 1 warning found:
`);
  expect(pieces.find(({ kind }) => kind === 'ago')).toEqual({ kind: 'ago', atMs: record.ranAtMs });
});

test('terminalAgain leaves what stays on the terminal, and tells until when its ages are right', async () => {
  const terminal = captureStream({ columns: 120, rows: 24 });
  const { output, during } = await terminalAgain(told, unchanged, { terminal, style: NO_STYLE, nowMs: NOW });
  expect(output).toMatchObject({ fd: 2, pieces: [{ kind: 'text' }] });
  const [piece] = output.pieces;
  const text = piece?.kind === 'text' ? piece.text : '';
  expect(text).toContain(
    'exact    [1/1] COPY a .  same action, parent and inputs as 5 minutes ago, saved 1.5s',
  );
  expect(text).toContain('[+] Finished 0.0s (1/1) Dockerfile');
  expect(text.endsWith(told.warnings)).toBe(true);
  expect(during).toEqual({ fromMs: NOW, untilMs: NOW + MINUTE - 1 });
  expect(terminal.text()).toBe('');
});
