import { type BuildReport, explainHit, explainMiss, explainObserved } from '../cache/index.ts';
import {
  type BuildRequest,
  type BuildSession,
  type Diagnostic,
  type EventSink,
  err,
  familiarName,
  MachineError,
  NO_SESSION,
  ok,
  type Result,
  type StepSummary,
  unreachable,
} from '../core/index.ts';
import type { Dockerfile } from '../parser/index.ts';
import { nothingToDo } from './all-hits.ts';
import { assembleImage } from './assemble.ts';
import { BaseImages, wayOfSnapshot } from './base-image.ts';
import { answerCall, type CallAnswer, type CallKind } from './checks/call.ts';
import type { Linter } from './checks/linter.ts';
import { withChecks } from './checks/with-checks.ts';
import { Contexts } from './contexts.ts';
import type { BuilderParts, BuildSuccess, FailedBuild, UnchangedBuild } from './contract.ts';
import type { LoadedDockerfile } from './dockerfile.ts';
import { earlierCopies } from './earlier-copies.ts';
import { EMPTY_TREE } from './empty-tree.ts';
import { Emulation } from './emulation.ts';
import { exportImages } from './export.ts';
import type { BuildGraph, StagePlan, Step, TreeRef } from './graph.ts';
import { createLimiter } from './limiter.ts';
import { mergeGraphs } from './merge-graphs.ts';
import { type FindImage, type PlanInput, planBuild } from './plan.ts';
import { readPlatforms } from './platforms.ts';
import { Solver, type TimelessEvent, timed } from './solve.ts';
import { inOrder, reportedSteps, summariesOf } from './solved-steps.ts';
import { readEpoch, withResolvedEpoch } from './source-date-epoch.ts';
import { NO_BASE, type Standing, standOnCommitted, treeOf } from './standing.ts';
import { prepareCopy } from './steps/copy.ts';
import { checkDevices } from './steps/devices.ts';
import type { SourceTree } from './steps/mount-source.ts';
import type { PreparedStep } from './steps/prepared-step.ts';
import { prepareRun } from './steps/run.ts';
import { prepareWorkdir } from './steps/workdir.ts';
import { BuildStop } from './stop.ts';
import { beginFetch, beginTransfer } from './transfer-phase.ts';
import { type VerifiedStep, verifyReused } from './verify-reused.ts';

export interface BuildOptions {
  readonly onEvent: EventSink;
  readonly signal: AbortSignal;
  /** Takes the bytes of an output whose destination is standard output; resolves when they are taken. */
  readonly writeStdout: (chunk: Uint8Array) => Promise<void>;
  /** Secrets and agents for the steps that ask for them; absent: there are none. */
  readonly session?: BuildSession;
}

/**
 * Builds what `request` asks for. Sends `build.started` first and `build.finished` last; a report for `why` is kept either way.
 *
 * @returns the image and how each step came about, or the user's failure.
 * @throws MachineError where the machine failed; the signal's reason when it is aborted.
 */
export async function build(
  parts: BuilderParts,
  request: BuildRequest,
  options: BuildOptions,
): Promise<Result<BuildSuccess, FailedBuild>> {
  const run = new BuildRun(parts, request, options);
  return run.run();
}

/**
 * Answers a question about the Dockerfile that `request` names, without building anything. Images that are not in the local
 * store are asked for at their registries. No report is kept.
 *
 * @returns the answer, or the user's failure where there is none. Otherwise as {@link build}.
 */
export async function callBuild(
  parts: BuilderParts,
  request: BuildRequest & { readonly call: CallKind },
  options: BuildOptions,
): Promise<Result<CallAnswer, FailedBuild>> {
  const run = new BuildRun(parts, request, options);
  return run.call(request.call);
}

/** `FROM scratch`. */
const NOWHERE = standOnCommitted(undefined, { way: wayOfSnapshot(undefined), base: NO_BASE });

class BuildRun {
  readonly #parts: BuilderParts;
  readonly #request: BuildRequest;
  readonly #options: BuildOptions;
  readonly #emit: (event: TimelessEvent) => void;
  readonly #images: BaseImages;
  readonly #emulation: Emulation;
  readonly #startedAtMs: number;
  #dockerfile: LoadedDockerfile | undefined;
  #isVerifying = false;
  #sourceDateEpoch: number | undefined;
  #solver: Solver | undefined;
  #graph: BuildGraph | undefined;
  readonly #contexts: Contexts;

