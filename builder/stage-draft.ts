import {
  type ContainerConfig,
  type ImagePath,
  imagePath,
  type NetworkMode,
  type Platform,
  type RunLimits,
  type StepCaching,
  type StepKind,
} from '../core/index.ts';
import { formatPlatform } from '../image/index.ts';
import {
  expandBody,
  expandWord,
  expandWords,
  type FromInstruction,
  type Heredoc,
  type Instruction,
  type Word,
} from '../parser/index.ts';
import { readCachingComments } from './caching.ts';
import { type LintContext, StageChecks } from './checks/stage-checks.ts';
import type { HistoryItem, StageBase, StagePlan, Step, TreeRef } from './graph.ts';
import { stop } from './stop.ts';
import { formatEnvironment, readEnvironment } from './variables.ts';

const DEFAULT_SHELL: readonly string[] = ['/bin/sh', '-c'];

/** What all stages of one build share while they are planned. */
export interface PlanContext {
  readonly escape: '\\' | '`';
  readonly buildArgs: ReadonlyMap<string, string>;
  /** Names of build arguments that some ARG took up. */
  readonly consumedArgs: Set<string>;
  /** Global ARGs with the platform arguments: what a bare `ARG name` in a stage takes its value from. */
  readonly globals: ReadonlyMap<string, string>;
  readonly network: NetworkMode;
  /** What the command line says of the sandboxes of all RUN steps. */
  readonly limits: RunLimits;
  /** Rights that steps may take. */
  readonly entitlements: ReadonlySet<string>;
  /** What the cache may answer for steps that say nothing else. */
  readonly caching: StepCaching;
  /** Prefix of every step's slot: names the Dockerfile and its context. */
  readonly slotPrefix: string;
  /** Do steps say for which platform they are? */
  readonly namesPlatforms: boolean;
  /** Finds what `COPY --from=<name>` means. */
  readonly treeNamed: (name: string) => TreeRef;
  readonly lint: LintContext;
}

/** What a stage stands on: its base's configuration, and the draft of a stage whose ARGs it inherits. */
export interface DraftBase {
  readonly from: StageBase;
  readonly config: ContainerConfig;
  readonly author?: string;
  /** What the base image says that it is for; absent: there is none. */
  readonly platform?: Platform;
  readonly parent?: StageDraft;
  /** The image could not be looked up, and nothing is known of its configuration: for checks alone. */
  readonly unknown?: boolean;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What a step's name, place and rules are taken from. */
type StepSource = Pick<Instruction, 'source' | 'range' | 'comments'>;

/** The fields of a step that the draft fills in by itself. */
type OwnStepFields = 'info' | 'stage' | 'noCache' | 'caching' | 'slot';
type StepDetails = Step extends infer S ? (S extends Step ? Omit<S, OwnStepFields> : never) : never;

/** `NAME=value` lines whose places are known: a Dockerfile may set thousands. */
class OrderedLines {
  readonly lines: string[];
  readonly #places: Map<string, number>;

  constructor(variables: ReadonlyMap<string, string>) {
    this.lines = formatEnvironment(variables);
    this.#places = new Map([...variables.keys()].map((name, place) => [name, place]));
  }

  set(name: string, value: string): void {
    const place = this.#places.get(name) ?? this.lines.length;
    this.#places.set(name, place);
    this.lines[place] = `${name}=${value}`;
  }
}

/** One stage while its instructions are gone through, in order. Instructions change it; `finish` gives the plan. */
export class StageDraft {
  readonly context: PlanContext;
  readonly config: Mutable<ContainerConfig>;
  /** Variables that words see and RUN gets: the image's environment, then ENV and ARG in the order they come. */
  readonly variables: Map<string, string>;
  /** ARGs with a value, in order, for RUN's history line. */
  readonly args: Map<string, string>;
  readonly checks: StageChecks;
  /** What the base image, below however many stages, says that it is for. */
  readonly basePlatform: Platform | undefined;
  author: string | undefined;
  /** Was CMD given in this stage? ENTRYPOINT drops a CMD that comes from the base. */
  hasCmd = false;

  readonly #stage: {
    readonly index: number;
    readonly name: string;
    readonly noCache: boolean;
    readonly platform: Platform;
  };
  readonly #base: StageBase;
  readonly #steps: Step[] = [];
  readonly #history: HistoryItem[] = [];
  readonly #kinds = new Map<StepKind, number>();
  #environment: OrderedLines | undefined;

  constructor(
    context: PlanContext,
    stage: {
      readonly index: number;
      readonly name: string;
      readonly noCache: boolean;
      readonly platform: Platform;
    },
    base: DraftBase,
  ) {
    this.context = context;
    this.#stage = stage;
    this.#base = base.from;
    this.config = { ...base.config };
    this.author = base.parent?.author ?? base.author;
    this.basePlatform = base.parent?.basePlatform ?? base.platform;
    // The image's environment comes again over the ARGs of the stage that this one stands on, as in BuildKit.
    const inherited = base.parent?.variables ?? [];
    this.variables = new Map([...inherited, ...readEnvironment(base.config.Env ?? [])]);
    this.args = new Map(base.parent?.args);
    this.checks = new StageChecks(context.lint, {
      parent: base.parent?.checks,
      known: base.unknown !== true,
    });
  }

