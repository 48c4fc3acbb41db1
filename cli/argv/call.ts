import { UsageError } from '../../core/index.ts';
import type { CallKind } from '../engine-contract.ts';
import { splitFields, splitPair } from './csv.ts';
import { nearest } from './nearest.ts';

/** What `--call` asks for, and how the answer is written. */
export interface Call {
  readonly kind: CallKind;
  readonly format: 'text' | 'json';
  /** The exit code does not tell of warnings. */
  readonly ignoreStatus: boolean;
}

const KINDS: Readonly<Record<string, CallKind | 'build'>> = {
  build: 'build',
  check: 'check',
  lint: 'check',
  outline: 'outline',
  targets: 'targets',
};

/**
 * `--call=method[,format=json][,ignorestatus=true]`, as buildx reads it; `--check` comes before it.
 *
 * @returns undefined where a build is asked for
 * @throws UsageError
 */
export function callOf(flags: {
  readonly call?: string | undefined;
  readonly check: boolean;
}): Call | undefined {
  const text = flags.call ?? 'build';
  let method = '';
  let format: Call['format'] = 'text';
  let ignoreStatus = false;
  for (const field of splitFields(text, '--call')) {
    const [key, value] = splitPair(field.trim());
    if (value === undefined) {
      if (method !== '') throw invalid(text, 'there are two methods');
      method = key;
    } else if (key === 'format') {
      if (value !== 'json' && value !== 'text')
        throw invalid(text, `the format ${JSON.stringify(value)} is unknown`);
      format = value;
    } else if (key === 'ignorestatus') {
      if (value !== 'true' && value !== 'false') throw invalid(text, 'ignorestatus is true or false');
      ignoreStatus = value === 'true';
    } else throw invalid(text, `${JSON.stringify(key)} is unknown`);
  }
  const kind = flags.check ? 'check' : Object.hasOwn(KINDS, method) ? KINDS[method] : undefined;
  if (kind === undefined) {
    const guess = nearest(method, Object.keys(KINDS));
    throw new UsageError(
      `invalid value ${JSON.stringify(text)} for --call: use build, check, outline or targets`,
      guess === undefined ? undefined : `Did you mean ${guess}?`,
    );
  }
  return kind === 'build' ? undefined : { kind, format, ignoreStatus };
}

function invalid(text: string, problem: string): UsageError {
  return new UsageError(
    `invalid value ${JSON.stringify(text)} for --call: ${problem}`,
    'Write check, outline or targets, and behind it ,format=json for JSON.',
  );
}
