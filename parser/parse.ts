import type { Diagnostic, SourceRange } from '../core/index.ts';
import type {
  ArgInstruction,
  Dockerfile,
  FromInstruction,
  Heredoc,
  Instruction,
  ParseOutput,
  Stage,
} from './ast.ts';
import { buildFaultyTrigger, buildInstruction, type InstructionContext } from './build.ts';
import { readDirectives } from './directives.ts';
import { explain } from './explain.ts';
import { parseTokens } from './grammar.ts';
import { heredocsOf } from './heredoc.ts';
import { InstructionLexer, type Token } from './lexer.ts';
import { beyond, LIMITS } from './limits.ts';
import { LineReader, type LogicalLine } from './line-reader.ts';
import { heredocsIn } from './print.ts';
import { type JoinedText, SourceText } from './source-text.ts';

/** An instruction that stands by itself: the trigger of an image. */
export interface InstructionOutput {
  /** Absent when an error diagnostic was given. */
  readonly instruction?: Instruction;
  readonly diagnostics: readonly Diagnostic[];
}

/** How far below an unknown instruction the end of its supposed heredoc is looked for. */
const UNKNOWN_HEREDOC_LINES = 200;

/**
 * Reads a Dockerfile: https://docs.docker.com/reference/dockerfile/, as BuildKit's frontend does. The text may start with a
 * byte order mark and may have CRLF. Never throws for what the text holds: every fault of every instruction is a diagnostic.
 * Takes time in proportion to the text, up to the limits of limits.ts.
 */
export function parse(text: string): ParseOutput {
  const refused = tooLong(text);
  if (refused !== undefined) return { diagnostics: [refused] };
  const reader = new InstructionReader(text);
  const assembly = new StageAssembly(reader);
  let count = 0;
  for (let read = reader.next(); read !== undefined; read = reader.next()) {
    count += 1;
    if (count > LIMITS.instructions) {
      reader.report(beyond('instructions', 'instructions', read.range));
      break;
    }
    assembly.add(read);
  }
  const dockerfile = assembly.finish();
  const diagnostics = inOrder(reader.diagnostics);
  return hasError(diagnostics) ? { partial: dockerfile, diagnostics } : { dockerfile, diagnostics };
}

/** Reads the trigger that an image keeps of an ONBUILD: one instruction with its heredocs. */
export function parseInstruction(text: string): InstructionOutput {
  const refused = tooLong(text);
  if (refused !== undefined) return { diagnostics: [refused] };
  const reader = new InstructionReader(text);
  const read = reader.next();
  const more = reader.next();
  const instruction = read?.instruction;
  const problem =
    read === undefined || more !== undefined
      ? 'onbuild trigger should be a single expression'
      : instruction?.kind === 'FROM' || instruction?.kind === 'MAINTAINER' || instruction?.kind === 'ONBUILD'
        ? `${instruction.kind} isn't allowed as an ONBUILD trigger`
        : undefined;
  if (problem !== undefined) {
    reader.report({
      severity: 'error',
      code: 'onbuild-trigger',
      message: problem,
      range: more?.range ?? read?.range ?? reader.source.range(0, 0),
    });
  }
  const diagnostics = inOrder(reader.diagnostics);
  if (hasError(diagnostics) || instruction === undefined || instruction.kind === 'FROM')
    return { diagnostics };
  return { instruction, diagnostics };
}

function tooLong(text: string): Diagnostic | undefined {
  if (text.length <= LIMITS.text) return undefined;
  const start = { line: 1, column: 1, offset: 0 };
  return beyond('text', 'characters in the Dockerfile', { start, end: start });
}

/** By place. */
function inOrder(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  return diagnostics.toSorted((one, other) => one.range.start.offset - other.range.start.offset);
}

function hasError(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some(({ severity }) => severity === 'error');
}

/** An instruction as it was met; without a node where it is faulty. */
interface InstructionRead {
  readonly instruction: FromInstruction | Instruction | undefined;
  /** The type of its keyword token: a name, or `unknown`. */
  readonly keyword: string;
  readonly range: SourceRange;
}

