import { comparePaths, type Digest, type ImagePath, seenPath, unreachable } from '../core/index.ts';
import { encodeCanonical } from './canonical.ts';
import type { Action, Canonical, FileFact, MissReason, StepQuery, StepRecord } from './contract.ts';
import { type FactLine, FactList, factIn, sameLine } from './fact-list.ts';

/** What is kept of a slot's last query: the key's preimage, read back. */
export interface PastQuery {
  readonly action: Action;
  readonly parent: string | null;
  readonly inputs: readonly { readonly name: string; readonly digest: Digest }[];
}

type FileChange = Extract<MissReason, { reason: 'file-changed' }>['change'];

/** Fields that are objects of variables: told by the variable's name, without its value. */
const VARIABLE_FIELDS: readonly string[] = ['environment', 'buildArgs'];

/** Fields that people write as flags, by the flag's name. Others are called by their own name. */
const FLAGS: Readonly<Record<string, string>> = {
  chmod: '--chmod',
  checksum: '--checksum',
  chown: '--chown',
  exclude: '--exclude',
  keepGitDir: '--keep-git-dir',
  link: '--link',
  mounts: '--mount',
  network: '--network',
  parents: '--parents',
  platform: '--platform',
  security: '--security',
  unpack: '--unpack',
};

const WORDS: Readonly<Record<string, string>> = {
  inline: 'its heredoc',
  script: 'its heredoc',
  version: 'the format of its key',
  kind: 'the instruction',
  limits: 'what the command line says of RUN steps',
  workdir: 'the working directory',
};

/** Fields whose values are not for reading: objects and digests. */
const OPAQUE_FIELDS: readonly string[] = [...VARIABLE_FIELDS, 'inline', 'script', 'mounts', 'limits'];

/** Inputs that need no name in a sentence. */
const CONTEXTS: readonly string[] = ['context', 'the build context'];

const DAY_MS = 86_400_000;

/** Longest value that a sentence quotes. */
const QUOTED = 60;

/**
 * The first thing that differs between the query that a slot had last and `now`, in this order: the fields of the action
 * by name, variables by name, the inputs in the step's order and their files by path, the parent. Undefined where nothing
 * differs. `factsOf` gives a kept listing.
 */
export function firstDifference(
  past: PastQuery,
  now: StepQuery,
  factsOf: (digest: Digest) => FactList | undefined,
): MissReason | undefined {
  return (
    fieldDifference(past.action, now.action) ??
    variableDifference(past.action, now.action) ??
    inputDifference(past, now, factsOf) ??
    (past.parent === (now.parent ?? null) ? undefined : { reason: 'parent-changed' })
  );
}

function fieldDifference(past: Action, now: Action): MissReason | undefined {
  const before = { ...past.definition };
  const after = { ...now.definition };
  if (past.kind !== now.kind) {
    return { reason: 'field-changed', field: 'kind', before: past.kind, after: now.kind };
  }
  if (past.version !== now.version) {
    const versions = { before: String(past.version), after: String(now.version) };
    return { reason: 'field-changed', field: 'version', ...versions };
  }
  for (const field of sortedUnion(before, after)) {
    if (isVariables(field, before[field]) && isVariables(field, after[field])) continue;
    if (sameValue(before[field], after[field])) continue;
    // Variables come here where the field is no object: it must not show their values either.
    if (OPAQUE_FIELDS.includes(field)) return { reason: 'field-changed', field, before: '', after: '' };
    return { reason: 'field-changed', field, before: shown(before[field]), after: shown(after[field]) };
  }
  return undefined;
}

function isVariables(field: string, value: Canonical | undefined): boolean {
  if (!VARIABLE_FIELDS.includes(field)) return false;
  return value === undefined || (typeof value === 'object' && value !== null && !Array.isArray(value));
}

function variableDifference(past: Action, now: Action): MissReason | undefined {
  for (const field of VARIABLE_FIELDS) {
    const before = variablesOf(past.definition[field]);
    const after = variablesOf(now.definition[field]);
    for (const name of sortedUnion(before, after)) {
      if (sameValue(before[name], after[name])) continue;
      const change = before[name] === undefined ? 'added' : after[name] === undefined ? 'removed' : 'changed';
      return { reason: 'variable-changed', name, change };
    }
  }
  return undefined;
}

function variablesOf(value: Canonical | undefined): { readonly [name: string]: Canonical | undefined } {
  return Object.fromEntries(typeof value === 'object' && value !== null ? Object.entries(value) : []);
}

function sortedUnion(a: object, b: object): readonly string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
}

function sameValue(a: Canonical | undefined, b: Canonical | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return encodeCanonical(a) === encodeCanonical(b);
}

function shown(value: Canonical | undefined): string {
  if (value === undefined) return '';
  if (typeof value === 'string') return value;
  const words = Array.isArray(value) && value.every((item: Canonical) => typeof item === 'string');
  return words ? value.join(' ') : encodeCanonical(value);
}

