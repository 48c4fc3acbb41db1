import { err, ok, type Result, type SourceRange, unreachable } from '../core/index.ts';
import type { FlagField, MountFlag, Word } from './ast.ts';
import { nearest } from './suggest.ts';

/** Who owns what a mount makes, and with which permission bits; absent: the type's own choice. */
interface MountOwner {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** `RUN --mount` by type, variables expanded: https://docs.docker.com/reference/dockerfile/#run---mount. */
export type Mount =
  | {
      readonly type: 'bind';
      /** A stage, a named context or an image; absent: the build context. */
      readonly from?: Word;
      readonly source?: string;
      readonly target?: string;
      readonly readOnly: boolean;
    }
  | ({
      readonly type: 'cache';
      readonly id?: string;
      /** What the cache starts with; absent: an empty folder. */
      readonly from?: Word;
      readonly source?: string;
      readonly target?: string;
      readonly sharing: CacheSharing;
      readonly readOnly: boolean;
    } & MountOwner)
  | {
      readonly type: 'tmpfs';
      readonly target?: string;
      readonly sizeBytes?: number;
      readonly readOnly: boolean;
    }
  | ({
      readonly type: 'secret';
      /** Given, or the source, or the last part of the target. */
      readonly id: string;
      readonly target?: string;
      /** The environment variable that gets the value. */
      readonly env?: string;
      readonly required: boolean;
    } & MountOwner)
  | ({
      readonly type: 'ssh';
      readonly id?: string;
      readonly target?: string;
      readonly required: boolean;
    } & MountOwner);

export type CacheSharing = 'shared' | 'private' | 'locked';

/** What is wrong with a flag's value, and where. */
export interface FlagFault {
  readonly message: string;
  readonly range: SourceRange;
  readonly hint?: string;
}

const TYPES = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'] as const;
const SHARINGS = ['shared', 'private', 'locked'] as const;

type MountType = Mount['type'];
type Key = 'type' | 'from' | 'source' | 'target' | 'readonly' | 'readwrite' | 'id' | 'sharing' | OwnKey;
type OwnKey = 'required' | 'size' | 'mode' | 'uid' | 'gid' | 'env';

/** Every key as it may be written, and what it is called here. */
const KEYS: Readonly<Record<string, Key>> = {
  type: 'type',
  from: 'from',
  source: 'source',
  src: 'source',
  target: 'target',
  dst: 'target',
  destination: 'target',
  readonly: 'readonly',
  ro: 'readonly',
  readwrite: 'readwrite',
  rw: 'readwrite',
  id: 'id',
  sharing: 'sharing',
  required: 'required',
  size: 'size',
  mode: 'mode',
  uid: 'uid',
  gid: 'gid',
  env: 'env',
};

/** Keys that only some types take. As in BuildKit the type stands before them; the others may stand anywhere. */
const BEHIND_TYPE: Partial<Record<Key, readonly string[]>> = { required: ['secret', 'ssh'], size: ['tmpfs'] };
const OF_OWNER: readonly Key[] = ['mode', 'uid', 'gid'];
const WITH_OWNER: readonly MountType[] = ['cache', 'secret', 'ssh'];

/** Keys that may stand alone. */
const ALONE: readonly Key[] = ['readonly', 'readwrite', 'required'];

type Values = ReadonlyMap<Key, { readonly text: string; readonly field: FlagField }>;

/**
 * Reads a mount with its variables expanded.
 *
 * @param expand gives the text of a word, variables replaced; what it throws passes through
 * @returns the mount, or what is wrong with it
 */
export function readMount(mount: MountFlag, expand: (word: Word) => string): Result<Mount, FlagFault> {
  try {
    return ok(makeMount(readValues(mount, expand), mount));
  } catch (error) {
    if (error instanceof MountError) return err(error.fault);
    throw error;
  }
}

/** Ends the reading of a mount; never leaves this file. */
class MountError extends Error {
  readonly fault: FlagFault;