/** Reads the instructions of a text one by one. */
class InstructionReader {
  readonly source: SourceText;
  readonly directives: Dockerfile['directives'];
  readonly diagnostics: Diagnostic[];
  readonly #lines: LineReader;
  readonly #lexer: InstructionLexer;
  #toldOfDamage = false;

  constructor(text: string) {
    this.source = new SourceText(text);
    const { directives, nextLine, diagnostics } = readDirectives(this.source);
    this.directives = directives;
    this.diagnostics = [...diagnostics];
    this.#lines = new LineReader(this.source, directives.escape, nextLine);
    this.#lexer = new InstructionLexer(directives.escape);
  }

  /** Takes a fault; the one beyond the limit ends the reading. */
  report(diagnostic: Diagnostic): void {
    if (this.diagnostics.length > LIMITS.faults) return;
    if (this.diagnostics.length < LIMITS.faults) this.diagnostics.push(diagnostic);
    else {
      this.diagnostics.push(beyond('faults', 'faults in the Dockerfile', diagnostic.range));
      this.#lines.skipToEnd();
    }
  }

  next(): InstructionRead | undefined {
    const line = this.#lines.next();
    if (line === undefined) return undefined;
    const { joined } = line;
    const tokens = this.#lexer.tokenize(joined.text);
    const heredocs = this.#takeHeredocs(line, tokens);
    const { start } = joined.range(0, 0);
    const range = { start, end: this.source.position(heredocs.end) };
    const keyword = tokens[0]?.type ?? '';
    const syntax = parseTokens(tokens);
    const context: InstructionContext = {
      joined,
      heredocs: heredocs.found,
      comments: line.comments,
      emptyContinuationRange: line.emptyContinuationRange,
      range,
      report: (diagnostic) => this.report(diagnostic),
    };
    if (syntax !== undefined) {
      const instruction = buildInstruction(syntax, context);
      this.#tellOfDamage(instruction, joined);
      return { instruction, keyword, range };
    }
    this.report(explain(tokens, joined, this.directives.escape));
    return { instruction: buildFaultyTrigger(tokens, context), keyword, range };
  }