function inputDifference(
  past: PastQuery,
  now: StepQuery,
  factsOf: (digest: Digest) => FactList | undefined,
): MissReason | undefined {
  const before = past.inputs.map(({ name }) => name);
  const after = now.inputs.map(({ name }) => name);
  if (encodeCanonical(before) !== encodeCanonical(after)) {
    return { reason: 'field-changed', field: 'inputs', before: before.join(', '), after: after.join(', ') };
  }
  for (const [at, input] of now.inputs.entries()) {
    const was = past.inputs[at]?.digest;
    if (was === undefined || was === input.digest) continue;
    const facts = factsOf(was);
    const difference = facts === undefined ? undefined : fileDifference(input.name, facts, input.facts);
    // Without the old listing, all that can be told is that something in the input changed.
    return difference ?? { reason: 'field-changed', field: input.name, before: '', after: '' };
  }
  return undefined;
}

/** The first path, in path order, at which two listings differ. Undefined where none does. */
export function fileDifference(input: string, before: FactList, after: FactList): MissReason | undefined {
  let first: { readonly path: ImagePath; readonly change: FileChange } | undefined;
  let count = 0;
  const [left, right] = FactList.differing(before, after);
  const olds = left[Symbol.iterator]();
  const news = right[Symbol.iterator]();
  let a: FactLine | undefined = olds.next().value;
  let b: FactLine | undefined = news.next().value;
  while (a !== undefined || b !== undefined) {
    // Most are the same, and need not be made facts of.
    const isSame = a !== undefined && b !== undefined && sameLine(a, b);
    const old = a === undefined || isSame ? undefined : factIn(a);
    const fresh = b === undefined || isSame ? undefined : factIn(b);
    const order = isSame
      ? 0
      : old === undefined
        ? 1
        : fresh === undefined
          ? -1
          : comparePaths(old.path, fresh.path);
    if (order <= 0) a = olds.next().value;
    if (order >= 0) b = news.next().value;
    const change = order < 0 ? 'removed' : order > 0 ? 'added' : changeOf(old, fresh);
    const path = order < 0 ? old?.path : fresh?.path;
    if (change === undefined || path === undefined) continue;
    count += 1;
    first ??= { path, change };
  }
  return first === undefined ? undefined : { reason: 'file-changed', input, ...first, others: count - 1 };
}

function changeOf(old: FileFact | undefined, fresh: FileFact | undefined): FileChange | undefined {
  if (old === undefined || fresh === undefined) return undefined;
  if (old.type !== fresh.type || old.device !== fresh.device) return 'type';
  if (old.digest !== fresh.digest) return 'content';
  if (old.linkTarget !== fresh.linkTarget) return 'link-target';
  if (old.hardlinkTo !== fresh.hardlinkTo) return 'hard-link';
  if (old.mode !== fresh.mode) return 'mode';
  if (old.uid !== fresh.uid || old.gid !== fresh.gid) return 'owner';
  return sameValue(old.xattrs ?? {}, fresh.xattrs ?? {}) ? undefined : 'xattrs';
}

/** One short sentence without a full stop for a person who asks why a step ran. */
export function explainMiss(why: MissReason): string {
  switch (why.reason) {
    case 'never-ran':
      return 'never ran before';
    case 'no-cache':
      return 'the cache was switched off for it';
    case 'evicted':
      return 'its layer was evicted';
    case 'parent-changed':
      return 'the step before it changed';
    case 'variable-changed':
      return `variable ${printable(why.name)} ${variableVerb(why.change)}`;
    case 'field-changed':
      return explainField(why);
    case 'file-changed':
      return explainFile(why);
    case 'observed-changed':
      return explainObservedChange(why);
    case 'too-old':
      if (why.ageMs < 0) return 'its result is from a later time than now: the clock was set back';
      return `its result is ${span(why.ageMs) ?? 'a moment'} old, older than its ttl`;
    default:
      return unreachable(why);
  }
}

function variableVerb(change: 'added' | 'changed' | 'removed'): string {
  return change === 'changed' ? 'changed' : `was ${change}`;
}

function explainField(why: Extract<MissReason, { reason: 'field-changed' }>): string {
  const flag = FLAGS[why.field];
  const name = flag === undefined ? (WORDS[why.field] ?? printable(why.field)) : `flag ${flag}`;
  if (why.before === '' && why.after === '') return `${name} changed`;
  if (why.before === '') return `${name} was added: ${quoted(why.after)}`;
  if (why.after === '') return `${name} was removed`;
  return `${name} changed from ${quoted(why.before)} to ${quoted(why.after)}`;
}

function explainFile(why: Extract<MissReason, { reason: 'file-changed' }>): string {
  const path = why.path === '' ? 'the folder itself' : printable(why.path);
  const where = CONTEXTS.includes(why.input) ? '' : ` in ${printable(why.input)}`;
  const verb = why.change === 'added' || why.change === 'removed' ? `was ${why.change}` : 'changed';
  const what = verb === 'changed' ? ` (${why.change.replace('-', ' ')})` : '';
  const others =
    why.others === 0 ? '' : `, ${why.others} more ${why.others === 1 ? 'file differs' : 'files differ'}`;
  return `${path}${where} ${verb}${what}${others}`;
}

