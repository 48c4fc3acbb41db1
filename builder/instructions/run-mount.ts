import { baseName, csvFields, imagePath, ROOT_PATH, type SourceRange, splitPair } from '../../core/index.ts';
import { type Flag, nearest } from '../../parser/index.ts';
import type { AgentMount, BindMount, CacheMount, CacheSharing, RunMount, SecretMount } from '../graph.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

const TYPES = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'] as const;
type MountType = (typeof TYPES)[number];
const SHARINGS: readonly CacheSharing[] = ['shared', 'private', 'locked'];

const KEYS = [
  'type',
  'from',
  'source',
  'src',
  'target',
  'dst',
  'destination',
  'readonly',
  'ro',
  'readwrite',
  'rw',
];
const FURTHER_KEYS = ['required', 'size', 'id', 'sharing', 'mode', 'uid', 'gid', 'env'];

/** The options of one `--mount` as they were written, expanded; defaults come later. */
interface Options {
  type: MountType;
  from?: string;
  source?: string;
  target?: string;
  id?: string;
  env?: string;
  sharing?: CacheSharing;
  readonly?: boolean;
  required?: boolean;
  size?: number;
  mode?: number;
  uid?: number;
  gid?: number;
}

/**
 * Reads `RUN --mount=...` as BuildKit does: fields in order, so that `type` stands before the keys that only some types take; values
 * are expanded, but for `from`.
 */
export function planMount(flag: Flag, stage: StageDraft, agents: number): RunMount {
  const { range } = flag;
  const options = readOptions(flag, stage);
  refuseMismatch(options, range);
  switch (options.type) {
    case 'tmpfs': {
      const { size, readonly } = options;
      return {
        type: 'tmpfs',
        target: targetOf(options, stage, range),
        ...(size === undefined || size === 0 ? {} : { sizeBytes: size }),
        ...(readonly === true ? { readonly } : {}),
      };
    }
    case 'bind':
      return bindMount(options, stage, range);
    case 'cache':
      return cacheMount(options, stage, range);
    case 'secret':
      return secretMount(options, range);
    case 'ssh':
      return agentMount(options, agents, range);
  }
}

/** The stage or image whose files a `--mount` takes, as a `--from` flag; undefined where it takes none. */
export function mountSource(flag: Flag): Flag | undefined {
  const pairs = (csvFields(flag.value ?? '') ?? []).map(splitPair);
  const last = (key: string) => pairs.findLast(([name]) => name.toLowerCase() === key)?.[1];
  const from = last('from') ?? '';
  if (from === '' || last('type')?.toLowerCase() === 'tmpfs') return undefined;
  if (/\$./.test(from)) {
    stop(
      'unsupported-from',
      `'from' doesn't support variable expansion, define alias stage instead: ${from}`,
      {
        range: flag.range,
        hint: 'Define a stage with FROM, whose name may hold global ARGs, and mount from that.',
      },
    );
  }
  return { name: 'from', value: from, range: flag.range };
}

function readOptions(flag: Flag, stage: StageDraft): Options {
  const { range } = flag;
  const fields = csvFields(flag.value ?? '');
  if (fields === undefined) invalid(`failed to parse csv mounts: a stray quote in ${flag.value}`, range);
  const options: Options = { type: 'bind' };
  for (const field of fields) {
    const [written, text] = splitPair(field);
    const key = written.toLowerCase();
    if (text === undefined) setBare(options, { key, field }, range);
    else if (key === 'from') options.from = text;
    else setValue(options, { key, value: stage.expand({ text, range }), field }, range);
  }
  return options;
}

/** A key that stands alone. */
function setBare(options: Options, { key, field }: { key: string; field: string }, range: SourceRange): void {
  if (key === 'readonly' || key === 'ro') options.readonly = true;
  else if (key === 'readwrite' || key === 'rw') options.readonly = false;
  else if (key === 'required') {
    onlyFor(options, key, ['secret', 'ssh'], range);
    options.required = true;
  } else {
    invalid(`invalid field ${JSON.stringify(field)}: it must be a key=value pair`, range);
  }
}

