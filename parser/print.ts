import type { Dockerfile, FromInstruction, Heredoc, Instruction } from './ast.ts';

/**
 * Writes a Dockerfile so that reading the text gives the same tree, but for ranges. Instructions stand as in `source`, on
 * one line each, with the comments that belong to them above and their heredocs below; other comments are gone.
 */
export function print(dockerfile: Dockerfile): string {
  const { directives, globalArgs, stages } = dockerfile;
  const lines: string[] = [];
  if (directives.syntax !== undefined) lines.push(`# syntax=${directives.syntax.value}`);
  if (directives.escape !== '\\') lines.push(`# escape=${directives.escape}`);
  if (directives.check !== undefined) lines.push(`# check=${directives.check.value}`);
  for (const instruction of globalArgs) lines.push(...instructionLines(instruction, directives.escape));
  for (const { from, instructions } of stages) {
    if (lines.length > 0) lines.push('');
    for (const instruction of [from, ...instructions]) {
      lines.push(...instructionLines(instruction, directives.escape));
    }
  }
  return lines.map((line) => `${line}\n`).join('');
}

function instructionLines(
  instruction: FromInstruction | Instruction,
  escapeCharacter: string,
): readonly string[] {
  const lines: string[] = [];
  // The empty line keeps a comment from being read as a directive, or with comments further up.
  if (instruction.comments.length > 0) lines.push('');
  for (const comment of instruction.comments) lines.push(`# ${comment.text}`);
  // A form feed is trimmed as a blank, but hides an escape character that would continue the line.
  const { source } = instruction;
  lines.push(source.endsWith(escapeCharacter) ? `${source}\f` : source);
  for (const heredoc of heredocsIn(instruction))
    lines.push((heredoc.unchomped ?? heredoc.body) + heredoc.name);
  return lines;
}

/** The heredocs of an instruction, in the order of their bodies. */
export function heredocsIn(instruction: FromInstruction | Instruction): readonly Heredoc[] {
  switch (instruction.kind) {
    case 'RUN':
      return instruction.command.form === 'shell' ? instruction.command.heredocs : [];
    case 'COPY':
    case 'ADD':
      return instruction.sources.flatMap((source) => (source.kind === 'heredoc' ? [source.heredoc] : []));
    case 'ONBUILD':
      return instruction.heredocs;
    default:
      return [];
  }
}
