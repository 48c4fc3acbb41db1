import { ROOT_PATH } from '../../core/index.ts';
import type { CopyInstruction, CopySource, Flag } from '../../parser/index.ts';
import type { CopySourcePlan, CopyStep, TreeRef } from '../graph.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

const LATER_FLAGS = new Set(['parents', 'exclude', 'keep-git-dir', 'checksum', 'unpack']);
const REMOTE = /^(?:https?|git|ssh|ftp):\/\/|^git@/;

/** COPY and ADD of local files, heredocs and, with `--from`, files of a stage or an image. */
export function planCopy(instruction: CopyInstruction, stage: StageDraft): void {
  const flags = new Map<string, Flag>();
  for (const flag of instruction.flags) {
    if (LATER_FLAGS.has(flag.name)) {
      stop('unsupported-flag', `${instruction.kind} --${flag.name} is not supported yet`, {
        range: flag.range,
      });
    }
    flags.set(flag.name, flag);
  }
  const from = treeOf(flags.get('from'), stage);
  const sources = instruction.sources.map((source) => planSource(source, from, instruction.kind, stage));
  const destination = destinationOf(stage.expand(instruction.destination), stage);
  if (sources.length > 1 && !destination.endsWith('/')) {
    stop(
      'copy-destination-not-folder',
      `When using ${instruction.kind} with more than one source file, the destination must be a directory and end with a /`,
      {
        range: instruction.destination.range,
        hint: `Write ${destination}/ instead of ${destination}.`,
      },
    );
  }
  const chown = flagValue(flags.get('chown'), stage);
  const chmod = modeOf(flags.get('chmod'), stage);
  const details: Omit<CopyStep, 'info' | 'stage' | 'noCache' | 'caching' | 'slot'> = {
    kind: instruction.kind,
    sources,
    destination,
    ...(chown === undefined ? {} : { chown }),
    ...(chmod === undefined ? {} : { chmod }),
  };
  stage.addStep(instruction, details, instruction.source);
}

function treeOf(flag: Flag | undefined, stage: StageDraft): TreeRef {
  if (flag === undefined) return { kind: 'context' };
  return stage.context.treeNamed(flag.value ?? '');
}

function planSource(
  source: CopySource,
  from: TreeRef,
  kind: 'COPY' | 'ADD',
  stage: StageDraft,
): CopySourcePlan {
  if (source.kind === 'heredoc') {
    const { heredoc } = source;
    const text = heredoc.expand ? stage.expandHeredoc(heredoc) : heredoc.body;
    return { kind: 'inline', name: heredoc.name, text };
  }
  const pattern = stage.expand(source.word);
  if (REMOTE.test(pattern)) {
    if (kind === 'COPY') {
      stop('copy-source-not-local', `source can't be a URL for COPY: ${pattern}`, {
        range: source.word.range,
        hint: 'ADD takes URLs.',
      });
    }
    stop('unsupported-source', `ADD from ${pattern} is not supported yet: only local files are`, {
      range: source.word.range,
    });
  }
  return { kind: 'path', from, pattern, range: source.word.range };
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

/** The value with variables expanded; one that comes to nothing counts as absent. */
function flagValue(flag: Flag | undefined, stage: StageDraft): string | undefined {
  if (flag === undefined) return undefined;
  const text = stage.expand({ text: flag.value ?? '', range: flag.range });
  return text === '' ? undefined : text;
}

/** Octal digits up to 7777, as BuildKit takes them. */
function modeOf(flag: Flag | undefined, stage: StageDraft): number | undefined {
  const text = flagValue(flag, stage);
  if (flag === undefined || text === undefined) return undefined;
  const mode = /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : undefined;
  if (mode !== undefined && mode <= 0o7777) return mode;
  stop('invalid-mode', `invalid chmod parameter: ${JSON.stringify(text)}`, {
    range: flag.range,
    hint: 'Write octal digits from 0 to 7777, such as --chmod=755.',
  });
}