function setValue(
  options: Options,
  { key, value, field }: { readonly key: string; readonly value: string; readonly field: string },
  range: SourceRange,
): void {
  switch (key) {
    case 'type':
      options.type = wordOf(
        value.toLowerCase(),
        TYPES,
        `unsupported mount type ${JSON.stringify(value)}`,
        range,
      );
      return;
    case 'source':
    case 'src':
      options.source = value;
      return;
    case 'target':
    case 'dst':
    case 'destination':
      options.target = value;
      return;
    case 'id':
    case 'env':
      options[key] = value;
      return;
    case 'readonly':
    case 'ro':
      options.readonly = booleanOf(value, key, range);
      return;
    case 'readwrite':
    case 'rw':
      options.readonly = !booleanOf(value, key, range);
      return;
    case 'required':
      onlyFor(options, key, ['secret', 'ssh'], range);
      options.required = booleanOf(value, key, range);
      return;
    case 'size':
      onlyFor(options, key, ['tmpfs'], range);
      options.size = sizeOf(value, range);
      return;
    case 'sharing':
      options.sharing = wordOf(
        value.toLowerCase(),
        SHARINGS,
        `unsupported sharing value ${JSON.stringify(value)}`,
        range,
      );
      return;
    case 'mode':
      options.mode = numberOf(value, { key, base: 8 }, range);
      return;
    case 'uid':
    case 'gid':
      options[key] = numberOf(value, { key, base: 10 }, range);
      return;
    default:
      unknownKey(key, field, range);
  }
}

function refuseMismatch({ type, from, source, target, id, ...options }: Options, range: SourceRange): void {
  if (type === 'bind' || type === 'tmpfs') {
    for (const key of ['mode', 'uid', 'gid'] as const)
      if (options[key] !== undefined)
        invalid(`${key} not allowed for ${JSON.stringify(type)} type mounts`, range);
  }
  if (options.sharing !== undefined && type !== 'cache')
    invalid(`invalid cache sharing set for ${type} mount`, range);
  if (type === 'ssh' && (source ?? '') !== '') invalid('ssh does not support source', range);
  if (type !== 'secret') return;
  if ((from ?? '') !== '') invalid('secret mount should not have a from', range);
  if ((source ?? '') === '' && (target ?? '') === '' && (id ?? '') === '') {
    invalid('invalid secret mount: one of id, source, target required', range);
  }
  if ((source ?? '') !== '' && (id ?? '') !== '') invalid("both source and id can't be set", range);
  if (options.env === '') invalid('env needs the name of a variable', range);
}

function bindMount(options: Options, stage: StageDraft, range: SourceRange): BindMount {
  const { from = '', source = '', readonly = true } = options;
  return {
    type: 'bind',
    target: targetOf(options, stage, range),
    from: from === '' ? { kind: 'context' } : stage.context.treeNamed(from),
    source: imagePath(source),
    readonly,
    range,
  };
}

function cacheMount(options: Options, stage: StageDraft, range: SourceRange): CacheMount {
  const { from = '', source = '', readonly = false, sharing = 'shared' } = options;
  const path = options.target ?? '';
  const id = options.id ?? '';
  const isNewFolder =
    imagePath(source) === ROOT_PATH &&
    [options.mode, options.uid, options.gid].some((one) => one !== undefined);
  return {
    type: 'cache',
    target: targetOf(options, stage, range),
    id: id === '' ? cleanPath(path) : id,
    sharing,
    readonly,
    // With an owner or a mode the folder is made anew, and what `from` holds is out of sight.
    from: from === '' || isNewFolder ? { kind: 'scratch' } : stage.context.treeNamed(from),
    source: imagePath(source),
    mode: options.mode ?? 0o755,
    uid: options.uid ?? 0,
    gid: options.gid ?? 0,
    range,
  };
}

/** Go's `path.Clean`, which an id comes from: a relative path stays one. */
function cleanPath(path: string): string {
  const clean = imagePath(path);
  if (path.startsWith('/')) return `/${clean}`;
  return clean === '' ? '.' : clean;
}

