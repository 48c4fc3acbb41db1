import {
  type MissReason,
  type StepQuery,
  type StepRecord,
  type StepResult,
  stepKey,
} from '../cache/index.ts';
import {
  type BuildEvent,
  type CommittedSnapshot,
  type EventSink,
  type FrozenSnapshot,
  firstError,
  type ImagePath,
  type StepKey,
  unreachable,
} from '../core/index.ts';
import type { PackedLayer } from '../image/index.ts';
import { type Attempt, queryOf, resultOf, type SolvedStep, solvedBy, standsOn } from './attempt.ts';
import type { BuilderParts } from './contract.ts';
import type { BuildGraph, StagePlan, Step, TreeRef } from './graph.ts';
import { Hits, type HitsOptions, type TryHit } from './hits.ts';
import type { Limiter } from './limiter.ts';
import { contentOf, findSameResult } from './same-result.ts';
import { type Standing, standOnCommitted } from './standing.ts';
import type { Executed, PreparedStep } from './steps/prepared-step.ts';
import type { ReusedStep } from './verify.ts';

export interface SolverOptions extends HitsOptions {
  readonly graph: BuildGraph;
  readonly parts: Pick<BuilderParts, 'cache' | 'snapshotter' | 'packLayer' | 'layerTable' | 'now'>;
  /** Where a stage begins: its base made ready. */
  readonly standOn: (stage: StagePlan, solver: Solver) => Promise<Standing>;
  readonly prepare: (step: Step, solver: Solver) => Promise<PreparedStep>;
  readonly explain: HitsOptions['explain'] & { readonly miss: (reason: MissReason) => string };
  readonly limiter: Limiter;
  readonly emit: (event: TimelessEvent) => void;
  readonly signal: AbortSignal;
}

/** An event before the time is put on it. */
export type TimelessEvent = BuildEvent extends infer E
  ? E extends BuildEvent
    ? Omit<E, 'at'>
    : never
  : never;

/** Puts the time since `start` on events. */
export function timed(sink: EventSink, now: () => number): (event: TimelessEvent) => void {
  const start = now();
  return (event) => sink({ ...event, at: now() - start });
}

/**
 * Carries out a graph: stages side by side as far as they do not need each other, the steps of a stage in order.
 *
 * A step on a miss: its command runs, its snapshot is frozen, and the next step starts on that while the layer is hashed,
 * committed and recorded. Whether a step is worth looking up before its parent's hash is known is told by
 * `cache.knows`: an action that never ran cannot hit. The lock that keeps two processes from running the same step is
 * taken under the way (see Standing), which is known without any hash, and held until the record is written.
 */
export class Solver implements AsyncDisposable {
  readonly solved = new Map<number, SolvedStep>();
  readonly #options: SolverOptions;
  readonly #stages = new Map<number, Promise<Standing>>();
  readonly #background = new Set<Promise<unknown>>();
  readonly #frozen = new AsyncDisposableStack();
  readonly #abort = new AbortController();
  /** The ways of steps that this build has carried out. */
  readonly #ranHere = new Set<StepKey>();
  readonly #hits: Hits;
  readonly #reused: { readonly attempt: Attempt; readonly record: StepRecord }[] = [];
  readonly signal: AbortSignal;

