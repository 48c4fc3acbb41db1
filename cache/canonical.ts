import { type Digest, digestOf, type StepKey } from '../core/index.ts';
import type { Action, Canonical, ObservedQuery, StepQuery } from './contract.ts';

/** Raised when the fields of {@link keyPreimage} change their meaning: every older key then misses. */
export const KEY_VERSION = 1;

/** Raised when the fields of {@link observedPreimage}, or the facts of observations, change their meaning. */
export const OBSERVED_VERSION = 1;

/**
 * The one text that stands for `value`: JSON without spaces, keys sorted by UTF-16 code unit, lone surrogates as `\udXXX`
 * escapes, so the text is well-formed and its UTF-8 form is as unambiguous as itself. Keys whose value is
 * `undefined` are left out. Different values never have the same text; equal values always have.
 *
 * @throws Error for what has no canonical form: numbers other than safe integers, `undefined` in an array, objects other
 * than plain records and arrays.
 */
export function encodeCanonical(value: Canonical): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new Error(`no canonical form: ${value} is no safe integer`);
    return JSON.stringify(value);
  }
  if (typeof value !== 'object') throw new Error(`no canonical form: a value of type ${typeof value}`);
  if (isList(value)) return `[${Array.from(value, encodeCanonical).join(',')}]`;
  return encodeObject(value);
}

function isList(value: readonly Canonical[] | object): value is readonly Canonical[] {
  return Array.isArray(value);
}

function encodeObject(value: { readonly [key: string]: Canonical | undefined }): string {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new Error('no canonical form: an object that is no plain record');
  }
  const members: string[] = [];
  // The default order of `sort` is by UTF-16 code unit, in every locale.
  for (const key of Object.keys(value).sort()) {
    const member = value[key];
    if (member !== undefined) members.push(`${JSON.stringify(key)}:${encodeCanonical(member)}`);
  }
  return `{${members.join(',')}}`;
}

/**
 * The canonical text that a step's key is the digest of; docs/cache-keys.md tells why each field is in. The query's slot
 * is not part of it, and of each input only its name and digest are: the digest stands for all facts.
 */
export function keyPreimage(query: StepQuery): string {
  return encodeCanonical({
    version: KEY_VERSION,
    action: actionStruct(query.action),
    parent: query.parent ?? null,
    inputs: query.inputs.map(({ name, digest }) => ({ name, digest })),
  });
}

/** The key under which the result of `query` is kept: SHA-256 of {@link keyPreimage}. */
export function stepKey(query: StepQuery): StepKey {
  return keyOf(keyPreimage(query));
}

/** The key of a preimage that {@link keyPreimage} made. */
export function keyOf(preimage: string): StepKey {
  return digestOf(preimage) as string as StepKey;
}

/**
 * The canonical text whose digest says which path sets a query is compared by: a step's key without the parent, whose observed paths
 * take its place.
 */
export function observedPreimage(query: Pick<ObservedQuery, 'action' | 'inputs'>): string {
  return encodeCanonical({
    version: OBSERVED_VERSION,
    action: actionStruct(query.action),
    inputs: query.inputs.map(({ name, digest }) => ({ name, digest })),
  });
}

/** SHA-256 of {@link observedPreimage}. */
export function observedKey(query: Pick<ObservedQuery, 'action' | 'inputs'>): Digest {
  return digestOf(observedPreimage(query));
}

/** Names an action whatever its parent and inputs are: SHA-256 of its canonical struct. */
export function actionDigest(action: Action): Digest {
  return digestOf(encodeCanonical(actionStruct(action)));
}

function actionStruct(action: Action): { readonly [key: string]: Canonical } {
  return { version: action.version, kind: action.kind, definition: action.definition };
}
