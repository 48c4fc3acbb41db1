import { stop } from './stop.ts';

/** SOURCE_DATE_EPOCH (reproducible-builds.org), in seconds. */
export function readEpoch(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,12}$/.test(text)) return Number(text);
  stop('invalid-epoch', `invalid SOURCE_DATE_EPOCH: ${JSON.stringify(text)}`, {
    hint: 'Give seconds since 1970, such as 1700000000.',
  });
}