  constructor(options: SolverOptions) {
    this.#options = options;
    this.#hits = new Hits(options);
    this.signal = AbortSignal.any([options.signal, this.#abort.signal]);
  }

  /** The end of stage `index`, started when it is first asked for. */
  stage(index: number): Promise<Standing> {
    const started = this.#stages.get(index);
    if (started !== undefined) return started;
    const plan = this.#options.graph.stages.find((stage) => stage.index === index);
    if (plan === undefined) throw new Error(`stage ${index} is not in the graph`);
    const standing = this.#solveStage(plan);
    this.#stages.set(index, standing);
    this.#watch(standing);
    return standing;
  }

  /** Solves the whole graph. @returns the targets' snapshots in order, committed; undefined for an empty image. */
  async solve(): Promise<readonly (CommittedSnapshot | undefined)[]> {
    const { graph } = this.#options;
    try {
      const targets = graph.targets.map(({ stage }) => this.stage(stage));
      for (const stage of graph.stages) void this.stage(stage.index);
      const committed = await Promise.all(targets.map(async (target) => (await target).committed));
      await this.#settle();
      return committed;
    } catch (error) {
      this.#abort.abort(error);
      await this.#settle();
      // What comes of the abort elsewhere (a killed command) is not what went wrong.
      const { signal } = this.#options;
      throw signal.aborted ? signal.reason : this.#abort.signal.reason;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#frozen.disposeAsync();
  }

  /** Waits for all that goes on; the first failure is told. */
  async #settle(): Promise<void> {
    let failure: PromiseRejectedResult | undefined;
    while (this.#background.size > 0) {
      const batch = [...this.#background];
      const results = await Promise.allSettled(batch);
      for (const promise of batch) this.#background.delete(promise);
      failure ??= results.find((result) => result.status === 'rejected');
    }
    if (failure !== undefined && !this.#abort.signal.aborted) throw failure.reason;
  }

  /** A failure anywhere stops everything; whoever awaits `promise` hears of it too. */
  #watch(promise: Promise<unknown>): void {
    this.#background.add(promise);
    promise.catch((error: unknown) => this.#abort.abort(error));
  }

  async #solveStage(plan: StagePlan): Promise<Standing> {
    let standing = await this.#options.standOn(plan, this);
    for (const step of plan.steps) standing = await this.#solveStep(step, standing);
    return standing;
  }

  async #solveStep(step: Step, on: Standing): Promise<Standing> {
    await Promise.all(stagesReadBy(step).map((index) => this.stage(index)));
    this.signal.throwIfAborted();
    const started = this.#options.parts.now();
    this.#options.emit({ type: 'step.started', step: step.info.index });
    try {
      return await this.#look(step, on, started);
    } catch (error) {
      if (!this.signal.aborted) this.#fail(step, error, started);
      throw error;
    }
  }

  async #look(step: Step, on: Standing, started: number): Promise<Standing> {
    const plain = await this.#options.prepare(step, this);
    const { inputs } = plain;
    const action = this.#hits.withEpoch(plain.action);
    const prepared = { ...plain, action };
    const way = stepKey({
      action,
      inputs,
      parent: on.way as string as NonNullable<StepQuery['parent']>,
      slot: step.slot,
    });
    const attempt = { step, on, prepared, way, started };
    const found = await this.#hits.find(attempt);
    return found.kind === 'hit' ? this.#reuse(attempt, found) : this.#run(attempt, found.why);
  }

  async #pack(frozen: FrozenSnapshot): Promise<PackedLayer> {
    const { sourceDateEpoch, parts } = this.#options;
    if (sourceDateEpoch === undefined) return parts.packLayer(frozen, { signal: this.signal });
    const packed = await parts.packLayer(frozen, { signal: this.signal, sourceDateEpoch });
    await parts.layerTable.note(packed.diffId, { sourceDateEpoch });
    return packed;
  }

  /** Runs a step that missed, unless another process has just done so. Resolves as soon as the next step can start. */
  #run(attempt: Attempt, why: MissReason): Promise<Standing> {
    const { on, way } = attempt;
    const { cache } = this.#options.parts;
    const early = Promise.withResolvers<Standing>();
    const whole = cache.exclusively(
      way,
      async () => {
        const found = await this.#hits.find(attempt, this.#ranHere.has(way));
        if (found.kind === 'hit') return early.resolve(this.#reuse(attempt, found));
        const executed = await this.#execute(attempt);
        const run = { ...executed, reason: `${this.#options.explain.miss(why)}${unobserved(executed)}` };
        const adopted = await this.#adopt(attempt, run);
        this.#ranHere.add(way);
        if (adopted !== undefined) return early.resolve(adopted);
        const committed = this.#commit(attempt, run);
        this.#watch(committed);
        // What stands apart is laid on its parent once it has its digest: until then there is nothing to build on.
        const snapshot =
          attempt.prepared.standsApart === true ? await committed : (changed(run.executed) ?? on.snapshot);
        early.resolve({ snapshot, committed, way, base: on.base });
        await committed;
      },
      this.signal,
    );
    this.#watch(whole);
    whole.catch(early.reject);
    return early.promise;
  }

