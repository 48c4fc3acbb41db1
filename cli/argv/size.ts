import { UsageError } from '../../core/index.ts';

const FACTOR: Readonly<Record<string, number>> = {
  '': 1,
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
  p: 2 ** 50,
};

/**
 * Bytes of `512m`, `1g`, `1.5GiB`, `64kb`, `100`: powers of 1024, as Docker reads memory (docker/go-units, RAMInBytes).
 * `-1` is kept, since `--memory-swap` uses it.
 *
 * @throws UsageError that names `what` (a flag, a key) where `text` is no size.
 */
export function parseSize(text: string, what: string): number {
  if (text === '-1') return -1;
  const match = /^([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?$/i.exec(text);
  const factor = match === null ? undefined : FACTOR[(match[2] ?? '').toLowerCase()];
  const bytes = Math.trunc(Number(match?.[1]) * (factor ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) {
    throw new UsageError(
      `invalid size ${JSON.stringify(text)} for ${what}: write 512m, 1g or a number of bytes`,
    );
  }
  return bytes;
}
