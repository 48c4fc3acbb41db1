import { imagePath, type NetworkMode, type SourceRange } from '../../core/index.ts';
import { type Flag, isLoneHeredoc, type RunInstruction } from '../../parser/index.ts';
import type { RunMount, RunStep } from '../graph.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';
import { DEFAULT_PATH } from '../variables.ts';
import { undeclaredProxies } from './arg.ts';

/** RUN in its shell, exec and heredoc forms. */
export function planRun(instruction: RunInstruction, stage: StageDraft): void {
  refuseLaterFlags(instruction);
  const { args, script } = commandOf(instruction, stage);
  const environment = Object.fromEntries(stage.variables);
  const declared = [...stage.args.keys()].map((name) => `${name}=${stage.variables.get(name) ?? ''}`);
  const prefix = declared.length === 0 ? '' : `|${declared.length} ${declared.join(' ')} `;
  stage.addStep(
    instruction,
    {
      kind: 'RUN',
      platform: stage.platform,
      args,
      ...(script === undefined ? {} : { script }),
      environment: { PATH: DEFAULT_PATH, ...environment },
      hiddenEnvironment: undeclaredProxies(stage),
      user: stage.user,
      workdir: stage.workdir,
      network: networkOf(instruction.flags, stage),
      mounts: instruction.flags.filter((flag) => flag.name === 'mount').map((flag) => mountOf(flag, stage)),
    },
    `RUN ${prefix}${args.join(' ')}`,
  );
}

/**
 * How BuildKit reads heredocs on RUN: a lone heredoc is the script itself (run as a program where it starts with `#!`);
 * beside a command, the shell gets command and heredocs as one text.
 */
function commandOf(instruction: RunInstruction, stage: StageDraft): Pick<RunStep, 'args' | 'script'> {
  const { command } = instruction;
  if (command.form === 'exec') {
    if (command.args.length === 0) stop('empty-run', 'RUN requires a command', { range: instruction.range });
    return { args: command.args };
  }
  const [first, ...others] = command.heredocs;
  if (first === undefined) return { args: stage.withShell(command.text) };
  const alone = others.length === 0 && isLoneHeredoc(command.text);
  if (!alone) {
    const bodies = command.heredocs.map((heredoc) => `\n${heredoc.body}${heredoc.name}`);
    return { args: stage.withShell(command.text + bodies.join('')) };
  }
  if (!first.body.startsWith('#!')) return { args: stage.withShell(first.body) };
  return { args: [`/dev/pipes/${first.name}`], script: { name: first.name, text: first.body } };
}

function networkOf(flags: readonly Flag[], stage: StageDraft): NetworkMode {
  const flag = flags.findLast((candidate) => candidate.name === 'network');
  if (flag === undefined) return stage.context.network;
  if (flag.value === 'default' || flag.value === 'none' || flag.value === 'host') return flag.value;
  stop('unknown-network', `unknown network mode ${JSON.stringify(flag.value ?? '')}`, {
    range: flag.range,
    hint: 'Use --network=default, --network=none or --network=host.',
  });
}

function refuseLaterFlags(instruction: RunInstruction): void {
  for (const { name, value, range } of instruction.flags) {
    const known = name === 'mount' || name === 'network' || (name === 'security' && value === 'sandbox');
    if (known) continue;
    const shown = value === undefined ? name : `${name}=${value}`;
    stop('unsupported-flag', `RUN --${shown} is not supported yet`, { range });
  }
}

const MOUNT_FIELDS = new Set(['type', 'target', 'dst', 'destination', 'size']);

function mountOf(flag: Flag, stage: StageDraft): RunMount {
  const { range } = flag;
  const fields = new Map<string, string>();
  for (const part of (flag.value ?? '').split(',')) {
    const equals = part.indexOf('=');
    const value = equals === -1 ? 'true' : stage.expand({ text: part.slice(equals + 1), range });
    fields.set((equals === -1 ? part : part.slice(0, equals)).toLowerCase(), value);
  }
  const type = fields.get('type') ?? 'bind';
  if (type !== 'tmpfs') {
    stop('unsupported-mount', `RUN --mount=type=${type} is not supported yet`, {
      range,
      hint: 'Only --mount=type=tmpfs,target=PATH is. COPY the files that the step needs.',
    });
  }
  const unknown = [...fields.keys()].find((field) => !MOUNT_FIELDS.has(field));
  if (unknown !== undefined) {
    stop('invalid-mount', `unexpected key ${JSON.stringify(unknown)} in RUN --mount=type=tmpfs`, {
      range,
      hint: 'A tmpfs takes target and size.',
    });
  }
  const target = fields.get('target') ?? fields.get('dst') ?? fields.get('destination');
  if (target === undefined || target === '') {
    stop('mount-target-missing', 'RUN --mount needs target=PATH', { range });
  }
  const size = fields.get('size');
  const sizeBytes = size === undefined ? {} : { sizeBytes: readSize(size, range) };
  return { type, target: imagePath(target, stage.workdir), ...sizeBytes };
}

const UNITS = 'bkmgt';

/** Bytes, or a number with a unit of powers of 1024: `64m`, `1.5g`, `1GiB`. */
function readSize(text: string, range: SourceRange): number {
  const match = /^(\d+(?:\.\d+)?) ?(?:([kmgt])i?)?b?$/i.exec(text);
  if (match === null) {
    stop('invalid-mount', `invalid value for size: ${JSON.stringify(text)}`, {
      range,
      hint: 'Write bytes, or a number with a unit: size=64m.',
    });
  }
  return Math.trunc(Number(match[1]) * 1024 ** UNITS.indexOf((match[2] ?? 'b').toLowerCase()));
}