  /** A failure is reported here, at its source: everybody else hears of it through the abort. */
  #execute(attempt: Attempt): Promise<Omit<Run, 'reason'>> {
    return this.#options.limiter.run(() => this.#carryOut(attempt));
  }

  async #carryOut(attempt: Attempt): Promise<Omit<Run, 'reason'>> {
    const { step, prepared, on, started } = attempt;
    const { now } = this.#options.parts;
    this.signal.throwIfAborted();
    try {
      const fromMs = now();
      const executed = await prepared.execute(on, this.signal);
      if (executed.frozen !== undefined) this.#frozen.use(executed.frozen);
      if (executed.rest !== undefined) this.#watch(executed.rest);
      return { executed, ran: { fromMs, toMs: now() } };
    } catch (error) {
      if (!this.signal.aborted) this.#fail(step, error, started);
      // At once: the limiter is about to let the next step in.
      this.#abort.abort(error);
      throw error;
    }
  }

  /**
   * Early cutoff: where the run left what an earlier one of the same action had left, but for times of the run itself and
   * noise, that earlier diff is taken. What follows is then a hit, and the image the same.
   */
  async #adopt(attempt: Attempt, run: Run): Promise<Standing | undefined> {
    const { step, on, prepared, way, started } = attempt;
    const { cache } = this.#options.parts;
    if (step.noCache || step.caching.mode === 'exact') return undefined;
    const same = await findSameResult({
      candidates: cache.earlier(prepared.action, MOST_CANDIDATES),
      frozen: changed(run.executed),
      ran: run.ran,
      noise: step.caching.noise,
      parts: this.#options.parts,
      signal: this.signal,
    });
    if (same === undefined) return undefined;
    const parent = await on.committed;
    const snapshot = await this.#hits.lay(same.record, parent);
    if (snapshot === 'gone') return undefined;
    const ms = run.ran.toMs - started;
    const reason = `${run.reason}; it left the same files as before${noiseAside(same.noise)}`;
    const result = { ...resultOf(same.record, step), ranAtMs: run.ran.fromMs, origin: 'adopted' } as const;
    const record = await this.#record(attempt, run, result);
    const solved = solvedBy(record, step, { outcome: 'ran', reason, ms });
    return this.#finish(solved, standOnCommitted(snapshot, { way, base: on.base }));
  }

  /** Hashes, commits and records what a step left, while the next step may already be on its way. */
  async #commit(attempt: Attempt, run: Run): Promise<CommittedSnapshot | undefined> {
    const { step, on, started } = attempt;
    const { cache } = this.#options.parts;
    const { reason, ran } = run;
    const frozen = changed(run.executed);
    const ms = ran.toMs - started;
    this.#tell(step, { outcome: 'ran', reason, ms });
    const packing = frozen === undefined ? undefined : this.#pack(frozen);
    const [parent, packed] = await Promise.all([on.committed, packing]);
    let committed = parent;
    if (frozen !== undefined && packed !== undefined) {
      cache.hold([packed.diffId]);
      committed = await frozen.commit(packed.diffId);
      if (attempt.prepared.standsApart === true) {
        committed = await this.#options.parts.snapshotter.stack(parent, packed.diffId);
        if (committed === undefined) throw new Error(`the diff ${packed.diffId} is gone, though it is held`);
      }
    }
    const record = await this.#record(attempt, run, {
      durationMs: ran.toMs - ran.fromMs,
      ranAtMs: ran.fromMs,
      createdAtMs: ran.toMs,
      title: step.info.name,
      ...(packed === undefined ? {} : { layer: packed }),
    });
    this.solved.set(step.info.index, solvedBy(record, step, { outcome: 'ran', reason, ms }));
    return committed;
  }

  /** Records a result with all that it rests on. */
  async #record(attempt: Attempt, run: Run, result: StepResult): Promise<StepRecord> {
    const { cache } = this.#options.parts;
    const { seen } = run.executed;
    const parent = await attempt.on.committed;
    const queries = seen.kind === 'observed' ? await this.#hits.observedQueries(attempt) : [];
    const observed = seen.kind === 'observed' ? queries[seen.question ?? 0] : undefined;
    const record = await cache.record(queryOf(attempt, parent), { ...result, ...standsOn(attempt, parent) });
    if (observed !== undefined && seen.kind === 'observed') {
      const { observations } = seen;
      await cache.observe(record.key, observed, { observations, parentDiffs: parent?.diffIds ?? [] });
    }
    return record;
  }

  #reuse(attempt: Attempt, found: Extract<TryHit, { kind: 'hit' }>): Standing {
    const { record, standing, solved } = found;
    this.#reused.push({ attempt, record });
    return this.#finish(solved, standing);
  }

  /** The steps that were reused, to be checked: call it after `solve`. */
  reused(): Promise<readonly ReusedStep[]> {
    return Promise.all(
      this.#reused.map(async ({ attempt: { step, prepared, on }, record }) => ({
        name: step.info.name,
        key: record.key,
        prepared,
        on,
        reused: await contentOf(record, this.#options.parts),
        diffId: record.diffId,
        noise: step.caching.noise,
      })),
    );
  }

  /** The records that were hit, by the position of their step. */
  hits(): ReadonlyMap<number, { readonly record: StepRecord; readonly slot: string }> {
    return new Map(
      this.#reused.map(({ attempt: { step }, record }) => [step.info.index, { record, slot: step.slot }]),
    );
  }

  #finish(solved: SolvedStep, standing: Standing): Standing {
    this.solved.set(solved.step.info.index, solved);
    this.#tell(solved.step, solved);
    return standing;
  }

  #tell(step: Step, told: Pick<SolvedStep, 'outcome' | 'reason' | 'ms'>): void {
    const { outcome, reason, ms } = told;
    this.#options.emit({ type: 'step.finished', step: step.info.index, outcome, reason, ms });
  }

  #fail(step: Step, error: unknown, started: number): void {
    const ms = this.#options.parts.now() - started;
    const first = firstError(error);
    const reason = first instanceof Error ? first.message : String(first);
    const failed = { step, outcome: 'failed', reason, ms, createdAtMs: 0 } as const;
    this.solved.set(step.info.index, failed);
    this.#tell(step, failed);
  }
}