  /**
   * Bytes that are not UTF-8 are read as U+FFFD, but for those of heredocs that stay as they are. What a shell would get
   * instead of a RUN is another command, which nobody meant: BuildKit refuses it too.
   */
  #tellOfDamage(instruction: FromInstruction | Instruction, joined: JoinedText): void {
    const isCommand =
      instruction.kind === 'RUN' && (instruction.command.form === 'shell' || instruction.flags.length > 0);
    const expanded = isCommand ? undefined : heredocsIn(instruction).find(isDamaged);
    const range = joined.damage ?? expanded?.bodyRange;
    if (range === undefined || (this.#toldOfDamage && !isCommand)) return;
    this.#toldOfDamage = true;
    this.report({
      severity: isCommand ? 'error' : 'warning',
      code: 'not-utf-8',
      message: `${instruction.kind} has bytes that are not UTF-8${isCommand ? '' : ': each is read as U+FFFD'}`,
      range,
      hint: isCommand
        ? 'save the Dockerfile as UTF-8, or write such bytes with printf'
        : 'save the Dockerfile as UTF-8',
    });
  }

  /** The heredocs of a line, and where the instruction ends with them. */
  #takeHeredocs(line: LogicalLine, tokens: readonly Token[]): { found: readonly Heredoc[]; end: number } {
    const { joined } = line;
    const end = joined.range(0, joined.text.length).end.offset;
    const keyword = heredocKeyword(tokens);
    if (keyword === undefined) return { found: [], end };
    const starts = heredocsOf(joined.text);
    if (!starts.ok) {
      if (keyword !== 'unknown') {
        const { offset, message } = starts.error;
        this.report({
          severity: 'error',
          code: 'invalid-heredoc',
          message: `cannot read the heredoc's name: ${message}`,
          range: joined.range(offset, joined.text.length),
        });
      }
      return { found: [], end };
    }
    const tooMany = starts.value[LIMITS.heredocs];
    if (tooMany !== undefined) {
      this.report(
        beyond('heredocs', `heredocs in this ${keyword}`, joined.range(tooMany.start, tooMany.end)),
      );
      this.#lines.skipToEnd();
      return { found: [], end };
    }
    const within = keyword === 'unknown' ? UNKNOWN_HEREDOC_LINES : this.source.lineCount;
    const found: Heredoc[] = [];
    for (const { start, end: wordEnd, ...heredoc } of starts.value) {
      const range = joined.range(start, wordEnd);
      const body = this.#lines.takeHeredoc(heredoc.name, { chomp: heredoc.chomp, within });
      if (body !== undefined) {
        const { text, range: bodyRange, unchomped } = body;
        const before = unchomped === undefined ? {} : { unchomped };
        found.push({ ...heredoc, ...before, body: text, range, bodyRange });
      } else if (keyword !== 'unknown') {
        this.report({
          severity: 'error',
          code: 'unterminated-heredoc',
          message: 'unterminated heredoc',
          range,
          hint: `end it with a line that is ${heredoc.name} and nothing else`,
        });
        this.#lines.skipToEnd();
        break;
      }
    }
    return { found, end: found.length > 0 ? this.#lines.takenEnd : end };
  }
}

/**
 * The keyword that may have heredocs, behind ONBUILD too; undefined where there can be none. What is no instruction may have
 * been meant for one that has, but not as a trigger, which is taken as it stands.
 */
function heredocKeyword(tokens: readonly Token[]): string | undefined {
  const keyword = tokens.find((token) => token.type !== 'ONBUILD' && token.type !== 'flag')?.type;
  const allowed =
    keyword === 'RUN' || keyword === 'COPY' || keyword === 'ADD' || tokens[0]?.type === 'unknown';
  const json = tokens.some((token) => token.type === 'open' || token.type === 'mixedArray');
  return allowed && !json ? keyword : undefined;
}

function isDamaged({ expand, body }: Heredoc): boolean {
  return expand && !body.isWellFormed();
}

/** Puts instructions into stages. */
class StageAssembly {
  readonly #reader: InstructionReader;
  readonly #globalArgs: ArgInstruction[] = [];
  readonly #stages: { from: FromInstruction; instructions: Instruction[] }[] = [];
  #last: SourceRange | undefined;
  /** A FROM was met, or what may have been meant for one: what follows belongs to a stage. */
  #inStage = false;

  constructor(reader: InstructionReader) {
    this.#reader = reader;
  }

  add({ instruction, keyword, range }: InstructionRead): void {
    this.#last = range;
    if (keyword === 'FROM' || keyword === 'unknown') this.#inStage = true;
    if (instruction?.kind === 'FROM') this.#stages.push({ from: instruction, instructions: [] });
    else if (!this.#inStage && instruction?.kind === 'ARG') this.#globalArgs.push(instruction);
    else if (!this.#inStage && keyword !== 'ARG') {
      this.#reader.report({
        severity: 'error',
        code: 'no-build-stage',
        message: `no build stage in current context: ${keyword} stands before the first FROM`,
        range,
        hint: 'only ARG may stand before the first FROM',
      });
      this.#inStage = true;
    } else if (instruction !== undefined) this.#stages.at(-1)?.instructions.push(instruction);
  }

  /** The Dockerfile as far as it could be read. */
  finish(): Dockerfile {
    const { source, directives } = this.#reader;
    if (this.#last === undefined) {
      this.#reportEmpty('empty-dockerfile', 'file with no instructions', source.range(0, 0));
    } else if (!this.#inStage) {
      this.#reportEmpty('no-stage', 'dockerfile contains no stages to build', this.#last);
    }
    const stages: readonly Stage[] = this.#stages.map((stage, index) => ({ index, ...stage }));
    return { directives, globalArgs: this.#globalArgs, stages };
  }

  #reportEmpty(code: string, message: string, range: SourceRange): void {
    this.#reader.report({
      severity: 'error',
      code,
      message,
      range,
      hint: 'a Dockerfile needs a FROM: FROM <image>, or FROM scratch',
    });
  }
}
