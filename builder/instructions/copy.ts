import { ROOT_PATH } from '../../core/index.ts';
import type { CopyInstruction, CopySource, Flag } from '../../parser/index.ts';
import { parseMode } from '../file-mode.ts';
import type { CopySourcePlan, CopyStep, TreeRef } from '../graph.ts';
import { ignoreRulesOf } from '../ignore.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';

const LATER_FLAGS = new Set(['keep-git-dir', 'checksum']);
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
  const details: Omit<CopyStep, 'info' | 'stage' | 'noCache' | 'caching' | 'slot'> = {
    kind: instruction.kind,
    // Heredocs come behind all paths, as in BuildKit.
    sources: [...sources].sort((a, b) => Number(a.kind === 'inline') - Number(b.kind === 'inline')),
    destination: destinationOf(stage.expand(instruction.destination), stage),
    ...copyOptions(flags, instruction, stage),
  };
  stage.addStep(instruction, details, instruction.source);
}

type CopyOptions = Pick<CopyStep, 'chown' | 'chmod' | 'link' | 'parents' | 'exclude' | 'unpack'>;

/** What the flags say, but for where the sources are. */
function copyOptions(
  flags: ReadonlyMap<string, Flag>,
  instruction: CopyInstruction,
  stage: StageDraft,
): CopyOptions {
  const chown = flagValue(flags.get('chown'), stage);
  const chmod = modeOf(flags.get('chmod'), stage);
  const exclude = excludeOf(instruction, stage);
  const unpack = flags.get('unpack');
  return {
    ...(chown === undefined ? {} : { chown }),
    ...(chmod === undefined ? {} : { chmod }),
    ...(isOn(flags.get('link')) && chmod === undefined ? { link: true } : {}),
    ...(isOn(flags.get('parents')) ? { parents: true } : {}),
    ...(exclude.length === 0 ? {} : { exclude }),
    ...(unpack === undefined ? {} : { unpack: isOn(unpack) }),
  };
}

function isOn(flag: Flag | undefined): boolean {
  return flag !== undefined && flag.value?.toLowerCase() !== 'false';
}

/** The patterns of all `--exclude` flags; ends the build at one that is none. */
function excludeOf(instruction: CopyInstruction, stage: StageDraft): readonly string[] {
  return instruction.flags.flatMap((flag) => {
    const pattern = flag.name === 'exclude' ? flagValue(flag, stage) : undefined;
    if (pattern === undefined) return [];
    const rules = ignoreRulesOf([pattern]);
    return rules.ok ? [pattern] : stop('bad-pattern', `--exclude: ${rules.error}`, { range: flag.range });
  });
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

function modeOf(flag: Flag | undefined, stage: StageDraft): number | string | undefined {
  const text = flagValue(flag, stage);
  if (flag === undefined || text === undefined) return undefined;
  const mode = parseMode(text);
  if (mode.ok) return /^\d/.test(text) ? Number.parseInt(text, 8) : text;
  return stop('invalid-mode', mode.error, {
    range: flag.range,
    hint: 'Write octal digits, such as --chmod=755, or changes, such as --chmod=u=rwX,go=rX.',
  });
}
