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
  /** The instruction as written, joined to one line, comments and continuations dropped; heredoc bodies excluded. */
  readonly source: string;
  /**
   * Comment lines directly above, without `#` and outer blanks: the seat of `# varve:` and `# check=`. An empty line or an
   * empty comment parts them from the instruction.
   */
  readonly comments: readonly string[];
}

/** A piece of text with its place: a word, a value, a path. */
export interface Word {
  readonly text: string;
  readonly range: SourceRange;
}

/** `--name=value`, or `--name` alone (value absent). */
export interface Flag {
  readonly name: string;
  readonly value?: string;
  readonly range: SourceRange;
}

/** `<<EOF`, `<<-EOF`, `<<"EOF"` with the lines that follow. */
export interface Heredoc {
  readonly name: string;
  /** False where the delimiter was quoted: the body is taken literally. */
  readonly expand: boolean;
  /** `<<-`: leading tabs were stripped from the body. */
  readonly chomp: boolean;
  readonly fileDescriptor: number;
  /** With the last newline; CRLF as LF. */
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
  readonly image: Word;
  readonly as?: Word;
}

export interface RunInstruction extends Node {
  readonly kind: 'RUN';
  readonly flags: readonly Flag[];
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
  /** Absent: `HEALTHCHECK NONE`. */
  readonly command?: Command;
}

export interface OnbuildInstruction extends Node {
  readonly kind: 'ONBUILD';
  /** The trigger as written, on one line: what goes into the image's configuration. */
  readonly trigger: string;
  readonly instruction: Instruction;
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
  /** Errors and warnings in order of place. */
  readonly diagnostics: readonly Diagnostic[];
}
