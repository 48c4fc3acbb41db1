import { randomBytes } from 'node:crypto';
import { Writable } from 'node:stream';
import type { UnchangedBuild } from '../builder/index.ts';
import { explainHitSince, type NotedOutput, type OutputPiece } from '../cache/index.ts';
import type { BuildEvent } from '../core/index.ts';
import { PlainRenderer } from './progress/plain.ts';

/** What a build told, to be told again by a later one in which nothing has changed. */
export interface ToldBuild {
  readonly events: readonly BuildEvent[];
  /** What came on standard error after the progress. */
  readonly warnings: string;
}

/** Marks a time within a text that is taken apart again: no text of a build has it, since nobody can guess its number. */
interface Marks {
  readonly ago: (atMs: number) => string;
  readonly split: (text: string) => readonly OutputPiece[];
}

/** What `--progress=plain` says of the same build when it takes no time. */
export function plainAgain({ events, warnings }: ToldBuild, unchanged: UnchangedBuild): NotedOutput {
  const marks = newMarks();
  let text = '';
  const output = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  const renderer = new PlainRenderer({ output });
  for (const event of events) renderer.handle(timeless(event, unchanged, marks));
  const summary = /; 0\.0s\n$/.exec(text);
  const pieces: OutputPiece[] = [...marks.split(summary === null ? text : text.slice(0, summary.index + 2))];
  if (summary !== null) pieces.push({ kind: 'elapsed' }, { kind: 'text', text: '\n' });
  if (warnings !== '') pieces.push({ kind: 'text', text: warnings });
  return { fd: 2, pieces };
}

/** The event as it would be if all went at once, and each hit with a mark for its age. */
function timeless(event: BuildEvent, { hits }: UnchangedBuild, marks: Marks): BuildEvent {
  if (event.type !== 'step.finished') return { ...event, at: 0 };
  const record = hits.get(event.step)?.record;
  if (record === undefined) throw new Error(`step ${event.step} was no hit`);
  return { ...event, at: 0, ms: 0, reason: explainHitSince(record, marks.ago(record.ranAtMs)) };
}

function newMarks(): Marks {
  const name = randomBytes(16).toString('hex');
  const pattern = new RegExp(`<${name} (-?\\d+)>`, 'g');
  return {
    ago: (atMs) => `<${name} ${Math.floor(atMs)}>`,
    split: (text) =>
      text
        .split(pattern)
        .map((part, nth) =>
          nth % 2 === 0 ? { kind: 'text', text: part } : { kind: 'ago', atMs: Number(part) },
        ),
  };
}
