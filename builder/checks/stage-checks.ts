import { imagePath, type Platform, unreachable } from '../../core/index.ts';
import { formatPlatform } from '../../image/index.ts';
import type {
  ArgInstruction,
  CommandInstruction,
  CopyInstruction,
  FromInstruction,
  Instruction,
  KeyValueInstruction,
  WordInstruction,
  WordsInstruction,
} from '../../parser/index.ts';
import type { IgnoreRules } from '../ignore.ts';
import type { StageDraft } from '../stage-draft.ts';
import type { Checked, Linter } from './linter.ts';
import { RULES } from './rules.ts';
import { didYouMean } from './suggest.ts';

/** What the checks of all stages share. */
export interface LintContext {
  readonly linter: Linter;
  /** Of the build's context; absent where it has none. */
  readonly ignore?: IgnoreRules;
}

/** A key with one of these as a whole word is likely to hold something secret; with one of the others it is not. */
const SECRET = /(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)/i;
const NOT_SECRET = /(?:_|^)(?:public|file|version)(?:_|$)/i;

/** Variables that no environment holds and that are set all the same. */
const NO_VARIABLES = new Set(['BUILDKIT_SBOM_SCAN_CONTEXT', 'BUILDKIT_SBOM_SCAN_STAGE']);

/** The checks of one stage's instructions, told of each one as it is planned. */
export class StageChecks {
  readonly #context: LintContext;
  /** ARGs of the stage and of those that it stands on, also without a value. */
  readonly #declared: Set<string>;
  /** False: the base is not known, and so is what its environment holds. */
  readonly #baseKnown: boolean;
  #workdirSet: boolean;
  /** The last CMD, ENTRYPOINT and HEALTHCHECK of this stage. */
  readonly #last = new Map<string, Instruction>();
  #current: Checked | undefined;

  /** @param parent the checks of the stage that this one stands on */
  constructor(
    context: LintContext,
    base: { readonly parent?: StageChecks | undefined; readonly known: boolean },
  ) {
    this.#context = context;
    const { parent, known } = base;
    this.#declared = new Set(parent === undefined ? [] : parent.#declared);
    this.#baseKnown = parent === undefined ? known : parent.#baseKnown;
    this.#workdirSet = parent === undefined ? false : parent.#workdirSet;
  }

  /** Carries out the checks of `instruction`, before it changes the stage. */
  instruction(instruction: Instruction, stage: StageDraft): void {
    this.#current = instruction;
    switch (instruction.kind) {
      case 'ARG':
        this.#arg(instruction);
        break;
      case 'ENV':
      case 'LABEL':
        this.#pairs(instruction, stage);
        break;
      case 'CMD':
      case 'ENTRYPOINT':
        this.#command(instruction, stage);
        break;
      case 'HEALTHCHECK':
        this.#usedOnce(instruction);
        break;
      case 'COPY':
      case 'ADD':
        this.#copy(instruction, stage);
        break;
      case 'WORKDIR':
        this.#workdir(instruction, stage);
        break;
      case 'EXPOSE':
        this.#expose(instruction, stage);
        break;
      case 'RUN':
      case 'USER':
      case 'STOPSIGNAL':
      case 'MAINTAINER':
      case 'VOLUME':
      case 'SHELL':
      case 'ONBUILD':
        break;
      default:
        unreachable(instruction);
    }
  }

  /** An ARG that words may name from here on, whether it has a value or not. */
  declare(name: string): void {
    this.#declared.add(name);
  }

  /** A word of the instruction that is being planned names this variable; what is set is in `variables`. */
  used(name: string, variables: ReadonlyMap<string, string>): void {
    if (!this.#baseKnown || this.#current === undefined) return;
    if (variables.has(name) || this.#declared.has(name) || NO_VARIABLES.has(name)) return;
    const near = didYouMean(name, variables.keys());
    const suggestion = near === undefined ? '' : ` (did you mean $${near}?)`;
    this.#context.linter.report(RULES.undefinedVar, this.#current, {
      message: `Usage of undefined variable '$${name}'${suggestion}`,
    });
  }