  constructor(message: string, range: SourceRange, hint?: string) {
    super(message);
    this.fault = { message, range, ...(hint === undefined ? {} : { hint }) };
  }
}

function readValues(mount: MountFlag, expand: (word: Word) => string): Values {
  const values = new Map<Key, { readonly text: string; readonly field: FlagField }>();
  let type = 'bind';
  for (const field of mount.fields) {
    const key = Object.hasOwn(KEYS, field.key) ? KEYS[field.key] : undefined;
    if (key === undefined) {
      const near = nearest(field.key, Object.keys(KEYS));
      throw new MountError(
        field.value === undefined
          ? `invalid field '${field.text}' must be a key=value pair`
          : `unexpected key '${field.key}' in '${field.text}'`,
        field.range,
        near === undefined ? 'write type=cache,target=/path, without blanks' : `did you mean ${near}?`,
      );
    }
    if (field.value === undefined && !ALONE.includes(key)) {
      throw new MountError(`invalid field '${field.text}' must be a key=value pair`, field.range);
    }
    if (key === 'readonly') values.delete('readwrite');
    if (key === 'readwrite') values.delete('readonly');
    const text = field.value === undefined ? 'true' : expand(field.value);
    if (key === 'type') type = text.toLowerCase();
    const takers = BEHIND_TYPE[key];
    if (takers !== undefined && !takers.includes(type)) {
      throw new MountError(
        `unexpected key '${field.key}' for mount type '${type}'`,
        field.range,
        `only ${takers.map((taker) => `type=${taker}`).join(' and ')} take${takers.length === 1 ? 's' : ''} it, and stand${takers.length === 1 ? 's' : ''} before it`,
      );
    }
    values.set(key, { text, field });
  }
  return values;
}

function makeMount(values: Values, mount: MountFlag): Mount {
  const type = oneOf(values, 'type', TYPES) ?? 'bind';
  const sharing = values.get('sharing');
  if (sharing !== undefined && type !== 'cache') {
    const hint = 'only type=cache is shared';
    throw new MountError(`invalid cache sharing set for ${type} mount`, sharing.field.range, hint);
  }
  for (const key of OF_OWNER) {
    const value = values.get(key);
    if (value === undefined || WITH_OWNER.includes(type)) continue;
    throw new MountError(`${key} not allowed for "${type}" type mounts`, value.field.range);
  }
  switch (type) {
    case 'bind':
      return { type, ...tree(values), ...target(values), readOnly: isReadOnly(values, true) };
    case 'cache': {
      const mode = oneOf(values, 'sharing', SHARINGS) ?? 'shared';
      const places = { ...named(values), ...tree(values), ...target(values) };
      return { type, ...places, sharing: mode, readOnly: isReadOnly(values, false), ...owner(values) };
    }
    case 'tmpfs':
      return { type, ...target(values), ...size(values), readOnly: isReadOnly(values, false) };
    case 'secret': {
      const env = variable(values);
      const details = { ...target(values), ...(env === undefined ? {} : { env }), ...owner(values) };
      return { type, id: secretId(values, mount), ...details, required: flag(values, 'required') ?? false };
    }
    case 'ssh': {
      const source = values.get('source');
      if (source !== undefined && source.text !== '') {
        throw new MountError('ssh does not support source', source.field.range);
      }
      return {
        type,
        ...named(values),
        ...target(values),
        ...owner(values),
        required: flag(values, 'required') ?? false,
      };
    }
    default:
      return unreachable(type);
  }
}

function secretId(values: Values, mount: MountFlag): string {
  const from = values.get('from');
  if (from !== undefined && from.text !== '') {
    throw new MountError('secret mount should not have a from', from.field.range);
  }
  const id = textOf(values, 'id');
  const source = textOf(values, 'source');
  if (id !== undefined && source !== undefined) {
    throw new MountError("both source and id can't be set", values.get('source')?.field.range ?? mount.range);
  }
  const base = textOf(values, 'target')
    ?.split('/')
    .findLast((part) => part !== '');
  const found = id ?? source ?? base;
  if (found !== undefined) return found;
  throw new MountError(
    'invalid secret mount: one of id, source, target required',
    mount.range,
    'write id=NAME',
  );
}

/** The name of the variable that gets a secret. */
function variable(values: Values): string | undefined {
  const env = values.get('env');
  if (env !== undefined && !/^[^=\0]+$/.test(env.text))
    throw new MountError('env needs the name of a variable', env.field.range);
  return env?.text;
}

/** A value that is not empty. */
function textOf(values: Values, key: Key): string | undefined {
  const text = values.get(key)?.text;
  return text === '' ? undefined : text;
}

function named(values: Values): { readonly id?: string } {
  const id = textOf(values, 'id');
  return id === undefined ? {} : { id };
}

function target(values: Values): { readonly target?: string } {
  const text = textOf(values, 'target');
  return text === undefined ? {} : { target: text };
}

function tree(values: Values): { readonly from?: Word; readonly source?: string } {
  const from = values.get('from');
  const source = textOf(values, 'source');
  return {
    ...(from === undefined || from.text === ''
      ? {}
      : { from: { text: from.text, range: rangeOf(from.field) } }),
    ...(source === undefined ? {} : { source }),
  };
}

function size(values: Values): { readonly sizeBytes?: number } {
  const value = values.get('size');
  if (value === undefined) return {};
  const sizeBytes = parseBytes(value.text);
  if (sizeBytes !== undefined) return { sizeBytes };
  throw new MountError(
    `invalid value for size: ${JSON.stringify(value.text)}`,
    rangeOf(value.field),
    'write bytes, or a number with a unit: size=64m',
  );
}

function owner(values: Values): MountOwner {
  const mode = whole(values, 'mode', 8);
  const uid = whole(values, 'uid', 10);
  const gid = whole(values, 'gid', 10);
  return {
    ...(mode === undefined ? {} : { mode }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  };
}

function whole(values: Values, key: 'mode' | 'uid' | 'gid', radix: 8 | 10): number | undefined {
  const value = values.get(key);
  if (value === undefined) return undefined;
  const number = (radix === 8 ? /^[0-7]+$/ : /^[0-9]+$/).test(value.text)
    ? Number.parseInt(value.text, radix)
    : undefined;
  if (number !== undefined && number < 2 ** 32) return number;
  throw new MountError(
    `invalid value ${JSON.stringify(value.text)} for ${key}`,
    rangeOf(value.field),
    key === 'mode' ? 'write octal digits: mode=0755' : `write a number: ${key}=1000`,
  );
}

function isReadOnly(values: Values, usual: boolean): boolean {
  const readWrite = flag(values, 'readwrite');
  return flag(values, 'readonly') ?? (readWrite === undefined ? usual : !readWrite);
}

function flag(values: Values, key: 'readonly' | 'readwrite' | 'required'): boolean | undefined {
  const value = values.get(key);
  if (value === undefined) return undefined;
  const truth = parseBoolean(value.text);
  if (truth !== undefined) return truth;
  throw new MountError(
    `invalid value for ${value.field.key}: ${value.text}`,
    rangeOf(value.field),
    'write true or false',
  );
}

function oneOf<T extends string>(
  values: Values,
  key: 'type' | 'sharing',
  known: readonly T[],
): T | undefined {
  const value = values.get(key);
  if (value === undefined) return undefined;
  const found = known.find((word) => word === value.text.toLowerCase());
  if (found !== undefined) return found;
  const near = nearest(value.text, known);
  throw new MountError(
    `unsupported ${key === 'type' ? 'mount type' : 'sharing value'} ${JSON.stringify(value.text)}`,
    rangeOf(value.field),
    near === undefined ? `known: ${known.join(', ')}` : `did you mean ${near}?`,
  );
}

function rangeOf(field: FlagField): SourceRange {
  return field.value?.range ?? field.range;
}

/** As Go's `strconv.ParseBool`; undefined where the text is neither. */
export function parseBoolean(text: string): boolean | undefined {
  if (/^(?:1|t|T|TRUE|true|True)$/.test(text)) return true;
  return /^(?:0|f|F|FALSE|false|False)$/.test(text) ? false : undefined;
}

const UNITS = 'bkmgtp';

/** Bytes, or a number with a unit of powers of 1024: `64m`, `1.5g`, `1GiB`; undefined where the text is none. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d*)?|\.\d+) ?(?:([kmgtp])i?)?b?$/i.exec(text);
  if (match === null) return undefined;
  const bytes = Math.trunc(Number(match[1]) * 1024 ** UNITS.indexOf((match[2] ?? 'b').toLowerCase()));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