function explainObservedChange(why: Extract<MissReason, { reason: 'observed-changed' }>): string {
  const { sentence, verb } = observedWords(why.change, printable(`/${seenPath(why.path)}`));
  const by = why.by === undefined ? '' : ` (${verb} by ${printable(why.by)})`;
  const others =
    why.others === 0 ? '' : `, ${why.others} more ${why.others === 1 ? 'path differs' : 'paths differ'}`;
  return `${sentence}${by}${others}`;
}

/** What happened to `path`, and what a program did that depended on it. */
function observedWords(
  change: Extract<MissReason, { reason: 'observed-changed' }>['change'],
  path: string,
): { readonly sentence: string; readonly verb: string } {
  switch (change) {
    case 'content':
      return { sentence: `${path} changed`, verb: 'read' };
    case 'listing':
      return { sentence: `a name in ${path} came or went`, verb: 'listed' };
    case 'added':
      return { sentence: `${path} appeared`, verb: 'looked up' };
    case 'removed':
      return { sentence: `${path} is gone`, verb: 'looked up' };
    case 'metadata':
      return { sentence: `mode, owner or attributes of ${path} changed`, verb: 'looked up' };
    case 'attributes':
      return { sentence: `size or time of ${path} changed`, verb: 'looked up' };
    case 'link-target':
      return { sentence: `${path} leads elsewhere`, verb: 'followed' };
    case 'type':
      return { sentence: `${path} is of another type`, verb: 'looked up' };
    default:
      return unreachable(change);
  }
}

/** What an observed hit is told from. */
export interface ObservedHitFacts {
  /** How many paths had been observed. */
  readonly paths: number;
  /** How many files changed in what the step stands on; absent: unknown, some. */
  readonly changed?: number | undefined;
  /** Files may also have changed in what the step mounts. */
  readonly mounts?: boolean;
}

/**
 * One short sentence for a person who asks why a step was reused though what it stands on changed. `nowMs` is the time of asking: of
 * a result that is older than a day it is told when it came about.
 */
export function explainObserved(
  { paths, changed, mounts }: ObservedHitFacts,
  record: StepRecord,
  nowMs: number,
): string {
  const where = mounts === true ? 'below or in its mounts' : 'below';
  const files =
    changed === undefined || mounts === true
      ? 'files'
      : changed === 1
        ? '1 file'
        : `${changed || 'no'} files`;
  const set = paths === 1 ? 'not the 1 observed path' : `none of the ${paths} observed paths among them`;
  const ageMs = nowMs - record.ranAtMs;
  const past = ageMs < DAY_MS ? '' : `, ran ${span(ageMs)} ago`;
  return `${files} changed ${where}, ${paths === 0 ? 'the step looked at none' : set}${past}${saved(record)}`;
}

/** One short sentence for a person who asks why a step was reused. `nowMs` is the time of asking. */
export function explainHit(record: StepRecord, nowMs: number): string {
  const past = span(nowMs - record.ranAtMs);
  return explainHitSince(record, past === undefined ? 'a moment ago' : `${past} ago`);
}

/** As {@link explainHit}; `ago` says when the step ran. */
export function explainHitSince(record: StepRecord, ago: string): string {
  return `same action, parent and inputs as ${ago}${saved(record)}`;
}

function saved({ durationMs }: StepRecord): string {
  return durationMs < 100 ? '' : `, saved ${duration(durationMs)}`;
}

const SPANS = [
  ['day', DAY_MS],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
] as const;

/** For how long {@link explainHit} goes on saying the same of what is `ageMs` old. */
export function sameAgeFor(ageMs: number): number {
  const [, length] = SPANS.find(([, unit]) => ageMs >= unit) ?? ['', 1000];
  return (Math.floor(ageMs / length) + 1) * length - ageMs;
}

/** Whole units of the largest one that fits; undefined for less than a second. */
function span(ms: number): string | undefined {
  for (const [unit, length] of SPANS) {
    const count = Math.floor(ms / length);
    if (count >= 1) return `${count} ${unit}${count === 1 ? '' : 's'}`;
  }
  return undefined;
}

function duration(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)}s`;
  return `${Math.floor(ms / 60_000)}m${Math.floor((ms % 60_000) / 1000)}s`;
}

/** Words of a value stay as they are; what would break the sentence or the terminal is escaped. */
function printable(text: string): string {
  const escaped = JSON.stringify(text).slice(1, -1);
  return escaped === text && !/[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(text)
    ? text
    : JSON.stringify(text).replace(
        /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
        (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
      );
}

function quoted(text: string): string {
  const chars = Array.from(text);
  return printable(chars.length <= QUOTED ? text : `${chars.slice(0, QUOTED).join('')}…`);
}
