import { err, type ImagePath, imagePath, ok, parentPath, type Result } from '../core/index.ts';
import { compileIgnorePattern, hasWildcard, unescapePattern } from './go-match.ts';

/** The rules of a `.dockerignore` file: https://docs.docker.com/build/concepts/context/#dockerignore-files. */
export interface IgnoreRules {
  /** Is `path` left out of the context? The last rule that fits the path, or a folder above it, decides. */
  ignores(path: ImagePath): boolean;
  /** May something below the ignored folder `path` be let in again by a later `!` rule? False is certain. */
  mayReinclude(path: ImagePath): boolean;
  /** Is there a rule that lets something in again (`!`)? */
  readonly hasExceptions: boolean;
}

interface Rule {
  readonly pattern: RegExp;
  readonly negated: boolean;
  /** The pattern's parts up to the first with a wildcard. */
  readonly fixedParts: readonly string[];
  /** Has the pattern further parts behind the fixed ones? */
  readonly open: boolean;
}

export const NO_IGNORE_RULES: IgnoreRules = {
  ignores: () => false,
  mayReinclude: () => false,
  hasExceptions: false,
};

/** @returns the rules, or a message that names the line which is no valid pattern. */
export function parseIgnoreFile(text: string): Result<IgnoreRules, string> {
  const rules: Rule[] = [];
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (line.startsWith('#')) continue;
    const trimmed = line.trim();
    if (trimmed === '') continue;
    const rule = readPattern(trimmed);
    if (!rule.ok) return err(`line ${index + 1}: ${rule.error}`);
    if (rule.value !== undefined) rules.push(rule.value);
  }
  return ok(rules.length === 0 ? NO_IGNORE_RULES : rulesOf(rules));
}

/**
 * Rules of patterns that stand by themselves, as in `--exclude`: there are no comments, and blanks around a pattern do not count.
 *
 * @returns the rules, or a message that names the pattern which is no valid one.
 */
export function ignoreRulesOf(patterns: readonly string[]): Result<IgnoreRules, string> {
  const rules: Rule[] = [];
  for (const pattern of patterns) {
    if (pattern.trim() === '') continue;
    const rule = readPattern(pattern.trim());
    if (!rule.ok) return rule;
    if (rule.value !== undefined) rules.push(rule.value);
  }
  return ok(rulesOf(rules));
}

/** A pattern with the `!` that it may begin with. */
function readPattern(trimmed: string): Result<Rule | undefined, string> {
  const negated = trimmed.startsWith('!');
  const body = negated ? trimmed.slice(1).trim() : trimmed;
  if (body === '') return err('illegal exclusion pattern: "!"');
  const rule = readRule(body, negated);
  return rule.ok ? rule : err(`${JSON.stringify(trimmed)}: ${rule.error}`);
}

/**
 * @returns undefined for a pattern that fits nothing: the context's root (`.`, `/`), which Docker's documentation says is
 * ignored "for historical reasons", and what lies outside of it (`../x`).
 */
function readRule(body: string, negated: boolean): Result<Rule | undefined, string> {
  const cleaned = imagePath(body);
  const compiled = compileIgnorePattern(cleaned);
  if (!compiled.ok) return compiled;
  if (cleaned === '' || climbsOut(body)) return ok(undefined);
  const parts = cleaned.split('/');
  const firstWild = parts.findIndex(hasWildcard);
  const fixedParts = (firstWild === -1 ? parts : parts.slice(0, firstWild)).map(unescapePattern);
  return ok({ pattern: compiled.value, negated, fixedParts, open: firstWild !== -1 });
}

/** Does a relative pattern have more `..` than folders to leave? An absolute one stops at the root. */
function climbsOut(pattern: string): boolean {
  if (pattern.startsWith('/')) return false;
  let depth = 0;
  for (const part of pattern.split('/')) {
    if (part === '..') depth -= 1;
    else if (part !== '' && part !== '.') depth += 1;
    if (depth < 0) return true;
  }
  return false;
}

function rulesOf(rules: readonly Rule[]): IgnoreRules {
  const reincluding = rules.filter((rule) => rule.negated);
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
    hasExceptions: reincluding.length > 0,
    mayReinclude: (path) => reincluding.some((rule) => mayFitBelow(rule, path)),
  };
}

function mayFitBelow(rule: Rule, folder: ImagePath): boolean {
  const folders = folder.split('/');
  const common = Math.min(folders.length, rule.fixedParts.length);
  for (let at = 0; at < common; at += 1) if (folders[at] !== rule.fixedParts[at]) return false;
  return rule.open || rule.fixedParts.length > folders.length;
}

function selfAndParents(path: ImagePath): readonly ImagePath[] {
  const paths: ImagePath[] = [];
  for (let at = path; at !== ''; at = parentPath(at)) paths.push(at);
  return paths;
}
