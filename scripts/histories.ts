// `npm run histories [-- --count N] [--seed N] [--path PATH] [--times] [--as-is]`: plays random histories, by default 1,000, and compares what the cache
// gives with builds from nothing. A failure is printed as small as it gets, with the seed and path that bring it back.
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { HistoryPlayer } from '../fixtures/observed/histories.ts';
import { history } from '../fixtures/observed/history-model.ts';
import { temporaryFolder } from '../fixtures/temporary.ts';

/** Which histories have commands that show times of files: every third. */
const TIMES_SHARE = 3;

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    path: { type: 'string' },
    times: { type: 'boolean' },
    'as-is': { type: 'boolean' },
  },
});
const count = Number(values.count);
const seed = Number(values.seed);

await using folder = await temporaryFolder('varve-histories');
const player = new HistoryPlayer(folder.path);
await player.prepare();

async function play(withTimes: boolean, numRuns: number): Promise<void> {
  console.log(`${numRuns} histories ${withTimes ? 'with' : 'without'} times, seed ${seed}`);
  let played = 0;
  let failed = false;
  const property = fc.asyncProperty(history(withTimes), async (drawn) => {
    try {
      await player.play(drawn, { withTimes });
    } catch (error) {
      // Making it smaller takes its time: the first failure is told as it is.
      if (!failed) console.log(`failed, and made smaller now:\n${error}`);
      failed = true;
      throw error;
    }
    played += 1;
    if (played % 50 === 0) console.log(`  ${played}: ${JSON.stringify(player.tally)}`);
  });
  const again = values.path === undefined ? {} : { path: values.path };
  await fc.assert(property, { numRuns, seed, endOnFailure: values['as-is'] === true, ...again });
}

if (values.path !== undefined) await play(values.times === true, 1);
else {
  const timed = Math.floor(count / TIMES_SHARE);
  await play(false, count - timed);
  await play(true, timed);
}
console.log(`no wrong image: ${JSON.stringify(player.tally)}`);
