import {
  type ArgInstruction,
  type Dockerfile,
  type FromInstruction,
  heredocsIn,
  type Instruction,
} from '../../parser/index.ts';
import { descriptionComments } from './descriptions.ts';
import type { Linter } from './linter.ts';
import { RULES } from './rules.ts';

type Written = FromInstruction | Instruction;

/** The checks that see nothing but the text: how things are written, in all stages. */
export function checkSyntax(dockerfile: Dockerfile, linter: Linter): void {
  const { globalArgs, stages } = dockerfile;
  const inStages = stages.flatMap(({ from, instructions }) => [from, ...instructions]);
  for (const instruction of [...globalArgs, ...inStages]) {
    checkContinuation(instruction, linter);
    if (instruction.kind === 'FROM') checkFromCasing(instruction, linter);
    if (instruction.kind === 'FROM' || instruction.kind === 'ARG') checkDescription(instruction, linter);
    if (instruction.kind === 'MAINTAINER') {
      const { text } = instruction.word;
      linter.report(RULES.maintainerDeprecated, instruction, {
        message: 'Maintainer instruction is deprecated in favor of using label',
        hint: `write LABEL org.opencontainers.image.authors=${JSON.stringify(text)}`,
      });
    }
  }
}

/** The checks that compare the stages of a whole Dockerfile: their names, and the case of all keywords. */
export function checkStages(dockerfile: Dockerfile, linter: Linter): void {
  const names = new Set<string>();
  for (const { from } of dockerfile.stages) {
    const name = from.as?.text.toLowerCase();
    if (name === undefined) continue;
    if (name === 'scratch' || name === 'context') {
      linter.report(RULES.reservedStageName, from, {
        message: `Stage name should not use the same name as reserved stage ${JSON.stringify(name)}`,
      });
    }
    if (names.has(name)) {
      linter.report(RULES.duplicateStageName, from, {
        message: `Duplicate stage name ${JSON.stringify(name)}, stage names should be unique`,
      });
    }
    names.add(name);
  }
  checkKeywordCasing(dockerfile, linter);
}

/** Blamed is the last line of the instruction before its heredocs. */
function checkContinuation(instruction: Written, linter: Linter): void {
  const { emptyContinuationRange: empty, comments, range } = instruction;
  if (empty === undefined) return;
  const [heredoc] = heredocsIn(instruction);
  const end = heredoc === undefined ? range.end : heredoc.bodyRange.start;
  const line = Math.max(heredoc === undefined ? end.line : end.line - 1, empty.end.line);
  const start = { line, column: 1, offset: end.offset - (end.column - 1) };
  linter.report(
    RULES.noEmptyContinuation,
    { range: { start, end: start }, comments },
    { message: 'Empty continuation line', hint: `remove line ${empty.start.line}, or start it with #` },
  );
}

function checkFromCasing(from: FromInstruction, linter: Linter): void {
  if (from.as === undefined) return;
  const { text: name } = from.as;
  if (name !== name.toLowerCase()) {
    linter.report(RULES.stageNameCasing, from, {
      message: `Stage name '${name}' should be lowercase`,
      hint: `write ${name.toLowerCase()}`,
    });
  }
  const keyword = from.keyword.text;
  const as = from.asKeyword?.text ?? '';
  const isLower = keyword === keyword.toLowerCase();
  if (!isLower && keyword !== keyword.toUpperCase()) return;
  const right = isLower ? as.toLowerCase() : as.toUpperCase();
  if (as === right) return;
  linter.report(RULES.fromAsCasing, from, {
    message: `'${as}' and '${keyword}' keywords' casing do not match`,
    hint: `write ${right}`,
  });
}

function checkDescription(instruction: FromInstruction | ArgInstruction, linter: Linter): void {
  const last = descriptionComments(instruction).at(-1);
  if (last === undefined) return;
  const names =
    instruction.kind === 'ARG'
      ? instruction.args.map(({ name }) => name.text)
      : instruction.as === undefined
        ? []
        : [instruction.as.text.toLowerCase()];
  const [first] = names;
  if (first === undefined || names.includes(last.split(' ')[0] ?? '')) return;
  const example = names.length > 1 ? '<arg_key>' : first;
  linter.report(RULES.invalidDefinitionDescription, instruction, {
    message: `Comment for ${instruction.kind} should follow the format: \`# ${example} <description>\``,
  });
}

function checkKeywordCasing({ stages }: Dockerfile, linter: Linter): void {
  const instructions = stages.flatMap(({ from, instructions: rest }) => [from, ...rest]);
  const keywords = instructions.map((instruction) => instruction.keyword.text);
  const lower = keywords.filter((keyword) => keyword === keyword.toLowerCase()).length;
  const upper = keywords.filter((keyword) => keyword === keyword.toUpperCase()).length;
  const majority = lower > upper ? 'lowercase' : 'uppercase';
  for (const instruction of instructions) {
    const keyword = instruction.keyword.text;
    const right = majority === 'lowercase' ? keyword.toLowerCase() : keyword.toUpperCase();
    if (keyword === right) continue;
    linter.report(RULES.consistentInstructionCasing, instruction, {
      message: `Command '${keyword}' should match the case of the command majority (${majority})`,
      hint: `write ${right}`,
    });
  }
}
