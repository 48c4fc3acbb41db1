import type { NetworkMode } from '../../core/index.ts';
import {
  type DeviceFlag,
  type Flag,
  type Heredoc,
  isLoneHeredoc,
  type MountFlag,
  type RunInstruction,
} from '../../parser/index.ts';
import type { DeviceRequest, RunMount, RunStep } from '../graph.ts';
import type { StageDraft } from '../stage-draft.ts';
import { stop } from '../stop.ts';
import { DEFAULT_PATH } from '../variables.ts';
import { undeclaredProxies } from './arg.ts';
import { planMount } from './run-mount.ts';

/** RUN in its shell, exec and heredoc forms. */
export function planRun(instruction: RunInstruction, stage: StageDraft): void {
  const { args, script } = commandOf(instruction, stage);
  const mounts = mountsOf(instruction.options.mounts, stage);
  const environment = Object.fromEntries(stage.variables);
  const declared = [...stage.args].map(([name, value]) => `${name}=${stage.variables.get(name) ?? value}`);
  const prefix = declared.length === 0 ? '' : `|${declared.length} ${declared.join(' ')} `;
  stage.addStep(
    instruction,
    {
      kind: 'RUN',
      platform: stage.platform,
      ...hostnameOf(stage),
      args,
      ...(script === undefined ? {} : { script }),
      environment: { PATH: DEFAULT_PATH, ...agentVariable(mounts), ...environment },
      hiddenEnvironment: undeclaredProxies(stage),
      user: stage.user,
      workdir: stage.workdir,
      network: networkOf(instruction.flags, stage),
      mounts,
      devices: devicesOf(instruction.options.devices, stage),
      security: securityOf(instruction.flags, stage),
      limits: stage.context.limits,
    },
    `RUN ${prefix}${args.join(' ')}`,
  );
}

/**
 * How BuildKit reads heredocs on RUN: a lone heredoc is the script itself (a program that the shell starts, where it begins
 * with `#!`, not with tabs before that); beside a command, the shell gets command and heredocs as one text.
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
    const bodies = command.heredocs.map((heredoc) => `\n${heredoc.unchomped ?? heredoc.body}${heredoc.name}`);
    for (const heredoc of command.heredocs) refuseDamage(heredoc);
    return { args: stage.withShell(command.text + bodies.join('')) };
  }
  if (!(first.unchomped ?? first.body).startsWith('#!')) {
    refuseDamage(first);
    return { args: stage.withShell(first.body) };
  }
  return {
    args: stage.withShell(`/dev/pipes/${first.name}`),
    script: { name: first.name, text: first.body },
  };
}

/** What a shell gets is text; a program may hold anything. */
function refuseDamage({ body, bodyRange }: Heredoc): void {
  if (body.isWellFormed()) return;
  stop('not-utf-8', 'RUN has bytes that are not UTF-8', {
    range: bodyRange,
    hint: 'Save the Dockerfile as UTF-8, or write such bytes with printf.',
  });
}

/** `default` is what the command line says of all steps. */
function networkOf(flags: readonly Flag[], stage: StageDraft): NetworkMode {
  const flag = flags.findLast((candidate) => candidate.name === 'network');
  if (flag === undefined || flag.value === 'default') return stage.context.network;
  if (flag.value === 'none') return 'none';
  if (flag.value === 'host') {
    if (stage.context.network !== 'host') requireEntitlement('network.host', flag, stage);
    return 'host';
  }
  stop('unknown-network', `unknown network mode ${JSON.stringify(flag.value ?? '')}`, {
    range: flag.range,
    hint: 'Use --network=default, --network=none or --network=host.',
  });
}

/** `--security=insecure` takes rights that the person who builds must grant. */
function securityOf(flags: readonly Flag[], stage: StageDraft): RunStep['security'] {
  const flag = flags.findLast((candidate) => candidate.name === 'security');
  if (flag?.value !== 'insecure') return 'sandbox';
  requireEntitlement('security.insecure', flag, stage);
  return 'insecure';
}

function requireEntitlement(name: string, flag: Flag, stage: StageDraft): void {
  if (stage.context.entitlements.has(name)) return;
  stop('not-allowed', `RUN --${flag.name}=${flag.value ?? ''} is not allowed: ${name} was not granted`, {
    range: flag.range,
    hint: `Build with --allow ${name} if you trust this Dockerfile.`,
  });
}

/** Which devices a name means, and so whether it needs the right, is known when the machine's are looked up. */
function devicesOf(flags: readonly DeviceFlag[], stage: StageDraft): readonly DeviceRequest[] {
  const { entitlements } = stage.context;
  return flags.map(({ name, required, range }) => {
    if (name === '')
      stop('invalid-device', 'RUN --device needs the name of a device', { range, hint: DEVICE_HINT });
    return {
      name,
      required,
      range,
      granted: entitlements.has('device') || entitlements.has(`device=${name}`),
    };
  });
}

const DEVICE_HINT = 'Write --device=vendor.com/class=name[,required].';

function mountsOf(flags: readonly MountFlag[], stage: StageDraft): readonly RunMount[] {
  const mounts: RunMount[] = [];
  for (const flag of flags) {
    mounts.push(planMount(flag, stage, mounts.filter(({ type }) => type === 'ssh').length));
  }
  return mounts;
}

/** Where a step has agents, the first one is the one that programs ask, unless the Dockerfile says otherwise. */
function agentVariable(mounts: readonly RunMount[]): Readonly<Record<string, string>> {
  const agent = mounts.find((mount) => mount.type === 'ssh');
  return agent === undefined ? {} : { SSH_AUTH_SOCK: `/${agent.target}` };
}

/** What the command line asks the sandbox to be called. */
function hostnameOf({ context }: StageDraft): { readonly hostname?: string } {
  const hostname = context.buildArgs.get('BUILDKIT_SANDBOX_HOSTNAME') ?? '';
  return hostname === '' ? {} : { hostname };
}
