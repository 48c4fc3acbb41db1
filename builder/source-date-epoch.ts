import { createReadStream } from 'node:fs';
import {
  type BuildContext,
  contextName,
  type GitSource,
  type HostPath,
  MachineError,
  type NamedContext,
  parseGitUrl,
} from '../core/index.ts';
import { DEFAULT_ARCHIVE_LIMITS, decompressArchive, readTar } from '../image/index.ts';
import { expandWord, type Instruction, type Word } from '../parser/index.ts';
import type { Asked, Contexts } from './contexts.ts';
import { planRemote } from './instructions/add-remote.ts';
import type { PlanInput } from './plan.ts';
import { globalArgs, type StageSketch, sketchStages, stageHasName } from './stages.ts';
import { stop } from './stop.ts';
import { SOURCE_DATE_EPOCH } from './variables.ts';

/** SOURCE_DATE_EPOCH (reproducible-builds.org), in seconds. */
export function readEpoch(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,12}$/.test(text)) return Number(text);
  stop('invalid-epoch', `invalid SOURCE_DATE_EPOCH: ${JSON.stringify(text)}`, {
    hint: 'Give seconds since 1970, such as 1700000000, the word context, or the name of a stage or of a named context.',
  });
}

/** Where a time may come from: something that another machine made, and which says when. */
type Origin =
  | { readonly kind: 'git'; readonly source: GitSource; readonly asked: Asked }
  | { readonly kind: 'http'; readonly url: string; readonly asked: Parameters<Contexts['fetchFile']>[1] }
  /** A tar that was brought: it says no more than its entries do. */
  | { readonly kind: 'archive'; readonly path: HostPath }
  /** Files of this machine, whose times say nothing. */
  | { readonly kind: 'none' };

/**
 * Plans with SOURCE_DATE_EPOCH in seconds. The caller or an ARG before the first FROM may also say `context`, or name a named
 * context or a stage that adds one remote source: then it is the time of the commit, or `Last-Modified`, or the newest file of the archive;
 * nothing where none of these says a time, as for files of this machine.
 */
export async function withResolvedEpoch(
  plans: readonly PlanInput[],
  context: BuildContext,
  contexts: Contexts,
): Promise<readonly PlanInput[]> {
  const [input] = plans;
  if (input === undefined) return plans;
  const globals = globalArgs(input, new Set());
  const said = input.request.buildArgs[SOURCE_DATE_EPOCH] ?? globals.get(SOURCE_DATE_EPOCH);
  if (said === undefined || said === '' || /^-?\d+$/.test(said)) return plans;
  const origin = said === 'context' ? originOf(context) : originNamed(said, input, globals);
  if (origin === undefined) return plans;
  const seconds = await timeOf(origin, contexts);
  const resolved = { [SOURCE_DATE_EPOCH]: seconds === undefined ? '' : String(seconds) };
  return plans.map((plan) => {
    const { request } = plan;
    return { ...plan, request: { ...request, buildArgs: { ...request.buildArgs, ...resolved } } };
  });
}

function originNamed(
  said: string,
  input: PlanInput,
  globals: ReadonlyMap<string, string>,
): Origin | undefined {
  const name = contextName(said);
  const named = name === undefined ? undefined : input.request.namedContexts?.[name];
  if (named !== undefined) return originOf(named);
  const known = new Map([...globals].filter(([one]) => one !== SOURCE_DATE_EPOCH));
  const stage = sketchStages(input, known).find((sketch) => stageHasName(sketch, said));
  return stage === undefined ? undefined : originOfStage(stage, input, known);
}

function originOf(context: BuildContext | NamedContext): Origin {
  switch (context.kind) {
    case 'git': {
      const parsed = parseGitUrl(context.url);
      if (!parsed.ok || parsed.value === undefined) return { kind: 'none' };
      return { kind: 'git', source: parsed.value, asked: { agent: 'own' } };
    }
    case 'http':
      return { kind: 'http', url: context.url, asked: {} };
    case 'archive':
      return { kind: 'archive', path: context.path };
    default:
      return { kind: 'none' };
  }
}

