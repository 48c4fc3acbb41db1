const NANOSECONDS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  '\u00b5s': 1e3,
  '\u03bcs': 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

const DURATION = /^[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+$/;
const PART = /(\d+(?:\.\d*)?|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g;

/** Go keeps durations in 64 bits. */
const MAX_NANOSECONDS = 2 ** 63;

/**
 * Reads a duration as Go's `time.ParseDuration` does: `300ms`, `1m30s`, `1.5h`, `0`.
 *
 * @returns nanoseconds (what an image's healthcheck holds), or undefined where the text is no duration, or one of 292 years
 */
export function parseDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0;
  if (!DURATION.test(text)) return undefined;
  let total = 0;
  for (const [, amount = '0', unit = 's'] of text.matchAll(PART)) {
    total += Number(amount) * (NANOSECONDS[unit] ?? 0);
  }
  const rounded = Math.trunc(total);
  if (rounded >= MAX_NANOSECONDS) return undefined;
  return text.startsWith('-') ? -rounded : rounded;
}
