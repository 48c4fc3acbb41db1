import type { ImagePath, Observation, TraceReport } from '../core/index.ts';
import { WireReader } from './native-wire.ts';

/**
 * What follows the tag of a record of `runner/native/trace_record.h`: `O`, what was looked at, in the order of the first look; `U`, why
 * nothing is known of it.
 */
export function readTrace(tag: 'O' | 'U', reader: WireReader): TraceReport {
  if (tag === 'U') return { kind: 'untraced', reason: reader.bytes().toString() };
  const body = new WireReader(reader.bytes());
  const programs = Array.from({ length: body.u32() }, () => body.path());
  const observations = Array.from({ length: body.u32() }, (): Observation => {
    const path = body.path() as ImagePath;
    const uses = body.u8();
    const by = programs[body.u16() - 1];
    return by === undefined ? { path, uses } : { path, uses, by };
  });
  return { kind: 'traced', observations };
}