const STAGE_HINT =
  'Such a stage has FROM scratch, ARGs, and one ADD of one file or repository from another machine.';

/** What a stage adds that names its source and nothing else. */
function originOfStage(
  { stage, from, instructions }: StageSketch,
  { request, dockerfile }: PlanInput,
  globals: ReadonlyMap<string, string>,
): Origin {
  const refuse = (message: string, { range }: Pick<Instruction, 'range'>): never =>
    stop('epoch-stage', `SOURCE_DATE_EPOCH stage ${message}`, { range, hint: STAGE_HINT });
  if (from.kind !== 'scratch') refuse('must use FROM scratch', stage.from);
  const values = new Map(globals);
  const expand = ({ text, range }: Word): string => {
    const result = expandWord(text, {
      escape: dockerfile.directives.escape,
      lookup: (name) => values.get(name),
    });
    if (result.ok) return result.value.text;
    stop('bad-substitution', `failed to process ${JSON.stringify(text)}: ${result.error.message}`, { range });
  };
  let found: Origin | undefined;
  for (const instruction of instructions) {
    if (instruction.kind === 'ARG') {
      for (const { name, defaultValue } of instruction.args) {
        const value = request.buildArgs[name.text] ?? (defaultValue && expand(defaultValue));
        if (value !== undefined) values.set(name.text, value);
      }
      continue;
    }
    if (instruction.kind !== 'ADD')
      return refuse(
        `does not meet source-only requirements: unsupported ${instruction.kind} instruction`,
        instruction,
      );
    const [source, ...more] = instruction.sources;
    if (found !== undefined) refuse('must contain exactly one remote ADD', instruction);
    if (source?.kind !== 'path' || more.length > 0)
      return refuse('must contain exactly one remote ADD source', instruction);
    const { checksum: flag } = instruction.options;
    const checksum = flag && expand(flag);
    const { range } = source.word;
    const plan = planRemote(expand(source.word), { instruction, checksum, destination: '/x', range });
    if (plan?.kind === 'git') found = { kind: 'git', source: plan.source, asked: { range } };
    else if (plan?.kind === 'http') {
      const wanted = plan.checksum === undefined ? {} : { checksum: plan.checksum };
      found = { kind: 'http', url: plan.url, asked: { range, ...wanted } };
    } else return refuse('source must be a single HTTP(S) or Git ADD', instruction);
  }
  return found ?? refuse('must contain exactly one remote ADD', stage.from);
}

async function timeOf(origin: Origin, contexts: Contexts): Promise<number | undefined> {
  switch (origin.kind) {
    case 'git': {
      const { mtime: _, ...source } = origin.source;
      const commit = await contexts.findCommit(source, origin.asked);
      return (await contexts.checkOut(source, commit, origin.asked)).commitTime;
    }
    case 'http': {
      const { mtime, path } = await contexts.fetchFile(origin.url, origin.asked);
      return mtime === 0 ? newestIn(path) : mtime;
    }
    case 'archive':
      return newestIn(origin.path);
    case 'none':
      return undefined;
  }
}

/** The time of an archive's newest regular file; undefined where the file is no archive. */
async function newestIn(path: HostPath): Promise<number | undefined> {
  let newest: number | undefined;
  try {
    for await (const { type, mtime } of readTar(
      decompressArchive(createReadStream(path)),
      DEFAULT_ARCHIVE_LIMITS,
    )) {
      if (type === 'file' && mtime.sec > (newest ?? -1)) newest = mtime.sec;
    }
  } catch (error) {
    // A file that is no archive has no entries, and a damaged one is refused where it is unpacked.
    if (error instanceof MachineError && error.code === 'layer-refused') return undefined;
    throw error;
  }
  return newest;
}
