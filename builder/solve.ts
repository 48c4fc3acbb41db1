import { type Lookup, type MissReason, type StepQuery, type StepRecord, stepKey } from '../cache/index.ts';
import type {
  BuildEvent,
  CommittedSnapshot,
  DiffId,
  EventSink,
  FrozenSnapshot,
  StepKey,
  StepOutcome,
} from '../core/index.ts';
import type { PackedLayer } from '../image/index.ts';
import type { BuilderParts } from './contract.ts';
import type { BuildGraph, StagePlan, Step } from './graph.ts';
import type { Limiter } from './limiter.ts';
import type { Standing } from './standing.ts';
import type { PreparedStep } from './steps/prepared-step.ts';

/** What a step came to. */
export interface SolvedStep {
  readonly step: Step;
  readonly outcome: StepOutcome;
  readonly reason: string;
  readonly ms: number;
  readonly key?: StepKey;
  /** The layer that the step adds; absent where it changed nothing. */
  readonly layer?: { readonly diffId: DiffId; readonly size: number };
  /** When the layer came about, ms since 1970: the same as long as the record is used. */
  readonly createdAtMs: number;
}

export interface SolverOptions {
  readonly graph: BuildGraph;
  readonly parts: Pick<BuilderParts, 'cache' | 'snapshotter' | 'packLayer' | 'layerTable' | 'now'>;
  /** SOURCE_DATE_EPOCH, seconds: later time stamps in layers are set back to it. */
  readonly sourceDateEpoch: number | undefined;
  /** Where a stage begins: its base made ready. */
  readonly standOn: (stage: StagePlan, solver: Solver) => Promise<Standing>;
  readonly prepare: (step: Step, solver: Solver) => Promise<PreparedStep>;
  readonly explain: {
    readonly hit: (lookup: Lookup & { kind: 'hit' }) => string;
    readonly miss: (reason: MissReason) => string;
  };
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

type TryHit =
  | { readonly kind: 'hit'; readonly standing: Standing; readonly solved: SolvedStep }
  | { readonly kind: 'miss'; readonly why: MissReason };

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
  readonly signal: AbortSignal;

  constructor(options: SolverOptions) {
    this.#options = options;
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

  /** Solves the whole graph. @returns the target's snapshot, committed; undefined for an empty image. */
  async solve(): Promise<CommittedSnapshot | undefined> {
    try {
      const target = this.stage(this.#options.graph.target);
      for (const stage of this.#options.graph.stages) void this.stage(stage.index);
      const committed = await (await target).committed;
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
    const prepared = this.#withEpoch(await this.#options.prepare(step, this));
    const { action, inputs } = prepared;
    const way = stepKey({
      action,
      inputs,
      parent: on.way as string as NonNullable<StepQuery['parent']>,
      slot: step.slot,
    });
    const attempt = { step, on, prepared, way, started };
    const found = await this.#tryHit(attempt);
    return found.kind === 'hit' ? this.#finish(found.solved, found.standing) : this.#run(attempt, found.why);
  }

  /** Layers with other time stamps are other layers: the epoch is part of the action. */
  #withEpoch(prepared: PreparedStep): PreparedStep {
    const { sourceDateEpoch } = this.#options;
    if (sourceDateEpoch === undefined) return prepared;
    const { action } = prepared;
    return { ...prepared, action: { ...action, definition: { ...action.definition, sourceDateEpoch } } };
  }

  async #pack(frozen: FrozenSnapshot): Promise<PackedLayer> {
    const { sourceDateEpoch, parts } = this.#options;
    if (sourceDateEpoch === undefined) return parts.packLayer(frozen, { signal: this.signal });
    const packed = await parts.packLayer(frozen, { signal: this.signal, sourceDateEpoch });
    await parts.layerTable.note(packed.diffId, { sourceDateEpoch });
    return packed;
  }

  async #tryHit(attempt: Attempt): Promise<TryHit> {
    const { step, on, prepared, way, started } = attempt;
    const { cache, snapshotter, now } = this.#options.parts;
    if (step.noCache) return { kind: 'miss', why: { reason: 'no-cache' } };
    // An action without any record differs from whatever was there before, on any parent: no need to wait for the parent's hash.
    const known = cache.knows(prepared.action);
    let parent = known ? await on.committed : undefined;
    let lookup = await cache.lookup(queryOf(attempt, parent));
    if (!known && lookup.kind === 'hit') {
      // Another process has just recorded the action on `FROM scratch`, which need not be this step's parent.
      parent = await on.committed;
      lookup = await cache.lookup(queryOf(attempt, parent));
    }
    if (lookup.kind === 'miss') return { kind: 'miss', why: lookup.why };
    const { record } = lookup;
    const snapshot = record.diffId === undefined ? parent : await snapshotter.stack(parent, record.diffId);
    if (record.diffId !== undefined && snapshot === undefined) {
      cache.forget(record.key);
      return { kind: 'miss', why: { reason: 'evicted' } };
    }
    const solved: SolvedStep = {
      step,
      outcome: 'exact',
      reason: this.#options.explain.hit(lookup),
      ms: now() - started,
      key: record.key,
      ...layerOf(record),
      createdAtMs: record.createdAtMs,
    };
    return { kind: 'hit', solved, standing: { snapshot, committed: Promise.resolve(snapshot), way } };
  }

  /** Runs a step that missed, unless another process has just done so. Resolves as soon as the next step can start. */
  #run(attempt: Attempt, why: MissReason): Promise<Standing> {
    const { on, way } = attempt;
    const { cache } = this.#options.parts;
    const early = Promise.withResolvers<Standing>();
    const whole = cache.exclusively(
      way,
      async () => {
        const found = await this.#tryHit(attempt);
        if (found.kind === 'hit') return early.resolve(this.#finish(found.solved, found.standing));
        const result = await this.#options.limiter.run(() => this.#execute(attempt));
        if (result !== undefined) this.#frozen.use(result);
        const frozen = result === undefined || result.changes.length === 0 ? undefined : result;
        const committed = this.#commit(attempt, frozen, this.#options.explain.miss(why));
        this.#watch(committed);
        early.resolve({ snapshot: frozen ?? on.snapshot, committed, way });
        await committed;
      },
      this.signal,
    );
    this.#watch(whole);
    whole.catch(early.reject);
    return early.promise;
  }

  /** A failure is reported here, at its source: everybody else hears of it through the abort. */
  async #execute(attempt: Attempt): Promise<FrozenSnapshot | undefined> {
    const { step, prepared, on, started } = attempt;
    this.signal.throwIfAborted();
    try {
      return await prepared.execute(on, this.signal);
    } catch (error) {
      if (!this.signal.aborted) this.#fail(step, error, started);
      // At once: the limiter is about to let the next step in.
      this.#abort.abort(error);
      throw error;
    }
  }