  /** Sets a variable of the image's environment: in its place where it is there, else behind the others. */
  setEnvironment(name: string, value: string): void {
    this.#environment ??= new OrderedLines(readEnvironment(this.config.Env ?? []));
    this.#environment.set(name, value);
    this.config.Env = this.#environment.lines;
  }

  /** The stage's work folder. */
  get workdir(): ImagePath {
    return imagePath(this.config.WorkingDir ?? '/');
  }

  get platform(): Platform {
    return this.#stage.platform;
  }

  get user(): string {
    return this.config.User ?? '';
  }

  expand(word: Word): string {
    const result = expandWord(word.text, {
      escape: this.context.escape,
      lookup: (name) => this.#lookup(name),
    });
    if (!result.ok)
      stop('bad-substitution', `failed to process ${JSON.stringify(word.text)}: ${result.error.message}`, {
        range: word.range,
      });
    return result.value.text;
  }

  /** Expands a word that may become several. */
  expandAll(word: Word): readonly string[] {
    const result = expandWords(word.text, {
      escape: this.context.escape,
      lookup: (name) => this.variables.get(name),
    });
    if (!result.ok)
      stop('bad-substitution', `failed to process ${JSON.stringify(word.text)}: ${result.error.message}`, {
        range: word.range,
      });
    return result.value.words;
  }

  /** Expands a heredoc's body: variables only, quotes are left alone. */
  expandHeredoc(heredoc: Heredoc): string {
    const result = expandBody(heredoc.body, {
      escape: this.context.escape,
      lookup: (name) => this.#lookup(name),
    });
    if (!result.ok)
      stop('bad-substitution', `failed to process <<${heredoc.name}: ${result.error.message}`, {
        range: heredoc.range,
      });
    return result.value;
  }

  /** The variable's value; the checks are told that it was named. */
  #lookup(name: string): string | undefined {
    this.checks.used(name, this.variables);
    return this.variables.get(name);
  }

  /** Shell-form text as the argument list that runs it. */
  withShell(text: string): readonly string[] {
    const shell = this.config.Shell ?? [];
    return [...(shell.length === 0 ? DEFAULT_SHELL : shell), text];
  }

  /** Notes an instruction that changes only the configuration. */
  note(createdBy: string): void {
    this.#history.push({ createdBy });
  }

  /** Lays the files of a named context down: what `FROM` of one means. */
  addContext(from: FromInstruction, name: string): void {
    const { range } = from.image;
    const source = { kind: 'path', from: { kind: 'named', name }, pattern: '/', range } as const;
    this.addStep(from, { kind: 'COPY', sources: [source], destination: '/' }, from.source);
  }

  /** Adds the step of `instruction`. `createdBy` is its line in the image's history. */
  addStep(instruction: StepSource, details: StepDetails, createdBy: string): void {
    const nth = this.#kinds.get(details.kind) ?? 0;
    this.#kinds.set(details.kind, nth + 1);
    this.#history.push({ createdBy, step: this.#steps.length });
    const info = {
      index: 0,
      kind: details.kind,
      name: instruction.source,
      stage: this.#stage.name,
      ...(this.context.namesPlatforms ? { platform: this.#platformLabel() } : {}),
      range: instruction.range,
    };
    const slot = `${this.context.slotPrefix}\n${this.#stage.name}\n${details.kind} ${nth}`;
    const asked = readCachingComments(instruction, this.context.caching);
    const noCache = this.#stage.noCache || asked === 'never';
    const caching = asked === 'never' ? this.context.caching : asked;
    this.#steps.push({ ...details, info, stage: this.#stage.index, noCache, caching, slot });
  }

  /** `linux/amd64`, or `linux/amd64->arm64` where an ARG has told the steps what they build for. */
  #platformLabel(): string {
    const own = formatPlatform(this.platform);
    const named = this.variables.get('TARGETPLATFORM') ?? this.#targetOfParts();
    if (named === undefined || named === own) return own;
    const [os = '', ...machine] = named.split('/');
    return `${own}->${os === this.platform.os ? machine.join('/') : named}`;
  }

  #targetOfParts(): string | undefined {
    const [os, architecture, variant] = ['TARGETOS', 'TARGETARCH', 'TARGETVARIANT'].map((name) =>
      this.variables.get(name),
    );
    if (architecture === undefined) return undefined;
    const variantPart = variant === undefined || variant === '' ? '' : `/${variant}`;
    return `${os ?? this.platform.os}/${architecture}${variantPart}`;
  }

  /** The plan; `firstStep` is the number of the stage's first step in the whole build. */
  finish(firstStep: number): StagePlan {
    return {
      index: this.#stage.index,
      name: this.#stage.name,
      base: this.#base,
      steps: this.#steps.map((step, nth) => ({ ...step, info: { ...step.info, index: firstStep + nth } })),
      config: this.config,
      ...(this.author === undefined ? {} : { author: this.author }),
      platform: this.#stage.platform,
      history: this.#history,
    };
  }
}
