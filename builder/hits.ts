import type {
  Action,
  MissReason,
  ObservedHitFacts,
  ObservedLookup,
  ObservedQuery,
  StepRecord,
} from '../cache/index.ts';
import type { CommittedSnapshot } from '../core/index.ts';
import { type Attempt, queryOf, resultOf, type SolvedStep, solvedBy, standsOn } from './attempt.ts';
import type { BuilderParts } from './contract.ts';
import type { Step } from './graph.ts';
import { ifSound } from './sound.ts';
import { type Standing, standOnCommitted } from './standing.ts';
import type { PreparedStep } from './steps/prepared-step.ts';

export interface HitsOptions {
  readonly parts: Pick<BuilderParts, 'cache' | 'snapshotter' | 'now'>;
  /** SOURCE_DATE_EPOCH, seconds: later time stamps in layers are set back to it. */
  readonly sourceDateEpoch: number | undefined;
  readonly explain: {
    /** In one sentence. */
    readonly hit: (record: StepRecord) => string;
    readonly observed: (record: StepRecord, seen: ObservedHitFacts) => string;
  };
}

export type TryHit =
  | {
      readonly kind: 'hit';
      readonly standing: Standing;
      readonly solved: SolvedStep;
      readonly record: StepRecord;
    }
  | { readonly kind: 'miss'; readonly why: MissReason };

/** By which clocks of processes on one machine may differ. */
const CLOCK_SLACK_MS = 60_000;

type ObservedAnswer =
  | { readonly found: Extract<ObservedLookup, { kind: 'hit' }>; readonly query: ObservedQuery }
  | { readonly found: Extract<ObservedLookup, { kind: 'miss' }> };

/** The first two of the three questions: is there an exact answer to a step, is there an observed one? */
export class Hits {
  readonly #options: HitsOptions;

  constructor(options: HitsOptions) {
    this.#options = options;
  }

  /** Layers with other time stamps are other layers: the epoch is part of the action. */
  withEpoch(action: Action): Action {
    const { sourceDateEpoch } = this.#options;
    if (sourceDateEpoch === undefined) return action;
    return { ...action, definition: { ...action.definition, sourceDateEpoch } };
  }

