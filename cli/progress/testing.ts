import { PassThrough } from 'node:stream';
import type { BuildEvent, Digest, SourceRange, StepInfo, StepKind } from '../../core/index.ts';
import type { OutputStream } from './renderer.ts';

/** A place in a Dockerfile, for tests that do not care which. */
export const SOME_RANGE: SourceRange = {
  start: { line: 3, column: 1, offset: 20 },
  end: { line: 3, column: 5, offset: 24 },
};

export const SOME_DIGEST = `sha256:${'ab'.repeat(32)}` as Digest;

/** Steps from `stage: RUN x` lines. */
export function stepInfos(...lines: readonly string[]): StepInfo[] {
  return lines.map((line, index) => {
    const [stage = '', name = ''] = line.split(/: (.*)/s);
    return { index, stage, name, kind: name.split(' ')[0] as StepKind, range: SOME_RANGE };
  });
}

/** A stream that keeps what is written to it. */
export function captureStream(terminal?: {
  columns: number;
  rows: number;
}): OutputStream & { text(): string } {
  const chunks: Buffer[] = [];
  const stream = new PassThrough();
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const text = (): string => Buffer.concat(chunks).toString('utf8');
  return Object.assign(stream, { text }, terminal === undefined ? {} : { isTTY: true, ...terminal });
}

/** A build of two stages side by side: a hit, a step that fails after logging, one that runs. */
export function exampleEvents(): BuildEvent[] {
  const steps = stepInfos('build: COPY package.json .', 'build: RUN npm ci', '1: RUN touch /x');
  return [
    { type: 'build.started', at: 0, id: 'b1', dockerfile: 'Dockerfile' },
    { type: 'phase.started', at: 1, phase: 'base', name: 'load metadata of debian:12' },
    { type: 'phase.progress', at: 100, phase: 'base', current: 5_000_000, total: 10_000_000, unit: 'bytes' },
    { type: 'phase.finished', at: 200, phase: 'base', detail: 'debian@sha256:12' },
    { type: 'build.planned', at: 200, steps },
    { type: 'step.started', at: 210, step: 0 },
    { type: 'step.finished', at: 215, step: 0, outcome: 'exact', reason: 'same command, same files', ms: 5 },
    { type: 'step.started', at: 220, step: 1 },
    { type: 'step.log', at: 632, step: 1, stream: 'stdout', text: 'added 3\nhalf' },
    { type: 'step.started', at: 640, step: 2 },
    { type: 'step.log', at: 650, step: 1, stream: 'stdout', text: ' a line\r\n' },
    { type: 'step.log', at: 660, step: 2, stream: 'stderr', text: 'no end' },
    { type: 'step.finished', at: 1460, step: 2, outcome: 'ran', reason: 'never ran before', ms: 820 },
    { type: 'step.finished', at: 1500, step: 1, outcome: 'failed', reason: 'exit code 1', ms: 1280 },
    { type: 'build.finished', at: 1600, ok: false, error: 'RUN npm ci failed' },
  ];
}
