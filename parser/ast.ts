import type { Diagnostic, SourceRange } from '../core/index.ts';

/** A Dockerfile as read: https://docs.docker.com/reference/dockerfile/. Words are as written: nothing is expanded. */
export interface Dockerfile {
  readonly directives: Directives;
  /** `ARG`s before the first `FROM`. */
  readonly globalArgs: readonly ArgInstruction[];
  readonly stages: readonly Stage[];
}

export interface Directives {
  readonly syntax?: DirectiveValue;
  readonly check?: DirectiveValue;
  readonly escape: EscapeCharacter;
}

/** The character that continues a line and escapes in words. */
export type EscapeCharacter = '\\' | '`';

export interface DirectiveValue {
  readonly value: string;
  readonly range: SourceRange;
}

export interface Stage {
  /** Position among the stages, from 0. */
  readonly index: number;
  readonly from: FromInstruction;
  /** Everything after the FROM. */
  readonly instructions: readonly Instruction[];
}

interface Node {
  /** From the instruction's first character to its last, heredoc bodies included. */
  readonly range: SourceRange;
  /** The instruction's name as written, in whatever case. */
  readonly keyword: Word;
  /** The instruction as written, joined to one line, comments and continuations dropped; heredoc bodies excluded. */
  readonly source: string;
  /**
   * Comment lines directly above, without `#` and outer blanks: the seat of `# varve:` and `# check=`. An empty line or an
   * empty comment parts them from the instruction; a parser directive is none. Triggers of ONBUILD have none.
   */
  readonly comments: readonly Word[];
  /** The empty lines between the instruction's lines, from the first to the last; absent where there are none. */
  readonly emptyContinuationRange?: SourceRange;
}

/** A piece of text with its place: a word, a value, a path. */
export interface Word {
  readonly text: string;
  readonly range: SourceRange;
}

/** `--name=value`, or `--name` alone (value absent). Quotes and escapes of the flag are taken away, variables are not. */
export interface Flag {
  readonly name: string;
  readonly value?: string;
  readonly range: SourceRange;
  /** Where the value stands, quotes included; absent with the value. */
  readonly valueRange?: SourceRange;
}

/** One `key=value` of a flag's comma-separated value, or `key` alone (value absent). */
export interface FlagField {
  /** In lower case. */
  readonly key: string;
  /** The whole field as written: `key=value`. */
  readonly text: string;
  readonly value?: Word;
  readonly range: SourceRange;
}

/** `RUN --mount=type=cache,target=/x`: variables in values are not expanded yet; `readMount` says what it means. */
export interface MountFlag {
  /** In order; a key may come twice, the last one counts. */
  readonly fields: readonly FlagField[];
  readonly range: SourceRange;
}

/** `RUN --device=vendor.com/class=name,required`; takes no variables. */
export interface DeviceFlag {
  readonly name: string;
  readonly required: boolean;
  readonly range: SourceRange;
}

/** The flags of FROM by meaning. In all of these, words are not expanded yet, and one left empty is absent. */
export interface FromOptions {
  readonly platform?: Word;
}

/** The flags of RUN by meaning. */
export interface RunOptions {
  readonly mounts: readonly MountFlag[];
  readonly network?: 'default' | 'none' | 'host';
  readonly security?: 'sandbox' | 'insecure';
  readonly devices: readonly DeviceFlag[];
}

/** The flags of COPY and ADD by meaning; each instruction takes some of them. */
export interface CopyOptions {
  /** COPY only; takes no variables. */
  readonly from?: Word;
  readonly chown?: Word;
  readonly chmod?: Word;
  readonly link?: boolean;
  /** COPY only. */
  readonly parents?: boolean;
  /** Patterns in order; takes no variables. */
  readonly exclude: readonly Word[];
  /** ADD only, and all that follow. */
  readonly checksum?: Word;
  readonly keepGitDir?: boolean;
  readonly unpack?: boolean;
}

/** The flags of HEALTHCHECK by meaning: durations in nanoseconds. */
export interface HealthcheckOptions {
  readonly interval?: number;
  readonly timeout?: number;
  readonly startPeriod?: number;
  readonly startInterval?: number;
  readonly retries?: number;
}