  /** Hashes, commits and records what a step left, while the next step may already be on its way. */
  async #commit(
    attempt: Attempt,
    frozen: FrozenSnapshot | undefined,
    reason: string,
  ): Promise<CommittedSnapshot | undefined> {
    const { step, on, started } = attempt;
    const { cache, now } = this.#options.parts;
    const ms = now() - started;
    this.#tell(step, { outcome: 'ran', reason, ms });
    const packing = frozen === undefined ? undefined : this.#pack(frozen);
    const [parent, packed] = await Promise.all([on.committed, packing]);
    const query = queryOf(attempt, parent);
    let committed = parent;
    if (frozen !== undefined && packed !== undefined) {
      cache.hold([packed.diffId]);
      committed = await frozen.commit(packed.diffId);
    }
    const record = await cache.record(query, {
      durationMs: ms,
      title: step.info.name,
      ...(packed === undefined ? {} : { layer: packed }),
    });
    this.solved.set(step.info.index, {
      step,
      outcome: 'ran',
      reason,
      ms,
      key: record.key,
      ...layerOf(record),
      createdAtMs: record.createdAtMs,
    });
    return committed;
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
    const reason = error instanceof Error ? error.message : String(error);
    const failed = { step, outcome: 'failed', reason, ms, createdAtMs: 0 } as const;
    this.solved.set(step.info.index, failed);
    this.#tell(step, failed);
  }
}

/** One step on its way from look-up to result. */
interface Attempt {
  readonly step: Step;
  readonly on: Standing;
  readonly prepared: PreparedStep;
  readonly way: StepKey;
  readonly started: number;
}

function layerOf(record: StepRecord): Pick<SolvedStep, 'layer'> {
  const { diffId, layerBytes } = record;
  return diffId === undefined || layerBytes === undefined ? {} : { layer: { diffId, size: layerBytes } };
}

/** The stages that must be done before a step can begin, beside its own. */
function stagesReadBy(step: Step): readonly number[] {
  if (step.kind !== 'COPY' && step.kind !== 'ADD') return [];
  return step.sources.flatMap((source) =>
    source.kind === 'path' && source.from.kind === 'stage' ? [source.from.index] : [],
  );
}

function queryOf(attempt: Attempt, parent: CommittedSnapshot | undefined): StepQuery {
  const { prepared, step } = attempt;
  return { action: prepared.action, inputs: prepared.inputs, parent: parent?.id, slot: step.slot };
}