/** A step that was carried out. */
interface Run {
  readonly executed: Executed;
  /** From when to when, ms since 1970. */
  readonly ran: { readonly fromMs: number; readonly toMs: number };
  /** Why it was not reused, in words. */
  readonly reason: string;
}

/** Earlier results that a new one is compared with. */
const MOST_CANDIDATES = 4;

/** The snapshot of a step that changed anything. */
function changed({ frozen }: Executed): FrozenSnapshot | undefined {
  return frozen === undefined || frozen.changes.length === 0 ? undefined : frozen;
}

/** Says of a step that should have been observed why it was not. */
function unobserved({ executed: { seen } }: Omit<Run, 'reason'>): string {
  return seen.kind === 'unknown' && seen.reason !== undefined ? `; not observed: ${seen.reason}` : '';
}

/** Names what was left out of a comparison. */
function noiseAside(noise: readonly ImagePath[]): string {
  const [first, ...others] = noise;
  if (first === undefined) return '';
  const more = others.length === 0 ? '' : ` and ${others.length} more`;
  return `, but for /${first}${more}`;
}

/** The stages that must be done before a step can begin, beside its own. */
function stagesReadBy(step: Step): readonly number[] {
  return treesReadBy(step).flatMap((from) => (from.kind === 'stage' ? [from.index] : []));
}

function treesReadBy(step: Step): readonly TreeRef[] {
  switch (step.kind) {
    case 'COPY':
    case 'ADD':
      return step.sources.flatMap((source) => (source.kind === 'path' ? [source.from] : []));
    case 'RUN':
      return step.mounts.flatMap((mount) =>
        mount.type === 'bind' || mount.type === 'cache' ? [mount.from] : [],
      );
    case 'WORKDIR':
      return [];
    default:
      return unreachable(step);
  }
}