function secretMount(options: Options, range: SourceRange): SecretMount {
  const { source = '', target = '', env } = options;
  const id =
    source !== '' ? source : (options.id ?? '') !== '' ? (options.id ?? '') : baseName(imagePath(target));
  const place =
    target !== '' ? target : env === undefined ? `/run/secrets/${baseName(imagePath(id))}` : undefined;
  const path = place === undefined ? undefined : imagePath(place);
  if (path === ROOT_PATH) invalid(`invalid mount target "/"`, range);
  return {
    type: 'secret',
    id,
    ...(path === undefined ? {} : { target: path }),
    ...(env === undefined ? {} : { env }),
    required: options.required ?? false,
    mode: options.mode ?? 0o400,
    uid: options.uid ?? 0,
    gid: options.gid ?? 0,
    range,
  };
}

/** `number`: how many agents the step has already. */
function agentMount(options: Options, number: number, range: SourceRange): AgentMount {
  const { target = '', id = '' } = options;
  const path = imagePath(target === '' ? `/run/buildkit/ssh_agent.${number}` : target);
  if (path === ROOT_PATH) invalid(`invalid mount target "/"`, range);
  return {
    type: 'ssh',
    id: id === '' ? 'default' : id,
    target: path,
    required: options.required ?? false,
    mode: options.mode ?? 0o600,
    uid: options.uid ?? 0,
    gid: options.gid ?? 0,
    range,
  };
}

/** A relative target lies in the work folder, and none at all means that folder itself. */
function targetOf({ target = '' }: Options, stage: StageDraft, range: SourceRange) {
  const path = imagePath(target, stage.workdir);
  if (path !== ROOT_PATH) return path;
  stop('invalid-mount', `invalid mount target "/"`, {
    range,
    hint: 'Say where to mount with target=PATH; the root itself cannot be covered.',
  });
}

function onlyFor(options: Options, key: string, types: readonly MountType[], range: SourceRange): void {
  if (types.includes(options.type)) return;
  stop('invalid-mount', `unexpected key '${key}' for mount type '${options.type}'`, {
    range,
    hint: `Only ${types.join(' and ')} take it; write type= before it.`,
  });
}

function unknownKey(key: string, field: string, range: SourceRange): never {
  const near = nearest(key, [...KEYS, ...FURTHER_KEYS]);
  stop('invalid-mount', `unexpected key '${key}' in '${field}'`, {
    range,
    ...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
  });
}

function wordOf<T extends string>(
  value: string,
  words: readonly T[],
  message: string,
  range: SourceRange,
): T {
  const word = words.find((one) => one === value);
  if (word !== undefined) return word;
  const near = nearest(value, words);
  stop('invalid-mount', message, {
    range,
    hint: near === undefined ? `It can be ${words.join(', ')}.` : `did you mean ${near}?`,
  });
}

/** Go's strconv.ParseBool. */
function booleanOf(value: string, key: string, range: SourceRange): boolean {
  if (/^(?:1|t|true)$/i.test(value)) return true;
  if (/^(?:0|f|false)$/i.test(value)) return false;
  invalid(`invalid value for ${key}: ${value}`, range);
}

function numberOf(
  value: string,
  { key, base }: { readonly key: string; readonly base: 8 | 10 },
  range: SourceRange,
): number {
  const isDigits = (base === 8 ? /^[0-7]+$/ : /^[0-9]+$/).test(value);
  const number = isDigits ? Number.parseInt(value, base) : Number.NaN;
  if (number < 2 ** 32) return number;
  invalid(`invalid value ${JSON.stringify(value)} for ${key}`, range);
}

const UNITS = 'bkmgtp';

/** Bytes, or a number with a unit of powers of 1024: `64m`, `1.5g`, `1GiB`. */
function sizeOf(text: string, range: SourceRange): number {
  const match = /^(\d+(?:\.\d+)?) ?(?:([kmgtp])i?)?b?$/i.exec(text);
  if (match === null) {
    stop('invalid-mount', `invalid value for size: ${JSON.stringify(text)}`, {
      range,
      hint: 'Write bytes, or a number with a unit: size=64m.',
    });
  }
  return Math.trunc(Number(match[1]) * 1024 ** UNITS.indexOf((match[2] ?? 'b').toLowerCase()));
}

function invalid(message: string, range: SourceRange): never {
  stop('invalid-mount', message, { range });
}
