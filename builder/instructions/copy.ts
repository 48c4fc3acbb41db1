import { ROOT_PATH, withoutCredentials } from '../../core/index.ts';
import type { CopyInstruction, Heredoc, Word } from '../../parser/index.ts';
import { parseMode } from '../file-mode.ts';
import type { CopySourcePlan, CopyStep, TreeRef } from '../graph.ts';
import { ignoreRulesOf } from '../ignore.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';
import { planRemote } from './add-remote.ts';

/** COPY and ADD of files and heredocs; with `--from`, of a stage or an image; ADD also from other machines. */
export function planCopy(instruction: CopyInstruction, stage: StageDraft): void {
  const { options, kind } = instruction;
  const checksum = expandOptional(options.checksum, stage);
  if (checksum !== undefined && instruction.sources.length > 1) {
    stop('bad-checksum', "checksum can't be specified for multiple sources", {
      range: options.checksum?.range ?? instruction.range,
      hint: 'Add each of them with an ADD of its own.',
    });
  }
  const from = treeOf(options.from, stage);
  const sources = instruction.sources.map((source) =>
    source.kind === 'heredoc'
      ? planHeredoc(source.heredoc, stage)
      : planWord(source.word, { from, instruction, checksum, stage }),
  );
  const details: Omit<CopyStep, 'info' | 'stage' | 'noCache' | 'caching' | 'slot'> = {
    kind,
    // Heredocs come behind all paths, as in BuildKit.
    sources: [...sources].sort((a, b) => Number(a.kind === 'inline') - Number(b.kind === 'inline')),
    destination: destinationOf(stage.expand(instruction.destination), stage),
    ...planOptions(instruction, stage),
  };
  stage.addStep(instruction, details, historyOf(instruction, stage));
}

/** The line of the image's history, as BuildKit writes it: with variables expanded, and without flags that say where files come from. */
function historyOf({ kind, options, sources, destination }: CopyInstruction, stage: StageDraft): string {
  const flag = (name: 'chown' | 'chmod'): readonly string[] => {
    const value = expandOptional(options[name], stage);
    return value === undefined ? [] : [`--${name}=${value}`];
  };
  const words = sources.flatMap((one) =>
    one.kind === 'path' ? [withoutCredentials(stage.expand(one.word))] : [],
  );
  const texts = sources.flatMap((one) => (one.kind === 'heredoc' ? [`<<${one.heredoc.name}`] : []));
  const parents = options.parents === true ? ['--parents'] : [];
  return [
    kind,
    ...parents,
    ...flag('chown'),
    ...flag('chmod'),
    ...words,
    ...texts,
    stage.expand(destination),
  ].join(' ');
}

type PlannedOptions = Pick<CopyStep, 'chown' | 'chmod' | 'link' | 'parents' | 'exclude' | 'unpack'>;

/** What the flags say, but for where the sources are. BuildKit links nothing whose mode is to be changed. */
function planOptions(instruction: CopyInstruction, stage: StageDraft): PlannedOptions {
  const { options } = instruction;
  const chown = expandOptional(options.chown, stage);
  const chmod = modeOf(instruction, stage);
  const exclude = options.exclude.flatMap((pattern) => excludeOf(pattern));
  return {
    ...(chown === undefined ? {} : { chown }),
    ...(chmod === undefined ? {} : { chmod }),
    ...(options.link === true && chmod === undefined ? { link: true } : {}),
    ...(options.parents === true ? { parents: true } : {}),
    ...(exclude.length === 0 ? {} : { exclude }),
    ...(options.unpack === undefined ? {} : { unpack: options.unpack }),
  };
}

/** A pattern of `--exclude`, none where it is empty; ends the build where it is no pattern. */
function excludeOf({ text, range }: Word): readonly string[] {
  const rules = ignoreRulesOf([text]);
  if (!rules.ok) stop('bad-pattern', `--exclude: ${rules.error}`, { range });
  return text.trim() === '' ? [] : [text];
}

function treeOf(from: Word | undefined, stage: StageDraft): TreeRef {
  return from === undefined || from.text === '' ? { kind: 'context' } : stage.context.treeNamed(from.text);
}

function planHeredoc(heredoc: Heredoc, stage: StageDraft): CopySourcePlan {
  const text = heredoc.expand ? stage.expandHeredoc(heredoc) : heredoc.body;
  return { kind: 'inline', name: heredoc.name, text };
}

interface WordPlace {
  readonly from: TreeRef;
  readonly instruction: CopyInstruction;
  readonly checksum: string | undefined;
  readonly stage: StageDraft;
}

function planWord(word: Word, place: WordPlace): CopySourcePlan {
  const { from, instruction, checksum, stage } = place;
  const text = stage.expand(word);
  const remote = planRemote(text, {
    instruction,
    checksum,
    destination: destinationOf(stage.expand(instruction.destination), stage),
    range: word.range,
  });
  if (remote !== undefined) return remote;
  if (checksum !== undefined) {
    stop('bad-checksum', 'checksum requires HTTP(S) or Git sources', {
      range: instruction.options.checksum?.range ?? instruction.range,
      hint: 'Files of the build context are compared by their content anyway.',
    });
  }
  return { kind: 'path', from, pattern: text, range: word.range };
}

/** Joins a relative destination to the work folder; `.` and the empty text mean the folder itself. */
function destinationOf(text: string, stage: StageDraft): string {
  const folder =
    text.endsWith('/') || text === '.' || text === '' || text.endsWith('/.') || text.endsWith('..');
  const base = stage.workdir === ROOT_PATH ? '' : `/${stage.workdir}`;
  const parts: string[] = [];
  for (const part of (text.startsWith('/') ? text : `${base}/${text}`).split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  const path = `/${parts.join('/')}`;
  return folder && path !== '/' ? `${path}/` : path;
}

/** The word with variables expanded; one that comes to nothing counts as absent. */
function expandOptional(word: Word | undefined, stage: StageDraft): string | undefined {
  const text = word === undefined ? '' : stage.expand(word);
  return text === '' ? undefined : text;
}

function modeOf({ options, flags }: CopyInstruction, stage: StageDraft): number | string | undefined {
  const text = expandOptional(options.chmod, stage);
  if (text === undefined) return undefined;
  const mode = parseMode(text);
  if (mode.ok) return /^\d/.test(text) ? Number.parseInt(text, 8) : text;
  const flag = flags.find((one) => one.name === 'chmod');
  return stop('invalid-mode', mode.error, {
    ...(flag === undefined ? {} : { range: flag.range }),
    hint: 'Write octal digits, such as --chmod=755, or changes, such as --chmod=u=rwX,go=rX.',
  });
}
