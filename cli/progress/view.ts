import {
  type BuildEvent,
  type BuiltImage,
  type Diagnostic,
  type StepInfo,
  type StepOutcome,
  unreachable,
} from '../../core/index.ts';
import { safeLine } from './text.ts';

/** How many of a step's last lines are kept: enough to show why it failed. */
const TAIL_LINES = 40;
/** A line without an end is cut here, so that a step cannot fill the memory. */
const MAX_LINE = 16_384;

export type StepState =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'running'; readonly since: number }
  | {
      readonly kind: 'finished';
      readonly outcome: StepOutcome;
      readonly reason: string;
      readonly ms: number;
    };

export interface StepView {
  readonly info: StepInfo;
  /** `[build 2/4] RUN npm ci` */
  readonly title: string;
  /** Order of beginning among steps and phases, from 1; absent while waiting. */
  readonly number?: number;
  readonly state: StepState;
  /** Whole lines, oldest first, at most {@link TAIL_LINES}. */
  readonly tail: readonly string[];
  /** Begun lines per stream. */
  readonly open: { readonly stdout: string; readonly stderr: string };
}

/** Work that is no step: reading the Dockerfile, fetching a base image, exporting. */
export interface PhaseView {
  readonly id: string;
  readonly name: string;
  readonly number: number;
  readonly since: number;
  readonly progress?: {
    readonly current: number;
    readonly total?: number;
    readonly unit: 'bytes' | 'files' | 'steps';
  };
  readonly finished?: { readonly at: number; readonly detail?: string };
}

/** A build as it looks after some of its events. */
export interface BuildView {
  readonly id: string;
  readonly dockerfile: string;
  /** Time of the last event, ms since the build began. */
  readonly at: number;
  /** In Dockerfile order. */
  readonly steps: readonly StepView[];
  /** In order of beginning. */
  readonly phases: readonly PhaseView[];
  readonly warnings: readonly Diagnostic[];
  readonly result?: { readonly ok: boolean; readonly image?: BuiltImage; readonly error?: string };
}

export const EMPTY_VIEW: BuildView = { id: '', dockerfile: '', at: 0, steps: [], phases: [], warnings: [] };

/** The view after `event`. Events about steps or phases that were never announced change nothing but the time. */
export function reduce(view: BuildView, event: BuildEvent): BuildView {
  const now: BuildView = { ...view, at: event.at };
  switch (event.type) {
    case 'build.started':
      return { ...now, id: event.id, dockerfile: event.dockerfile };
    case 'build.planned':
      return { ...now, steps: planSteps(event.steps) };
    case 'phase.started':
      return {
        ...now,
        phases: [
          ...view.phases,
          { id: event.phase, name: event.name, number: nextNumber(view), since: event.at },
        ],
      };
    case 'phase.progress': {
      const { current, total, unit } = event;
      const progress = total === undefined ? { current, unit } : { current, total, unit };
      return withPhase(now, event.phase, (phase) => ({ ...phase, progress }));
    }
    case 'phase.finished': {
      const { at, detail } = event;
      const finished = detail === undefined ? { at } : { at, detail };
      return withPhase(now, event.phase, (phase) => ({ ...phase, finished }));
    }
    case 'step.started':
      return withStep(now, event.step, (step) => ({
        ...step,
        number: step.number ?? nextNumber(view),
        state: { kind: 'running', since: event.at },
      }));
    case 'step.log':
      return withStep(now, event.step, (step) => addLog(step, event.stream, event.text));
    case 'step.finished': {
      const { outcome, reason, ms } = event;
      return withStep(now, event.step, (step) => ({
        ...step,
        number: step.number ?? nextNumber(view),
        state: { kind: 'finished', outcome, reason, ms },
      }));
    }
    case 'warning':
      return { ...now, warnings: [...view.warnings, event.diagnostic] };
    case 'build.finished': {
      const { ok, image, error } = event;
      return {
        ...now,
        result: { ok, ...(image === undefined ? {} : { image }), ...(error === undefined ? {} : { error }) },
      };
    }
    default:
      return unreachable(event);
  }
}

