import type { SourceRange } from '../../core/index.ts';
import {
  type ArgInstruction,
  expandWord,
  type Mount,
  type RunInstruction,
  readMount,
  type Stage,
  type Word,
} from '../../parser/index.ts';
import type { DraftedStages, PlanInput } from '../plan.ts';
import type { StageDraft } from '../stage-draft.ts';
import { describe } from './descriptions.ts';

/** What a target takes from outside: its build arguments, secrets, SSH agents and cache mounts, each once, by place. */
export interface Outline {
  /** Of the target, in lower case; absent where it has none. */
  readonly name?: string;
  readonly description?: string;
  readonly args: readonly OutlineArg[];
  readonly secrets: readonly OutlineMount[];
  readonly ssh: readonly OutlineMount[];
  readonly cache: readonly OutlineMount[];
}

export interface OutlineArg {
  readonly name: string;
  /** In this build; absent where it has none or an empty one. */
  readonly value?: string;
  readonly description?: string;
  readonly range: SourceRange;
}

export interface OutlineMount {
  readonly id: string;
  readonly required: boolean;
  readonly range: SourceRange;
}

/** What of the Dockerfile the target depends on. Arguments that no FROM and no stage uses are left out. */
export function outlineOf(input: PlanInput, drafted: DraftedStages): Outline {
  const { sketches, drafts, target } = drafted;
  const indexes = [...drafts.keys()].sort((a, b) => (a === target ? -1 : b === target ? 1 : b - a));
  const args = new Map<string, OutlineArg>();
  const globals = new GlobalArgs(input, drafted);
  const mounts: FoundMount[] = [];
  for (const index of indexes) {
    const draft = drafts.get(index);
    const stage = sketches[index]?.stage;
    if (draft === undefined || stage === undefined) continue;
    for (const arg of argsOf(stage, { draft, input, globals })) {
      if (!args.has(arg.name)) args.set(arg.name, arg);
    }
    for (const instruction of stage.instructions) {
      if (instruction.kind === 'RUN') mounts.push(...mountsOf(instruction, draft));
    }
  }
  const from = sketches[target]?.stage.from;
  const name = from?.as?.text.toLowerCase();
  const description = name === undefined || from === undefined ? undefined : describe(name, from);
  return {
    ...(name === undefined ? {} : { name }),
    ...(description === undefined ? {} : { description }),
    args: [...args.values()].sort(byPlace),
    secrets: ofType('secret', mounts),
    ssh: ofType('ssh', mounts),
    cache: ofType('cache', mounts),
  };
}

/** The ARGs above the first FROM, and which others the default of each names. */
class GlobalArgs {
  readonly #args = new Map<string, OutlineArg & { readonly uses: ReadonlySet<string> }>();
  readonly #escape: '\\' | '`';

  constructor({ dockerfile, request }: PlanInput, { globals }: DraftedStages) {
    this.#escape = dockerfile.directives.escape;
    for (const instruction of dockerfile.globalArgs) {
      for (const { name, defaultValue } of instruction.args) {
        const isGiven = Object.hasOwn(request.buildArgs, name.text);
        const uses = isGiven || defaultValue === undefined ? new Set<string>() : this.#namesIn(defaultValue);
        const value = globals.get(name.text);
        this.#args.set(name.text, { ...argOf(name.text, instruction, value), uses });
      }
    }
  }

  has(name: string): boolean {
    return this.#args.has(name);
  }

  /** The arguments that a word names, and those that these depend on. */
  *usedIn(word: Word): Iterable<OutlineArg> {
    for (const name of this.#namesIn(word)) yield* this.use(name, new Set());
  }

  *use(name: string, seen: Set<string>): Iterable<OutlineArg> {
    const arg = this.#args.get(name);
    if (arg === undefined || seen.has(name)) return;
    seen.add(name);
    const { uses, ...rest } = arg;
    yield rest;
    for (const other of uses) yield* this.use(other, seen);
  }

  #namesIn(word: Word): ReadonlySet<string> {
    const names = new Set<string>();
    const lookup = (name: string): string => {
      names.add(name);
      return 'x';
    };
    expandWord(word.text, { escape: this.#escape, lookup });
    return names;
  }
}

function* argsOf(
  { from, instructions }: Stage,
  context: { readonly draft: StageDraft; readonly input: PlanInput; readonly globals: GlobalArgs },
): Iterable<OutlineArg> {
  const { draft, input, globals } = context;
  const own = new Map<string, OutlineArg>();
  const inherited: OutlineArg[] = [];
  for (const instruction of instructions) {
    if (instruction.kind !== 'ARG') continue;
    for (const { name, defaultValue } of instruction.args) {
      const isGiven = Object.hasOwn(input.request.buildArgs, name.text);
      const isGlobal = draft.context.globals.has(name.text) || globals.has(name.text);
      if (!isGiven && defaultValue === undefined && isGlobal)
        inherited.push(...globals.use(name.text, new Set()));
      else own.set(name.text, argOf(name.text, instruction, draft.args.get(name.text)));
    }
  }
  yield* own.values();
  yield* inherited;
  yield* globals.usedIn(from.image);
  if (from.options.platform !== undefined) yield* globals.usedIn(from.options.platform);
}

function argOf(name: string, instruction: ArgInstruction, value: string | undefined): OutlineArg {
  const description = describe(name, instruction);
  return {
    name,
    ...(value === undefined || value === '' ? {} : { value }),
    ...(description === undefined ? {} : { description }),
    range: instruction.range,
  };
}

interface FoundMount extends OutlineMount {
  readonly type: Mount['type'];
}

function mountsOf(instruction: RunInstruction, draft: StageDraft): readonly FoundMount[] {
  const expand = ({ text }: Word): string => {
    const lookup = (name: string): string | undefined => draft.variables.get(name);
    const expanded = expandWord(text, { escape: draft.context.escape, lookup });
    return expanded.ok ? expanded.value.text : text;
  };
  return instruction.options.mounts.flatMap((flag) => {
    const mount = readMount(flag, expand);
    if (!mount.ok) return [];
    const { range } = instruction;
    const { type } = mount.value;
    switch (mount.value.type) {
      case 'secret':
        return [{ type, id: mount.value.id, required: mount.value.required, range }];
      case 'ssh':
        return [{ type, id: mount.value.id ?? 'default', required: mount.value.required, range }];
      case 'cache':
        return [{ type, id: mount.value.id ?? mount.value.target ?? '', required: false, range }];
      default:
        return [];
    }
  });
}

/** Of mounts with the same name one stands for all; it is required where one of them is. */
function ofType(type: Mount['type'], mounts: readonly FoundMount[]): readonly OutlineMount[] {
  const byId = new Map<string, OutlineMount>();
  for (const { type: found, ...mount } of [...mounts].sort(byPlace)) {
    if (found !== type) continue;
    const first = byId.get(mount.id);
    byId.set(mount.id, { ...(first ?? mount), required: mount.required || first?.required === true });
  }
  return [...byId.values()];
}

function byPlace(one: { readonly range: SourceRange }, other: { readonly range: SourceRange }): number {
  return one.range.start.offset - other.range.start.offset;
}
