import { type Diagnostic, type SourceRange, unreachable } from '../core/index.ts';
import type {
  ArgInstruction,
  Command,
  CopyInstruction,
  CopySource,
  Flag,
  FlagField,
  FromInstruction,
  Heredoc,
  Instruction,
  KeyValue,
  OnbuildInstruction,
  RunOptions,
  Word,
} from './ast.ts';
import { readFields, readFlag } from './flag-text.ts';
import { checkFlags, copyOptions, fromOptions, healthcheckOptions, runOptions } from './flags.ts';
import { heredocOf } from './heredoc.ts';
import { INSTRUCTIONS, type InstructionName, type Token } from './lexer.ts';
import type { JoinedText } from './source-text.ts';
import { type CommandSyntax, listTokens, type Syntax, type TokenList } from './syntax.ts';
import { trim } from './whitespace.ts';

/** What belongs to an instruction beside its tokens. */
export interface InstructionContext {
  readonly joined: JoinedText;
  readonly heredocs: readonly Heredoc[];
  readonly comments: readonly Word[];
  readonly emptyContinuationRange: SourceRange | undefined;
  /** With the heredocs. */
  readonly range: SourceRange;
  /** Where faults go. */
  readonly report: (diagnostic: Diagnostic) => void;
}

/** Shared, since most instructions have none. */
const NO_FLAGS: readonly Flag[] = [];
const NO_RUN_OPTIONS: RunOptions = { mounts: [], devices: [] };
const STAGE_NAME = /^[a-z][a-z0-9-_.]*$/;

/** Makes the node of an instruction out of its syntax, and reports what the grammar cannot see. */
export function buildInstruction(syntax: Syntax, context: InstructionContext): FromInstruction | Instruction {
  return new InstructionBuilder(context).build(syntax);
}

/**
 * An ONBUILD whose trigger is no instruction. BuildKit keeps such a trigger in the image; it fails where another Dockerfile
 * builds on that. Undefined where there is no trigger.
 */
export function buildFaultyTrigger(
  tokens: readonly Token[],
  context: InstructionContext,
): OnbuildInstruction | undefined {
  const [keyword, ...rest] = tokens;
  const own = rest.findIndex((token) => token.type !== 'flag');
  const trigger = rest[own];
  if (keyword?.type !== 'ONBUILD' || trigger === undefined) return undefined;
  const { joined, heredocs, range, comments, emptyContinuationRange, report } = context;
  const flags = rest.slice(0, own).map((token) => readFlag(token, (start, end) => joined.range(start, end)));
  for (const diagnostic of checkFlags('ONBUILD', flags)) report(diagnostic);
  return {
    range,
    keyword: {
      text: keyword.text,
      range: joined.range(keyword.offset, keyword.offset + keyword.text.length),
    },
    source: joined.text.slice(keyword.offset),
    comments,
    ...(emptyContinuationRange === undefined ? {} : { emptyContinuationRange }),
    kind: 'ONBUILD',
    trigger: triggerText(joined, trigger, heredocs),
    heredocs,
  };
}

function triggerText(joined: JoinedText, keyword: Token, heredocs: readonly Heredoc[]): string {
  const bodies = heredocs.map((heredoc) => `\n${heredoc.unchomped ?? heredoc.body}${heredoc.name}`);
  return joined.text.slice(keyword.offset) + bodies.join('').toWellFormed();
}

/** What BuildKit finds when it reads a trigger, not only when it carries it out. */
const FATAL_IN_TRIGGER: ReadonlySet<string> = new Set([
  'json-not-strings',
  'limit-exceeded',
  'missing-equals',
  'onbuild-chained',
  'onbuild-trigger',
]);

/** A fault of a trigger, which only fails where the trigger is carried out, as a warning. */
export function ofTrigger(diagnostic: Diagnostic): Diagnostic {
  if (FATAL_IN_TRIGGER.has(diagnostic.code)) return diagnostic;
  return {
    ...diagnostic,
    severity: 'warning',
    message: `this trigger will fail where it is carried out: ${diagnostic.message}`,
  };
}

class InstructionBuilder {
  readonly #context: InstructionContext;
  readonly #joined: JoinedText;

  constructor(context: InstructionContext) {
    this.#context = context;
    this.#joined = context.joined;
  }

