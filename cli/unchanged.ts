import { randomBytes } from 'node:crypto';
import { Writable } from 'node:stream';
import type { UnchangedBuild } from '../builder/index.ts';
import {
  explainHit,
  explainHitSince,
  type NotedOutput,
  type OutputPiece,
  type StepRecord,
  sameAgeFor,
  type TimeSpan,
} from '../cache/index.ts';
import type { BuildEvent } from '../core/index.ts';
import { PlainRenderer } from './progress/plain.ts';
import type { OutputStream } from './progress/renderer.ts';
import type { Style } from './style.ts';

const DAY_MS = 86_400_000;

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
  const explain = (record: StepRecord) => explainHitSince(record, marks.ago(record.ranAtMs));
  for (const event of events) renderer.handle(timeless(event, unchanged, explain));
  const summary = /; 0\.0s\n$/.exec(text);
  const pieces: OutputPiece[] = [...marks.split(summary === null ? text : text.slice(0, summary.index + 2))];
  if (summary !== null) pieces.push({ kind: 'elapsed' }, { kind: 'text', text: '\n' });
  if (warnings !== '') pieces.push({ kind: 'text', text: warnings });
  return { fd: 2, pieces };
}

/**
 * What `--progress=tty` leaves on this terminal of the same build when it takes no time, and for how long the ages in it are right: lines are
 * cut to the terminal's width.
 */
export async function terminalAgain(
  { events, warnings }: ToldBuild,
  unchanged: UnchangedBuild,
  on: { readonly terminal: OutputStream; readonly style: Style; readonly nowMs: number },
): Promise<{ readonly output: NotedOutput; readonly during: TimeSpan }> {
  const { terminal, style, nowMs } = on;
  let text = '';
  const writable = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  const { columns = 80, rows = 24 } = terminal;
  const { openTerminalRenderer } = await import('./progress/tty.ts');
  const renderer = openTerminalRenderer({
    output: Object.assign(writable, { isTTY: true, columns, rows }),
    style,
    now: () => nowMs,
  });
  for (const event of events)
    renderer.handle(timeless(event, unchanged, (record) => explainHit(record, nowMs)));
  await renderer.finish();
  const ages = [...unchanged.hits.values()].map(({ record }) => nowMs - record.ranAtMs);
  return {
    output: { fd: 2, pieces: [{ kind: 'text', text: `${text}${warnings}` }] },
    during: { fromMs: nowMs, untilMs: nowMs + Math.min(DAY_MS, ...ages.map(sameAgeFor)) },
  };
}

/** The event as it would be if all went at once, and each hit as it is explained. */
function timeless(
  event: BuildEvent,
  { hits }: UnchangedBuild,
  explain: (record: StepRecord) => string,
): BuildEvent {
  if (event.type !== 'step.finished') return { ...event, at: 0 };
  const record = hits.get(event.step)?.record;
  if (record === undefined) throw new Error(`step ${event.step} was no hit`);
  return { ...event, at: 0, ms: 0, reason: explain(record) };
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