  constructor(parts: BuilderParts, request: BuildRequest, options: BuildOptions) {
    this.#parts = parts;
    this.#request = request;
    this.#options = options;
    this.#emit = timed(options.onEvent, parts.now);
    this.#startedAtMs = parts.now();
    this.#emulation = new Emulation(parts);
    this.#contexts = new Contexts({
      parts,
      request,
      signal: options.signal,
      session: options.session ?? NO_SESSION,
      phase: (name) => beginFetch(this.#emit, name),
    });
    this.#images = new BaseImages({
      parts,
      pull: request.pull,
      takesAnyPlatform: true,
      signal: options.signal,
      beginPull: (reference) => beginTransfer(this.#emit, `pull ${familiarName(reference)}`),
    });
  }

  async run(): Promise<Result<BuildSuccess, FailedBuild>> {
    const request = this.#request;
    const name = request.dockerfile.kind === 'file' ? request.dockerfile.path : '-';
    this.#emit({ type: 'build.started', id: request.id, dockerfile: name });
    try {
      const success = await this.#build();
      this.#conclude(undefined);
      this.#emit({
        type: 'build.finished',
        ok: true,
        ...(success.image === undefined ? {} : { image: success.image }),
      });
      return ok({ ...success, unchanged: () => this.#unchanged() });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#conclude(message);
      this.#emit({ type: 'build.finished', ok: false, error: message });
      if (!(error instanceof BuildStop)) throw error;
      return err(this.#failed(error));
    }
  }

  async call(kind: CallKind): Promise<Result<CallAnswer, FailedBuild>> {
    await using cleanup = new AsyncDisposableStack();
    try {
      cleanup.use(this.#contexts);
      const loaded = await this.#load();
      const { target, buildArgs } = this.#request;
      const allStages = kind === 'check' && target === undefined;
      const plans = (dockerfile: Dockerfile, linter: Linter): readonly PlanInput[] =>
        this.#planInputs(dockerfile, linter).map((input) => ({ ...input, allStages }));
      return ok(await answerCall(kind, { loaded, buildArgs, plans, findImage: this.#findImage }));
    } catch (error) {
      if (!(error instanceof BuildStop)) throw error;
      return err(this.#failed(error));
    }
  }

  readonly #findImage: FindImage = (wanted, platform, range) => this.#images.find(wanted, platform, range);

  #failed({ failure }: BuildStop): FailedBuild {
    const dockerfile = this.#dockerfile;
    return { failure, steps: this.#summaries(), ...(dockerfile === undefined ? {} : { dockerfile }) };
  }

  async #build(): Promise<BuildSuccess> {
    await using cleanup = new AsyncDisposableStack();
    cleanup.use(this.#contexts);
    const graph = await this.#plan(await this.#load());
    await checkDevices(graph.stages.flatMap(({ steps }) => steps));
    const sourceDateEpoch = this.#sourceDateEpoch;
    this.#graph = graph;
    const solver = cleanup.use(this.#newSolver(graph, sourceDateEpoch));
    this.#solver = solver;
    let snapshots: Awaited<ReturnType<Solver['solve']>>;
    try {
      snapshots = await solver.solve();
    } finally {
      await this.#contexts.save();
    }
    const images = graph.targets.map((target, nth) => {
      const snapshot = snapshots[nth];
      const image = assembleImage({
        graph,
        target,
        solved: solver.solved,
        snapshot,
        sourceDateEpoch,
        imageOf: (stage) =>
          stage.base.kind === 'image' ? this.#images.imageOf(stage.base.image) : undefined,
      });
      return { image, snapshot, platform: target.platform };
    });
    const exported = await exportImages({
      parts: this.#parts,
      request: this.#request,
      images,
      sourceDateEpoch,
      emit: this.#emit,
      signal: this.#options.signal,
      writeStdout: this.#options.writeStdout,
    });
    const verified = this.#request.verifyCache === true ? { verified: await this.#verify(solver) } : {};
    return {
      ...(exported === undefined ? {} : { image: exported }),
      ...(this.#dockerfile === undefined ? {} : { dockerfile: this.#dockerfile }),
      steps: this.#summaries(),
      ...verified,
    };
  }

  /** Runs the reused steps again, silently. The image is out by then: a wrong hit is told, not undone. */
  async #verify(solver: Solver): Promise<readonly VerifiedStep[]> {
    const steps = await solver.reused();
    const phase = 'verify the reused steps';
    this.#isVerifying = true;
    this.#emit({ type: 'phase.started', phase, name: phase });
    const verified = await verifyReused(steps, this.#parts, {
      signal: this.#options.signal,
      onStep: (current) =>
        this.#emit({ type: 'phase.progress', phase, current, total: steps.length, unit: 'steps' }),
    });
    const same = verified.filter(({ verdict }) => verdict.kind === 'same').length;
    this.#emit({ type: 'phase.finished', phase, detail: `${same} of ${steps.length} left the same again` });
    return verified;
  }

  async #load(): Promise<LoadedDockerfile> {
    const loaded = await this.#contexts.load();
    this.#dockerfile = loaded;
    return loaded;
  }

  /** Warnings are told also where a failure ends the build after them. */
  async #plan(loaded: LoadedDockerfile): Promise<BuildGraph> {
    const { buildArgs } = this.#request;
    const checked = await withChecks(loaded, buildArgs, async (dockerfile, linter) => {
      const inputs = await withResolvedEpoch(
        this.#planInputs(dockerfile, linter),
        this.#request.context,
        this.#contexts,
      );
      return Promise.all(inputs.map((input) => planBuild(input, this.#findImage)));
    });
    const plans = checked.failure === undefined ? checked.value : [];
    this.#warn([...checked.warnings, ...sameOnce(plans.flatMap((plan) => plan.warnings))]);
    if (checked.failure !== undefined) throw new BuildStop(checked.failure);
    this.#sourceDateEpoch = readEpoch(plans[0]?.sourceDateEpoch);
    const graph = mergeGraphs(plans.map((plan) => plan.graph));
    this.#emit({
      type: 'build.planned',
      steps: graph.stages.flatMap((stage) => stage.steps.map((step) => step.info)),
    });
    return graph;
  }

  /** One for each platform that is built for. */
  #planInputs(dockerfile: Dockerfile, linter: Linter): readonly PlanInput[] {
    const buildPlatform = this.#parts.platform;
    const wanted = readPlatforms(this.#request.platforms ?? [], buildPlatform);
    const { file } = this.#dockerfile ?? { file: '' };
    return (wanted.length === 0 ? [buildPlatform] : wanted).map((targetPlatform) => ({
      dockerfile,
      request: this.#request,
      buildPlatform,
      targetPlatform,
      isOneOfSeveral: wanted.length > 1,
      isPlatformGiven: wanted.length > 0,
      slotPrefix: `${this.#contexts.name}\n${file}`,
      lint: { linter, ...(this.#contexts.ignore === undefined ? {} : { ignore: this.#contexts.ignore }) },
    }));
  }

  #warn(diagnostics: readonly Diagnostic[]): void {
    for (const diagnostic of diagnostics) this.#emit({ type: 'warning', diagnostic });
  }

  #newSolver(graph: BuildGraph, sourceDateEpoch: number | undefined): Solver {
    const { signal } = this.#options;
    return new Solver({
      graph,
      parts: this.#parts,
      sourceDateEpoch,
      standOn: (stage, solver) => this.#standOn(stage, solver),
      prepare: (step, solver) => this.#prepare(step, solver),
      explain: {
        hit: (record) => explainHit(record, this.#parts.now()),
        observed: (record, seen) => explainObserved(seen, record, this.#parts.now()),
        miss: explainMiss,
      },
      limiter: createLimiter(this.#request.parallelism),
      emit: this.#emit,
      signal,
    });
  }

  async #standOn(stage: StagePlan, solver: Solver): Promise<Standing> {
    switch (stage.base.kind) {
      case 'scratch':
        return NOWHERE;
      case 'stage':
        return solver.stage(stage.base.index);
      case 'image':
        return this.#images.standOn(stage.base.image);
      default:
        return unreachable(stage.base);
    }
  }

  #prepare(step: Step, solver: Solver): Promise<PreparedStep> {
    const { snapshotter, treeOps } = this.#parts;
    switch (step.kind) {
      case 'COPY':
      case 'ADD':
        return prepareCopy(
          step,
          {
            snapshotter,
            treeOps,
            ...(this.#sourceDateEpoch === undefined ? {} : { sourceDateEpoch: this.#sourceDateEpoch }),
            previous: (slot, action) => earlierCopies(slot, action, this.#parts),
            treeFor: (from) => this.#treeFor(from, solver),
            fetcher: this.#contexts,
          },
          solver.signal,
        );
      case 'WORKDIR':
        return Promise.resolve(prepareWorkdir(step, { snapshotter, treeOps }));
      case 'RUN': {
        const onOutput = this.#logger(step);
        return prepareRun(
          step,
          {
            ...this.#parts,
            emulation: this.#emulation,
            buildId: this.#request.id,
            onOutput,
            sourceFor: (from) => this.#treeFor(from, solver),
            session: this.#options.session ?? NO_SESSION,
          },
          solver.signal,
        );
      }
      default:
        return unreachable(step);
    }
  }

  async #treeFor(from: TreeRef, solver: Solver): Promise<SourceTree> {
    switch (from.kind) {
      case 'context':
        return this.#contexts.main;
      case 'named':
        return this.#contexts.named(from.name);
      case 'stage': {
        const standing = await solver.stage(from.index);
        return { tree: treeOf(standing), standing, where: `stage ${from.name}` };
      }
      case 'image': {
        const standing = await this.#images.standOn(from.image);
        return { tree: treeOf(standing), standing, where: `image ${from.image.reference.repository}` };
      }
      case 'scratch':
        return { tree: EMPTY_TREE, standing: NOWHERE, where: 'scratch' };
      default:
        return unreachable(from);
    }
  }

  /** Sends a step's output on as text; bytes of a character that is split over two chunks are kept back. */
  #logger(step: Step): (stream: 'stdout' | 'stderr', chunk: Uint8Array) => void {
    const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
    return (stream, chunk) => {
      if (this.#isVerifying) return;
      const text = decoders[stream].decode(chunk, { stream: true });
      if (text !== '') this.#emit({ type: 'step.log', step: step.info.index, stream, text });
    };
  }

  #summaries(): readonly StepSummary[] {
    return summariesOf(inOrder(this.#solver));
  }

  /** What a later build may take this one's answer for; undefined where another would have to look again. */
  #unchanged(): UnchangedBuild | undefined {
    const solver = this.#solver;
    if (this.#graph === undefined || solver === undefined || !this.#images.areStored()) return undefined;
    if (!nothingToDo(this.#request, this.#graph, solver.solved)) return undefined;
    const host = this.#contexts.looks.facts(this.#startedAtMs);
    return host === undefined ? undefined : { host, hits: solver.hits(), report: this.#report(undefined) };
  }

  /** Keeps the report of this build. A store that cannot take it does not fail a build that is done. */
  #conclude(error: string | undefined): void {
    try {
      this.#parts.buildLog.save(this.#report(error));
    } catch (cause) {
      if (cause instanceof MachineError) return;
      throw cause;
    }
  }

  #report(error: string | undefined): BuildReport {
    const asked = this.#graph?.targets[0]?.stage;
    const target = this.#graph?.stages.find((stage) => stage.index === asked)?.name ?? '';
    return {
      id: this.#request.id,
      startedAtMs: this.#startedAtMs,
      finishedAtMs: this.#parts.now(),
      dockerfile: this.#dockerfile?.file ?? '',
      context: this.#contexts.name,
      target,
      ok: error === undefined,
      ...(error === undefined ? {} : { error }),
      steps: reportedSteps(inOrder(this.#solver)),
    };
  }
}

/** What several platforms warn of alike is told once. */
function sameOnce(warnings: readonly Diagnostic[]): readonly Diagnostic[] {
  return [...new Map(warnings.map((warning) => [JSON.stringify(warning), warning])).values()];
}