  /**
   * Looks the step up, and where another process or build left something to reuse, tells where it leads. A step that is
   * not to be looked up is, where it `ranHere`: in this very build, for another platform or stage.
   */
  async find(attempt: Attempt, ranHere = false): Promise<TryHit> {
    const { step, on, prepared } = attempt;
    const { cache } = this.#options.parts;
    if (step.noCache && !ranHere) return { kind: 'miss', why: { reason: 'no-cache' } };
    // An action without any record differs from whatever was there before, on any parent: no need to wait for the parent's hash.
    const known = cache.knows(prepared.action);
    let parent = known ? await on.committed : undefined;
    let lookup = await cache.lookup(queryOf(attempt, parent));
    if (!known && lookup.kind === 'hit') {
      // Another process has just recorded the action on `FROM scratch`, which need not be this step's parent.
      parent = await on.committed;
      lookup = await cache.lookup(queryOf(attempt, parent));
    }
    if (lookup.kind === 'miss') return known ? this.#tryObserved(attempt, parent, lookup.why) : lookup;
    const { record } = lookup;
    // Whoever wants exact answers does not want what only an observation led to.
    if (step.caching.mode === 'exact' && record.origin === 'observed')
      return { kind: 'miss', why: { reason: 'parent-changed' } };
    const tooOld = this.#tooOld(step, record);
    if (tooOld !== undefined) return { kind: 'miss', why: tooOld };
    const snapshot = await this.lay(record, parent);
    if (snapshot === 'gone') return { kind: 'miss', why: { reason: 'evicted' } };
    return this.#hit(attempt, snapshot, {
      outcome: 'exact',
      reason: this.#options.explain.hit(record),
      record,
    });
  }

  /** Asks whether all that the action read when it ran before is the same on this parent; notes the answer as an exact one. */
  async #tryObserved(
    attempt: Attempt,
    parent: CommittedSnapshot | undefined,
    exactWhy: MissReason,
  ): Promise<TryHit> {
    const { step, on, prepared } = attempt;
    const { cache, snapshotter } = this.#options.parts;
    const answer = await this.#lookUpObserved(attempt);
    if (!('query' in answer)) {
      // What differs in the action itself says more than where it was observed.
      const says = isOfFiles(exactWhy, prepared.inputs);
      return { kind: 'miss', why: says ? (answer.found.why ?? exactWhy) : exactWhy };
    }
    const { found, query: observed } = answer;
    const tooOld = this.#tooOld(step, found.record);
    if (tooOld !== undefined) return { kind: 'miss', why: tooOld };
    const snapshot = await this.lay(found.record, parent);
    if (snapshot === 'gone') return { kind: 'miss', why: { reason: 'evicted' } };
    const result = {
      ...resultOf(found.record, step),
      ...standsOn(attempt, parent),
      origin: 'observed',
    } as const;
    const record = await cache.record(queryOf(attempt, parent), result);
    cache.observeAgain(record.key, observed, { found, parentDiffs: parent?.diffIds ?? [] });
    const changed = await ifSound(() =>
      snapshotter.changedPaths(found.parentDiffs, on.snapshot, on.base.depth),
    );
    const reason = this.#options.explain.observed(found.record, {
      paths: found.paths,
      mounts: observed.inputs.length < prepared.inputs.length,
      ...(changed === undefined ? {} : { changed }),
    });
    return this.#hit(attempt, snapshot, { outcome: 'observed', reason, record });
  }

  /** The first hit; of several misses, the first that tells a reason. */
  async #lookUpObserved(attempt: Attempt): Promise<ObservedAnswer> {
    let missed: Extract<ObservedLookup, { kind: 'miss' }> = { kind: 'miss' };
    for (const query of await this.observedQueries(attempt)) {
      const found = await this.#options.parts.cache.lookupObserved(query);
      if (found.kind === 'hit') return { found, query };
      if (missed.why === undefined) missed = found;
    }
    return { found: missed };
  }

  /** The observed questions of a step that can be observed. */
  async observedQueries({ prepared, on }: Attempt): Promise<readonly ObservedQuery[]> {
    const queries = (await prepared.observed?.(on)) ?? [];
    return queries.map((query) => ({ ...query, action: this.withEpoch(query.action) }));
  }

  #tooOld(step: Step, record: StepRecord): MissReason | undefined {
    const ageMs = this.#options.parts.now() - record.ranAtMs;
    const { ttlMs = Number.POSITIVE_INFINITY } = step.caching;
    // From the future, since the clock was set back: nobody knows how old it is.
    const isOld = ageMs > ttlMs || (ageMs < -CLOCK_SLACK_MS && ttlMs !== Number.POSITIVE_INFINITY);
    return isOld ? { reason: 'too-old', ageMs } : undefined;
  }

  /** The diff of `record` on `parent`. A record whose diff is gone is forgotten. */
  async lay(
    record: StepRecord,
    parent: CommittedSnapshot | undefined,
  ): Promise<CommittedSnapshot | undefined | 'gone'> {
    if (record.diffId === undefined) return parent;
    const snapshot = await this.#options.parts.snapshotter.stack(parent, record.diffId);
    if (snapshot !== undefined) return snapshot;
    this.#options.parts.cache.forget(record.key);
    return 'gone';
  }

  #hit(
    { step, on, way, started }: Attempt,
    snapshot: CommittedSnapshot | undefined,
    found: Pick<SolvedStep, 'outcome' | 'reason'> & { readonly record: StepRecord },
  ): TryHit {
    const { outcome, reason, record } = found;
    const ms = this.#options.parts.now() - started;
    const solved = solvedBy(record, step, { outcome, reason, ms });
    const standing = standOnCommitted(snapshot, { way, base: on.base });
    return { kind: 'hit', solved, standing, record };
  }
}

/** Whether it is only files that differ, or a place where the action never ran: of the parent, or of what else the step takes in. */
function isOfFiles(why: MissReason, inputs: PreparedStep['inputs']): boolean {
  if (why.reason === 'field-changed') return inputs.some(({ name }) => name === why.field);
  return why.reason === 'parent-changed' || why.reason === 'never-ran' || why.reason === 'file-changed';
}