/** The lines that `text` completes on a stream that has `open` begun, and what is begun after it. */
export function splitLines(
  open: string,
  text: string,
): { readonly lines: readonly string[]; readonly open: string } {
  const parts = `${open}${text}`.split('\n');
  const rest = parts.pop() ?? '';
  if (rest.length <= MAX_LINE) return { lines: parts, open: rest };
  return { lines: [...parts, rest.slice(0, MAX_LINE)], open: rest.slice(MAX_LINE) };
}

/** The step with this index, as events name it. */
export function stepAt(view: BuildView, index: number): StepView | undefined {
  const step = view.steps[index];
  return step?.info.index === index ? step : view.steps.find((one) => one.info.index === index);
}

/** `[internal] load metadata of debian:12`, so that phases and steps read alike. */
export function phaseTitle(phase: PhaseView): string {
  return phase.name.startsWith('[') ? safeLine(phase.name) : `[internal] ${safeLine(phase.name)}`;
}

/** Steps by outcome; those that did not finish are not counted. */
export function countOutcomes(view: BuildView): Readonly<Record<StepOutcome, number>> {
  const counts = { exact: 0, observed: 0, ran: 0, failed: 0 };
  for (const { state } of view.steps) if (state.kind === 'finished') counts[state.outcome] += 1;
  return counts;
}

function addLog(step: StepView, stream: 'stdout' | 'stderr', text: string): StepView {
  const { lines, open } = splitLines(step.open[stream], text);
  const tail = lines.length === 0 ? step.tail : [...step.tail, ...lines].slice(-TAIL_LINES);
  return { ...step, tail, open: { ...step.open, [stream]: open } };
}

/** Titles as BuildKit's: `[stage 2/4] RUN …`, `[linux/arm64 stage 2/4] RUN …`; the stage is left out where it is the only one and has no name. */
function planSteps(infos: readonly StepInfo[]): StepView[] {
  const isOnly = new Set(infos.map(({ stage }) => stage)).size === 1;
  return stagesOf(infos).flatMap((steps) =>
    steps.map((info, nth) => {
      const unnamed = /^[0-9]+$/.test(info.stage);
      const stage = unnamed ? (isOnly ? '' : `stage-${info.stage} `) : `${info.stage} `;
      const platform = info.platform === undefined ? '' : `${info.platform} `;
      const title = `[${platform}${stage}${nth + 1}/${steps.length}] ${safeLine(info.name)}`;
      return { info, title, state: { kind: 'waiting' }, tail: [], open: { stdout: '', stderr: '' } };
    }),
  );
}

/** The steps of each stage; of one that is built for several platforms, those for each of them. */
function stagesOf(infos: readonly StepInfo[]): StepInfo[][] {
  const stages: StepInfo[][] = [];
  for (const info of infos) {
    const last = stages.at(-1);
    const before = last?.at(-1);
    const goesOn =
      before !== undefined &&
      before.stage === info.stage &&
      before.range.start.offset <= info.range.start.offset;
    if (goesOn) last?.push(info);
    else stages.push([info]);
  }
  return stages;
}

function nextNumber(view: BuildView): number {
  return view.phases.length + view.steps.filter(({ number }) => number !== undefined).length + 1;
}

function withStep(view: BuildView, index: number, change: (step: StepView) => StepView): BuildView {
  const old = stepAt(view, index);
  if (old === undefined) return view;
  return { ...view, steps: view.steps.map((step) => (step === old ? change(step) : step)) };
}

function withPhase(view: BuildView, id: string, change: (phase: PhaseView) => PhaseView): BuildView {
  return { ...view, phases: view.phases.map((phase) => (phase.id === id ? change(phase) : phase)) };
}