/** `<<EOF`, `<<-EOF`, `<<"EOF"` with the lines that follow. */
export interface Heredoc {
  readonly name: string;
  /** False where the delimiter was quoted: the body is taken literally. */
  readonly expand: boolean;
  /** `<<-`: leading tabs were stripped from the body. */
  readonly chomp: boolean;
  /** The body before leading tabs were stripped; absent where there were none. */
  readonly unchomped?: string;
  readonly fileDescriptor: number;
  /** With the last newline; line ends as written, CRLF too. Bytes that are not UTF-8 are lone surrogates, as in paths. */
  readonly body: string;
  /** The word that announces it, `<<EOF`. */
  readonly range: SourceRange;
  /** The lines of the body, without the terminator. */
  readonly bodyRange: SourceRange;
}

/** Command of RUN, CMD, ENTRYPOINT, HEALTHCHECK CMD: one string for a shell, or a JSON list. */
export type Command =
  | {
      readonly form: 'shell';
      /** The command text: continuations joined, comment lines between them dropped. */
      readonly text: string;
      /** Heredocs in order; for RUN the shell sees the text and the bodies as in a script. */
      readonly heredocs: readonly Heredoc[];
    }
  | { readonly form: 'exec'; readonly args: readonly string[] };

export interface FromInstruction extends Node {
  readonly kind: 'FROM';
  readonly flags: readonly Flag[];
  readonly options: FromOptions;
  readonly image: Word;
  /** The word `AS` in whatever case; absent with the name. */
  readonly asKeyword?: Word;
  /** The name of the stage, as written. */
  readonly as?: Word;
}

export interface RunInstruction extends Node {
  readonly kind: 'RUN';
  readonly flags: readonly Flag[];
  readonly options: RunOptions;
  readonly command: Command;
}

export interface CommandInstruction extends Node {
  readonly kind: 'CMD' | 'ENTRYPOINT';
  readonly command: Command;
}

/** A source of COPY or ADD: a path (wildcards unexpanded), or a file given by a heredoc. */
export type CopySource =
  | { readonly kind: 'path'; readonly word: Word }
  | { readonly kind: 'heredoc'; readonly heredoc: Heredoc };

export interface CopyInstruction extends Node {
  readonly kind: 'COPY' | 'ADD';
  readonly flags: readonly Flag[];
  readonly options: CopyOptions;
  /** At least one. */
  readonly sources: readonly CopySource[];
  readonly destination: Word;
}

export interface KeyValue {
  readonly key: Word;
  readonly value: Word;
}

export interface KeyValueInstruction extends Node {
  readonly kind: 'ENV' | 'LABEL';
  /** At least one. Values keep their quotes: quotes matter to expansion. */
  readonly pairs: readonly KeyValue[];
  /** `ENV key value` with a blank instead of `=`. */
  readonly legacy: boolean;
}

export interface ArgInstruction extends Node {
  readonly kind: 'ARG';
  readonly args: readonly { readonly name: Word; readonly defaultValue?: Word }[];
}

/** Instructions with one word. */
export interface WordInstruction extends Node {
  readonly kind: 'WORKDIR' | 'USER' | 'STOPSIGNAL' | 'MAINTAINER';
  readonly word: Word;
}

/** Instructions with a list of words (JSON or blank-separated for VOLUME). */
export interface WordsInstruction extends Node {
  readonly kind: 'EXPOSE' | 'VOLUME';
  readonly words: readonly Word[];
}

export interface ShellInstruction extends Node {
  readonly kind: 'SHELL';
  readonly args: readonly string[];
}

export interface HealthcheckInstruction extends Node {
  readonly kind: 'HEALTHCHECK';
  readonly flags: readonly Flag[];
  readonly options: HealthcheckOptions;
  /** Absent: `HEALTHCHECK NONE`. */
  readonly command?: Command;
}

export interface OnbuildInstruction extends Node {
  readonly kind: 'ONBUILD';
  /** The trigger as written, on one line, with its heredocs: what goes into the image's configuration. */
  readonly trigger: string;
  readonly heredocs: readonly Heredoc[];
  /** Absent where the trigger is faulty: it can be kept, but not carried out. A warning tells of the fault. */
  readonly instruction?: Instruction;
}

/** Everything that may stand in a stage after its FROM. */
export type Instruction =
  | RunInstruction
  | CommandInstruction
  | CopyInstruction
  | KeyValueInstruction
  | ArgInstruction
  | WordInstruction
  | WordsInstruction
  | ShellInstruction
  | HealthcheckInstruction
  | OnbuildInstruction;

export interface ParseOutput {
  /** Absent when an error diagnostic was given. */
  readonly dockerfile?: Dockerfile;
  /** Where `dockerfile` is absent: the instructions that could be read. */
  readonly partial?: Dockerfile;
  /** Errors and warnings in order of place. */
  readonly diagnostics: readonly Diagnostic[];
}
