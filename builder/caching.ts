import { type Diagnostic, parseAge, type StepCaching } from '../core/index.ts';
import type { Dockerfile, Instruction } from '../parser/index.ts';
import { compileNoise } from './noise.ts';
import { stop } from './stop.ts';

const PREFIX = /^varve:\s*/;

/**
 * What the comments right above an instruction say of its caching: `# varve: cache=exact|observed|never`, `ttl=AGE`,
 * `noise=PATH`, several in one comment or in several, the last one of a kind valid (all of `noise`). Other builders see
 * comments. Ends the build at a word that is none of these: a rule that silently does not hold would be worse.
 */
export function readCachingComments(
  instruction: Pick<Instruction, 'comments'>,
  usual: StepCaching,
): StepCaching | 'never' {
  let caching = usual;
  let never = false;
  for (const { text: comment, range } of instruction.comments) {
    if (!PREFIX.test(comment)) continue;
    for (const word of comment
      .replace(PREFIX, '')
      .split(/[\s]+/)
      .filter((part) => part !== '')) {
      const equals = word.indexOf('=');
      const [name, value] = equals === -1 ? [word, ''] : [word.slice(0, equals), word.slice(equals + 1)];
      const refuse = (hint: string): never =>
        stop('bad-varve-comment', `unknown rule in "# ${comment}": ${word}`, {
          range,
          hint,
        });
      if (name === 'cache') {
        never = value === 'never';
        if (value === 'exact' || value === 'observed') caching = { ...caching, mode: value };
        else if (!never) refuse('Write cache=observed, cache=exact or cache=never.');
      } else if (name === 'ttl') {
        caching = { ...caching, ttlMs: parseAge(value) ?? refuse('Write an age such as ttl=12h or ttl=7d.') };
      } else if (name === 'noise') {
        if (compileNoise(value) === undefined)
          refuse('Write an absolute path in the image, such as noise=/var/log/*.log.');
        caching = { ...caching, noise: [...caching.noise, value] };
      } else refuse('Known rules: cache=observed|exact|never, ttl=AGE, noise=PATH.');
    }
  }
  return never ? 'never' : caching;
}

const STEP_KINDS: ReadonlySet<string> = new Set(['RUN', 'COPY', 'ADD', 'WORKDIR']);

/** A warning for each rule for varve that stands above an instruction that is no step, where it means nothing. */
export function uselessRules(dockerfile: Dockerfile): readonly Diagnostic[] {
  const instructions = dockerfile.stages.flatMap((stage) => [stage.from, ...stage.instructions]);
  return instructions.flatMap(({ kind, comments, range }) => {
    if (STEP_KINDS.has(kind) || !comments.some((comment) => PREFIX.test(comment.text))) return [];
    return [
      {
        severity: 'warning',
        code: 'useless-varve-comment',
        message: `the rule for varve above this ${kind} has no effect`,
        range,
        hint: 'Rules stand right above RUN, COPY, ADD or WORKDIR; for an ONBUILD trigger there are none.',
      },
    ];
  });
}
