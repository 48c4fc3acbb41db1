// `npm run faults [-- --seed N] [KIND=COUNT ...]`: builds are killed, run out of disk, lose their power, crowd one store, have it evicted or find it
// damaged, their clock jumps or their registry misbehaves, as seeds choose. Ends with 1 where anything failed.
import { parseArgs } from 'node:util';
import { startGround } from '../fixtures/faults/ground.ts';
import { TRIALS } from '../fixtures/faults/trials.ts';

const DEFAULTS = [
  'kill=100',
  'power=50',
  'disk=20',
  'crowd=4',
  'eviction=4',
  'damage=60',
  'clock=10',
  'registry=20',
];

const { values, positionals } = parseArgs({
  options: { seed: { type: 'string', default: String(Date.now() % 1_000_000) } },
  allowPositionals: true,
});
const first = Number(values.seed);

await using ground = await startGround();
let failed = 0;
for (const text of positionals.length > 0 ? positionals : DEFAULTS) {
  const [kind = '', count = '1'] = text.split('=');
  const trial = TRIALS[kind];
  if (trial === undefined)
    throw new Error(`no such fault: ${kind}; there are ${Object.keys(TRIALS).join(', ')}`);
  for (let seed = first; seed < first + Number(count); seed += 1) {
    try {
      console.log(`${kind} ${seed}: ${await trial(ground, seed)}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED, again with \`npm run faults -- --seed ${seed} ${kind}\`: ${error}`);
    }
  }
}
console.log(failed === 0 ? 'all well' : `${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