  #arg(instruction: ArgInstruction): void {
    for (const { name } of instruction.args) this.#noSecret('ARG', name.text, instruction);
  }

  #pairs(instruction: KeyValueInstruction, stage: StageDraft): void {
    const { kind } = instruction;
    if (instruction.legacy) {
      const [pair] = instruction.pairs;
      const value = pair?.value.text ?? '';
      const isPlain = /^(?:[^\s"'\\]+|"[^"]*"|'[^']*')$/.test(value);
      const quoted = isPlain ? value : JSON.stringify(value);
      const keyword = instruction.keyword.text;
      this.#context.linter.report(RULES.legacyKeyValueFormat, instruction, {
        message: `"${keyword} key=value" should be used instead of legacy "${keyword} key value" format`,
        hint: `write ${keyword} ${pair?.key.text ?? ''}=${quoted}`,
      });
    }
    if (kind === 'LABEL') return;
    for (const { key } of instruction.pairs) this.#noSecret('ENV', stage.expand(key), instruction);
  }

  #noSecret(kind: 'ARG' | 'ENV', key: string, instruction: Instruction): void {
    if (!SECRET.test(key) || NOT_SECRET.test(key)) return;
    this.#context.linter.report(RULES.secretsUsedInArgOrEnv, instruction, {
      message: `Do not use ARG or ENV instructions for sensitive data (${kind} ${JSON.stringify(key)})`,
      hint: 'give it to the steps that need it with RUN --mount=type=secret',
    });
  }

  #command(instruction: CommandInstruction, stage: StageDraft): void {
    this.#usedOnce(instruction);
    if (instruction.command.form === 'exec' || (stage.config.Shell ?? []).length > 0) return;
    this.#context.linter.report(RULES.jsonArgsRecommended, instruction, {
      message: `JSON arguments recommended for ${instruction.keyword.text} to prevent unintended behavior related to OS signals`,
    });
  }

  /** Blames the earlier one: it is the one without effect. */
  #usedOnce(instruction: Instruction): void {
    const earlier = this.#last.get(instruction.kind);
    this.#last.set(instruction.kind, instruction);
    if (earlier === undefined) return;
    const comments = [...instruction.comments, ...earlier.comments];
    this.#context.linter.report(
      RULES.multipleInstructionsDisallowed,
      { range: earlier.range, comments },
      {
        message: `Multiple ${instruction.keyword.text} instructions should not be used in the same stage because only the last one will be used`,
      },
    );
  }

  /** Rules with exceptions (`!`) leave it open what of a folder is there. */
  #copy(instruction: CopyInstruction, stage: StageDraft): void {
    const { ignore, linter } = this.#context;
    const isLocal = instruction.options.from === undefined;
    if (ignore === undefined || ignore.hasExceptions || !isLocal) return;
    for (const source of instruction.sources) {
      if (source.kind !== 'path') continue;
      const text = stage.expand(source.word);
      const path = imagePath(text);
      if (path === '' || /^[a-z]+:\/\/|^git@/.test(text) || !ignore.ignores(path)) continue;
      const verb = instruction.kind === 'COPY' ? 'Copy' : 'Add';
      linter.report(RULES.copyIgnoredFile, instruction, {
        message: `Attempting to ${verb} file ${JSON.stringify(path)} that is excluded by .dockerignore`,
      });
    }
  }

  #workdir(instruction: WordInstruction, stage: StageDraft): void {
    const path = stage.expand(instruction.word);
    if (!this.#workdirSet && !path.startsWith('/')) {
      this.#context.linter.report(RULES.workdirRelativePath, instruction, {
        message: `Relative workdir ${JSON.stringify(path)} can have unexpected results if the base image changes`,
        hint: 'write an absolute path',
      });
    }
    this.#workdirSet = true;
  }

  #expose(instruction: WordsInstruction, stage: StageDraft): void {
    const { linter } = this.#context;
    for (const port of instruction.words.flatMap((word) => stage.expandAll(word))) {
      const parts = port.split(':');
      const protocol = parts.at(-1)?.split('/')[1] ?? '';
      if (protocol !== protocol.toLowerCase()) {
        linter.report(RULES.exposeProtoCasing, instruction, {
          message: `Defined protocol '${port}' in EXPOSE instruction should be lowercase`,
        });
      }
      if (parts.slice(0, -1).every((part) => part === '')) continue;
      linter.report(RULES.exposeInvalidFormat, instruction, {
        message: `EXPOSE instruction should not define an IP address or host-port mapping, found '${port}'`,
      });
    }
  }
}

/** Is the image that was found for another platform than the one that was asked for? */
export function checkBasePlatform(
  from: FromInstruction,
  image: { readonly name: string; readonly wanted: Platform; readonly found: Platform },
  linter: Linter,
): void {
  const { name, wanted, found } = image;
  if (wanted.os === found.os && wanted.architecture === found.architecture) return;
  linter.report(RULES.invalidBaseImagePlatform, from, {
    message: `Base image ${name} was pulled with platform ${shown(found)}, expected ${shown(wanted)} for current build`,
  });
}

/** Without the variant that goes without saying. */
function shown({ variant, ...platform }: Platform): string {
  const usual = platform.architecture === 'arm64' ? 'v8' : 'v1';
  return JSON.stringify(
    formatPlatform(variant === undefined || variant === usual ? platform : { ...platform, variant }),
  );
}
