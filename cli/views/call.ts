import { type Outline, type OutlineMount, ruleNamed, type Target } from '../../builder/index.ts';
import { type Diagnostic, encodePath, type SourceRange } from '../../core/index.ts';
import type { CallAnswer } from '../engine-contract.ts';
import { safeLine, safeText } from '../progress/text.ts';

type Source = CallAnswer['dockerfile'];

/** An answer as buildx prints it, for people. */
export function callText(answer: CallAnswer): string {
  switch (answer.kind) {
    case 'check':
      return checkText(answer);
    case 'outline':
      return outlineText(answer.outline);
    case 'targets':
      return targetsText(answer.targets);
  }
}

/** An answer in the shape of BuildKit's `result.json`, with two blanks of indent; a list without members is `[]` or absent. */
export function callJson(answer: CallAnswer): string {
  return `${JSON.stringify(shapeOf(answer), undefined, 2)}\n`;
}

/** What an answer's failure says after the warnings: a message and the lines that it is about. */
export function callFailure({ dockerfile, failure }: Extract<CallAnswer, { kind: 'check' }>): string {
  if (failure === undefined) return '';
  const { range } = failure;
  return `${failureMessage(failure)}\n${range === undefined ? '' : excerpt(dockerfile, range)}`;
}

function checkText({ warnings, failure, dockerfile }: Extract<CallAnswer, { kind: 'check' }>): string {
  if (warnings.length === 0) return failure === undefined ? 'Check complete, no warnings found.\n' : '';
  const count = warnings.length === 1 ? '1 warning has' : `${warnings.length} warnings have`;
  const told = warnings.map(({ code, url, message, range }) => {
    const page = url === undefined ? '' : ` - ${url}`;
    return `\nWARNING: ${code}${page}\n${safeText(message)}\n${excerpt(dockerfile, range)}`;
  });
  return `Check complete, ${count} been found!\n${told.join('')}`;
}

const RULE = '-'.repeat(20);

/** The lines of a range, marked, with up to four around them: BuildKit's way to show a place. */
function excerpt({ file, text }: Source, range: SourceRange): string {
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  const first = range.start.line;
  const last = Math.min(lastLineOf(range), lines.length);
  if (first > lines.length) return '';
  let from = first;
  let to = last;
  const wanted = first === last ? 4 : 2;
  for (let added = 0; added < wanted; added += 1) {
    if (from > 1) {
      from -= 1;
      added += 1;
    }
    if (to !== lines.length) {
      to += 1;
      added += 1;
    }
  }
  const shown = lines.slice(from - 1, to).map((line, index) => {
    const number = from + index;
    const mark = number >= first && number <= last ? '>>>' : '   ';
    return ` ${String(number).padStart(3)} | ${mark} ${safeLine(line)}\n`;
  });
  return `${safeLine(file)}:${first}\n${RULE}\n${shown.join('')}${RULE}\n`;
}

/** A range that ends at a line's start does not hold that line. */
function lastLineOf({ start, end }: SourceRange): number {
  return end.column === 1 && end.line > start.line ? end.line - 1 : end.line;
}

function outlineText({ name, description, args, secrets, ssh, cache }: Outline): string {
  const parts: string[] = [];
  if (name !== undefined || description !== undefined) {
    const rows = [['TARGET:', name ?? '(default)']];
    if (description !== undefined) rows.push(['DESCRIPTION:', description]);
    parts.push(table(rows, 1));
  }
  if (args.length > 0) {
    const rows = args.map((arg) => [arg.name, arg.value ?? '', arg.description ?? '']);
    parts.push(table([['BUILD ARG', 'VALUE', 'DESCRIPTION'], ...rows], 3));
  }
  const required = (mount: OutlineMount): string[] => [mount.id, mount.required ? 'true' : ''];
  if (secrets.length > 0) parts.push(table([['SECRET', 'REQUIRED'], ...secrets.map(required)], 3));
  if (ssh.length > 0) parts.push(table([['SSH', 'REQUIRED'], ...ssh.map(required)], 3));
  if (cache.length > 0) parts.push(table([['CACHE MOUNT'], ...cache.map(({ id }) => [id])], 3));
  return parts.map((part) => `${part}\n`).join('');
}

function targetsText(targets: readonly Target[]): string {
  const rows = targets.map(({ name, isDefault, description }) => {
    const shown = !isDefault ? (name ?? '') : name === undefined ? '(default)' : `${name} (default)`;
    return [shown, description ?? ''];
  });
  return table([['TARGET', 'DESCRIPTION'], ...rows], 1);
}

/** Columns as wide as their widest cell and `gap` blanks, as Go's tabwriter sets them: the last one is not filled up. */
function table(rows: readonly (readonly string[])[], gap: number): string {
  const clean = rows.map((row) => row.map(safeLine));
  const columns = Math.max(...clean.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...clean.map((row) => row[column]?.length ?? 0)),
  );
  const lines = clean.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd((widths[column] ?? 0) + gap)))
      .join(''),
  );
  return `${lines.join('\n')}\n`;
}

function failureMessage(failure: {
  readonly message: string;
  readonly diagnostics?: readonly Diagnostic[];
}): string {
  const [first] = failure.diagnostics ?? [];
  if (first === undefined) return safeText(failure.message);
  return `dockerfile parse error on line ${first.range.start.line}: ${safeText(first.message)}`;
}

function shapeOf(answer: CallAnswer): unknown {
  const { text, file } = answer.dockerfile;
  const data = encodePath(text).toString('base64');
  switch (answer.kind) {
    case 'check': {
      const { warnings, failure } = answer;
      const buildError =
        failure === undefined
          ? undefined
          : {
              message: failureMessage(failure),
              location: failure.range === undefined ? {} : location(failure.range),
            };
      return {
        warnings: warnings.map(({ code, url, message, range }) => ({
          ruleName: code,
          description: ruleNamed(code)?.description,
          url,
          detail: message,
          location: location(range),
        })),
        sources: [{ filename: file, language: 'Dockerfile', data }],
        buildError,
      };
    }
    case 'outline': {
      const { name, description, args, secrets, ssh, cache } = answer.outline;
      const mount = ({ id, required, range }: OutlineMount) => ({
        name: id,
        required: required ? true : undefined,
        location: location(range),
      });
      return {
        name,
        description,
        args: some(args.map(({ range, ...arg }) => ({ ...arg, location: location(range) }))),
        secrets: some(secrets.map(mount)),
        ssh: some(ssh.map(mount)),
        cache: some(cache.map(({ id, range }) => ({ ID: id, location: location(range) }))),
        sources: [data],
      };
    }
    case 'targets':
      return {
        targets: answer.targets.map(({ name, isDefault, range, ...target }) => ({
          name,
          default: isDefault ? true : undefined,
          ...target,
          location: location(range),
        })),
        sources: [data],
      };
  }
}

function some<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

/** One range for each line, without columns: where BuildKit sees the things that it tells of. */
function location(range: SourceRange): unknown {
  const first = range.start.line;
  const count = Math.max(1, lastLineOf(range) - first + 1);
  const ranges = Array.from({ length: count }, (_, index) => ({
    start: { line: first + index },
    end: { line: first + index },
  }));
  return { ranges };
}
