import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { expandWord } from './index.ts';

const hasBash = spawnSync('bash', ['-c', 'true']).status === 0;

/** Characters that mean the same in a shell's pattern, in BuildKit's, and in a word. */
const text = (units: string) => fc.string({ unit: fc.constantFrom(...units), maxLength: 6 });
const pattern = text('ab.é🐳**?').filter((one) => one !== '');
const word = fc.oneof(text('ab. é'), fc.constantFrom('${u}', '${u:-x}', 'a${u#a}', '$u'));

/** A substitution of `v` that POSIX or bash has, too. */
const substitution = fc.oneof(
  fc.constantFrom('$v', '${v}', 'x${v}y$v'),
  fc.tuple(fc.constantFrom(':-', '-', ':+', '+', ':?', '?'), word).map(([op, one]) => `\${v${op}${one}}`),
  fc.tuple(fc.constantFrom('#', '##', '%', '%%'), pattern).map(([op, one]) => `\${v${op}${one}}`),
  fc.tuple(fc.constantFrom('/', '//'), pattern, word).map(([op, one, by]) => `\${v${op}${one}/${by}}`),
);

/** In a value that is empty bash replaces nothing, BuildKit what a pattern of stars fits. */
const apart = ({ substitution: one, v = '' }: Case): boolean => one.startsWith('${v/') && v === '';

const variable = fc.option(text('aab.é🐳'), { nil: undefined });
const cases = fc.record({ substitution, u: variable, v: variable });
type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

/** What bash makes of each; undefined where it ends with an error (`${v?message}`). */
function byBash(all: readonly Case[]): readonly (string | undefined)[] {
  const script = all.map(({ substitution: one, u, v }) => {
    const set = [u === undefined ? 'unset u' : `u='${u}'`, v === undefined ? 'unset v' : `v='${v}'`];
    return `(${set.join('; ')}; printf 'ok%s\\0' "${one}") 2>/dev/null || printf 'failed\\0'`;
  });
  const env = { ...process.env, LC_ALL: 'C.UTF-8' };
  const { stdout, stderr } = spawnSync('bash', ['-s'], { input: script.join('\n'), env, encoding: 'utf8' });
  const answers = stdout.split('\0').slice(0, -1);
  if (answers.length !== all.length) throw new Error(`bash stopped: ${stderr}`);
  return answers.map((answer) => (answer.startsWith('ok') ? answer.slice(2) : undefined));
}

test.skipIf(!hasBash)('expandWord gives what bash gives, for what both know', () => {
  const all = fc.sample(
    cases.filter((one) => !apart(one)),
    { numRuns: 500, seed: Number(process.env['VARVE_SEED'] ?? 20_260_101) },
  );
  const answers = byBash(all);
  for (const [index, one] of all.entries()) {
    const values: Readonly<Record<string, string | undefined>> = { u: one.u, v: one.v };
    const result = expandWord(`"${one.substitution}"`, { escape: '\\', lookup: (name) => values[name] });
    expect({ ...one, result: result.ok ? result.value.text : undefined }).toEqual({
      ...one,
      result: answers[index],
    });
  }
});