  build(syntax: Syntax): FromInstruction | Instruction {
    const kind = keywordOf(syntax.keyword);
    const flags = this.#flags(syntax);
    const { emptyContinuationRange } = this.#context;
    const node = {
      range: this.#context.range,
      keyword: this.#word(syntax.keyword),
      source: this.#joined.text.slice(syntax.keyword.offset),
      comments: this.#context.comments,
      ...(emptyContinuationRange === undefined ? {} : { emptyContinuationRange }),
    };
    switch (syntax.kind) {
      case 'from':
        return {
          ...node,
          kind: 'FROM',
          flags,
          options: fromOptions(flags),
          image: this.#word(syntax.image),
          ...(syntax.asKeyword === undefined ? {} : { asKeyword: this.#word(syntax.asKeyword) }),
          ...this.#stageName(syntax.as),
        };
      case 'command': {
        if (syntax.command === undefined) this.#warnEmpty(kind, syntax.keyword);
        const command = this.#command(syntax.command);
        if (kind === 'RUN') {
          if (command.form === 'exec' && command.args.length === 0) {
            this.#error('missing-argument', 'RUN requires at least one argument', syntax.keyword);
          }
          return { ...node, kind, flags, options: this.#runOptions(flags, syntax.flags), command };
        }
        return { ...node, kind: kind === 'CMD' ? kind : 'ENTRYPOINT', command };
      }
      case 'copy':
        return {
          ...node,
          kind: kind === 'ADD' ? kind : 'COPY',
          flags,
          options: copyOptions(flags),
          ...this.#paths(syntax),
        };
      case 'pairs': {
        const pairs = listTokens(syntax.pairs).map((token) => this.#pair(kind, token));
        return { ...node, kind: kind === 'ENV' ? kind : 'LABEL', pairs, legacy: false };
      }
      case 'legacyPair': {
        const pairs = [{ key: this.#word(syntax.key), value: this.#word(syntax.value) }];
        return { ...node, kind: kind === 'ENV' ? kind : 'LABEL', pairs, legacy: true };
      }
      case 'arg':
        return { ...node, kind: 'ARG', args: listTokens(syntax.args).map((token) => this.#arg(token)) };
      case 'words':
        return { ...node, kind: kind === 'EXPOSE' ? kind : 'VOLUME', words: this.#words(kind, syntax.words) };
      case 'word': {
        const wordKind = kind === 'WORKDIR' || kind === 'USER' || kind === 'STOPSIGNAL' ? kind : 'MAINTAINER';
        return { ...node, kind: wordKind, word: this.#word(syntax.word) };
      }
      case 'shell':
        return { ...node, kind: 'SHELL', args: listTokens(syntax.args).map((token) => token.value) };
      case 'healthcheck': {
        const options = healthcheckOptions(flags);
        if (syntax.command === undefined) return { ...node, kind: 'HEALTHCHECK', flags, options };
        const command = this.#command(syntax.command);
        if (command.form === 'exec' && command.args.length === 0) {
          this.#error('missing-argument', 'missing command after HEALTHCHECK CMD', syntax.keyword);
        }
        return { ...node, kind: 'HEALTHCHECK', flags, options, command };
      }
      case 'onbuild':
        return { ...node, kind: 'ONBUILD', ...this.#trigger(syntax.trigger) };
      default:
        return unreachable(syntax);
    }
  }

  #trigger(syntax: Syntax): Pick<OnbuildInstruction, 'trigger' | 'heredocs' | 'instruction'> {
    const { joined, heredocs, range } = this.#context;
    const start = joined.range(syntax.keyword.offset, syntax.keyword.offset).start;
    let faulty = false;
    const instruction = new InstructionBuilder({
      ...this.#context,
      comments: [],
      range: { start, end: range.end },
      report: (diagnostic) => {
        faulty = true;
        this.#context.report(ofTrigger(diagnostic));
      },
    }).build(syntax);
    if (instruction.kind === 'FROM') throw new Error('the grammar let FROM pass as a trigger');
    const trigger = triggerText(joined, syntax.keyword, heredocs);
    return faulty ? { trigger, heredocs } : { trigger, heredocs, instruction };
  }

  /** Without any text the shell gets an empty command, as in BuildKit. */
  #command(syntax: CommandSyntax | undefined): Command {
    if (syntax === undefined) return { form: 'shell', text: '', heredocs: [] };
    if (syntax.form === 'exec') {
      return { form: 'exec', args: listTokens(syntax.args).map((token) => token.value) };
    }
    return { form: 'shell', text: syntax.text.text, heredocs: this.#context.heredocs };
  }

  #stageName(as: Token | undefined): { readonly as?: Word } {
    if (as === undefined) return {};
    if (!STAGE_NAME.test(as.text.toLowerCase())) {
      this.#error(
        'invalid-stage-name',
        `invalid name for build stage: ${JSON.stringify(as.text)}`,
        as,
        'a stage name starts with a letter and has letters, digits, "-", "_" and "." only',
      );
    }
    return { as: this.#word(as) };
  }

  #paths(syntax: Syntax & { readonly kind: 'copy' }): Pick<CopyInstruction, 'sources' | 'destination'> {
    const kind = keywordOf(syntax.keyword);
    const { heredocs } = this.#context;
    // Of several heredocs with one name BuildKit takes the last for all.
    const byName = new Map(heredocs.map((heredoc) => [heredoc.name, heredoc]));
    const sources: CopySource[] = [];
    const found = new Set<Heredoc>();
    for (const token of listTokens(syntax.sources)) {
      const start = token.type === 'word' ? heredocOf(token.text) : undefined;
      const heredoc = start?.ok ? byName.get(start.value?.name ?? '') : undefined;
      if (heredoc === undefined) sources.push({ kind: 'path', word: this.#word(token) });
      else {
        found.add(heredoc);
        sources.push({ kind: 'heredoc', heredoc });
      }
    }
    const { destination } = syntax;
    const atDestination = destination.type === 'word' ? heredocOf(destination.text) : undefined;
    if (atDestination?.ok && atDestination.value !== undefined) {
      this.#error('heredoc-destination', `${kind} cannot accept a heredoc as a destination`, destination);
    } else {
      for (const heredoc of heredocs) {
        if (!found.has(byName.get(heredoc.name) ?? heredoc)) this.#reportLostHeredoc(kind, heredoc);
      }
    }
    return { sources, destination: this.#word(destination) };
  }

  #reportLostHeredoc(kind: InstructionName, lost: Heredoc): void {
    this.#context.report({
      severity: 'error',
      code: 'heredoc-name',
      message: `${kind} takes a heredoc as one word, without blanks`,
      range: lost.range,
      hint: /\s/.test(lost.name) ? 'choose a name without blanks' : `write <<${lost.name}`,
    });
  }

  #pair(kind: InstructionName, token: Token): KeyValue {
    const equals = token.text.indexOf('=');
    if (equals === -1) {
      this.#error(
        'missing-equals',
        `can't find = in ${JSON.stringify(token.text)}`,
        token,
        `write ${kind} name=value; a value with blanks needs quotes`,
      );
      return { key: this.#word(token), value: this.#part(token, token.text.length, token.text.length) };
    }
    if (equals === 0) this.#error('blank-name', `${kind} names can not be blank`, token);
    return {
      key: this.#part(token, 0, equals),
      value: this.#part(token, equals + 1, token.text.length),
    };
  }

  #arg(token: Token): ArgInstruction['args'][number] {
    const equals = token.text.indexOf('=');
    if (equals === -1) return { name: this.#word(token) };
    if (equals === 0) this.#error('blank-name', 'ARG names can not be blank', token);
    return {
      name: this.#part(token, 0, equals),
      defaultValue: this.#part(token, equals + 1, token.text.length),
    };
  }

  #words(kind: InstructionName, list: TokenList): readonly Word[] {
    return listTokens(list).map((token) => {
      const word = this.#word(token);
      if (kind !== 'VOLUME') return word;
      const text = trim(word.text);
      if (text === '') this.#error('empty-volume', 'VOLUME specified can not be an empty string', token);
      return { ...word, text };
    });
  }

  #flags(syntax: Syntax): readonly Flag[] {
    if (syntax.flags === undefined) return NO_FLAGS;
    const range = (start: number, end: number): SourceRange => this.#joined.range(start, end);
    const flags = listTokens(syntax.flags).map((token) => readFlag(token, range));
    // BuildKit does not look at the flags of HEALTHCHECK NONE.
    if (syntax.kind === 'healthcheck' && syntax.command === undefined) return flags;
    for (const diagnostic of checkFlags(keywordOf(syntax.keyword), flags)) this.#context.report(diagnostic);
    return flags;
  }

  #runOptions(flags: readonly Flag[], list: TokenList | undefined): RunOptions {
    if (list === undefined) return NO_RUN_OPTIONS;
    const tokens = new Map(listTokens(list).map((token, index) => [flags[index], token]));
    const fields = (flag: Flag): readonly FlagField[] | string => {
      const token = tokens.get(flag);
      return token === undefined ? [] : readFields(token, (start, end) => this.#joined.range(start, end));
    };
    return runOptions(flags, fields, this.#context.report);
  }

  #word(token: Token): Word {
    return { text: token.value, range: this.#rangeOf(token) };
  }

  #part(token: Token, start: number, end: number): Word {
    return {
      text: token.text.slice(start, end),
      range: this.#joined.range(token.offset + start, token.offset + end),
    };
  }

  #rangeOf(token: Token): SourceRange {
    return this.#joined.range(token.offset, token.offset + token.text.length);
  }

  #warnEmpty(kind: InstructionName, token: Token): void {
    this.#context.report({
      severity: 'warning',
      code: 'empty-command',
      message: `${kind} has no command: the shell is given an empty one`,
      range: this.#rangeOf(token),
      hint: kind === 'RUN' ? 'write a command behind it, or remove it' : `write ${kind} [] for none`,
    });
  }

  #error(code: string, message: string, token: Token, hint?: string): void {
    const range = this.#rangeOf(token);
    this.#context.report({
      severity: 'error',
      code,
      message,
      range,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

function keywordOf(token: Token): InstructionName {
  const name = INSTRUCTIONS.find((known) => known === token.type);
  if (name === undefined) throw new Error(`the grammar let ${token.type} pass as a keyword`);
  return name;
}
