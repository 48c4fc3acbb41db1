import { err, type ImagePath, imagePath, ok, parentPath, type Result } from '../core/index.ts';
import { compileIgnorePattern } from './go-match.ts';

/** The rules of a `.dockerignore` file: https://docs.docker.com/build/concepts/context/#dockerignore-files. */
export interface IgnoreRules {
  /** Is `path` left out of the context? The last rule that fits the path, or a folder above it, decides. */
  ignores(path: ImagePath): boolean;
  /** May something below the ignored folder `path` be let in again by a later `!` rule? */
  mayReinclude(path: ImagePath): boolean;
}

interface Rule {
  readonly pattern: RegExp;
  readonly negated: boolean;
}

export const NO_IGNORE_RULES: IgnoreRules = { ignores: () => false, mayReinclude: () => false };

/** @returns the rules, or a message that names the line which is no valid pattern. */
export function parseIgnoreFile(text: string): Result<IgnoreRules, string> {
  const rules: Rule[] = [];
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('#')) continue;
    const trimmed = line.trim();
    if (trimmed === '') continue;
    const negated = trimmed.startsWith('!');
    const body = negated ? trimmed.slice(1).trim() : trimmed;
    if (body === '') return err(`line ${index + 1}: illegal exclusion pattern: "!"`);
    const pattern = compileIgnorePattern(imagePath(body));
    if (!pattern.ok) return err(`line ${index + 1}: ${JSON.stringify(trimmed)}: ${pattern.error}`);
    if (imagePath(body) === '' && !negated && body !== '/') rules.push({ pattern: /^.+$/s, negated });
    else rules.push({ pattern: pattern.value, negated });
  }
  return ok(rules.length === 0 ? NO_IGNORE_RULES : rulesOf(rules));
}

function rulesOf(rules: readonly Rule[]): IgnoreRules {
  const reincludes = rules.some((rule) => rule.negated);
  return {
    ignores(path) {
      const paths = selfAndParents(path);
      let ignored = false;
      for (const rule of rules) {
        if (rule.negated === ignored && paths.some((candidate) => rule.pattern.test(candidate)))
          ignored = !rule.negated;
      }
      return ignored;
    },
    mayReinclude: () => reincludes,
  };
}

function selfAndParents(path: ImagePath): readonly ImagePath[] {
  const paths: ImagePath[] = [];
  for (let at = path; at !== ''; at = parentPath(at)) paths.push(at);
  return paths;
}
