// `npm run table [-- PROGRAM|all [EDIT|all]]`: what each small program's step comes to after each edit of the sample tree.
import { EDITS } from '../fixtures/observed/edits.ts';
import { PROGRAMS } from '../fixtures/observed/programs.ts';
import { describeWrong, isNotTaken, Table } from '../fixtures/observed/table.ts';
import { temporaryFolder } from '../fixtures/temporary.ts';

const [programs = 'all', edits = 'all'] = process.argv.slice(2);

function chosen<T extends { readonly name: string }>(items: readonly T[], names: string): readonly T[] {
  const wanted = names.split(',');
  const found = items.filter(({ name }) => names === 'all' || wanted.includes(name));
  if (found.length === 0) throw new Error(`none of ${items.map(({ name }) => name).join(' ')}`);
  return found;
}

await using folder = await temporaryFolder('varve-table');
const table = new Table({
  programs: chosen(PROGRAMS, programs),
  edits: chosen(EDITS, edits),
  folder: folder.path,
  onProgress: (line) => console.log(line),
});
await table.prepare();
const cells = await table.run();
const wrong = cells.filter((cell) => cell.wrong !== undefined);
const notTaken = cells.filter(isNotTaken);
const possible = cells.filter(({ couldHit }) => couldHit);
console.log('\nhits that were possible and not taken:');
for (const { program, edit, reason, observed } of notTaken) {
  console.log(`  ${program.name} after ${edit.name}: ${reason}; looks at ${observed.length} paths`);
}
for (const cell of wrong) console.log(`\n${describeWrong(cell)}`);
console.log(
  `\n${cells.length} cells, ${wrong.length} wrong, ${notTaken.length} of ${possible.length} possible hits not taken`,
);
process.exitCode = wrong.length > 0 ? 1 : 0;
