import type { Action, Canonical } from '../../cache/index.ts';
import { imagePath, type NetworkMode, type Platform } from '../../core/index.ts';
import { formatPlatform } from '../../image/index.ts';
import type { RunMount, RunStep } from '../graph.ts';

/** What of a RUN can change its result, and so is part of its action. */
export type RunFields = Pick<
  RunStep,
  'platform' | 'args' | 'script' | 'environment' | 'user' | 'workdir' | 'network' | 'mounts'
>;

export function runDefinition(step: RunFields): Action['definition'] {
  return {
    command: step.args,
    script: step.script === undefined ? undefined : { ...step.script },
    environment: { ...step.environment },
    user: step.user,
    workdir: step.workdir,
    network: step.network,
    mounts: step.mounts.map((mount) => ({ ...mount })),
    platform: formatPlatform(step.platform),
  };
}

/** Reads back what {@link runDefinition} wrote. @throws Error for anything else: a record's digest vouches for its definition. */
export function readRunDefinition(definition: Action['definition']): RunFields {
  const { command, script, environment, user, workdir, network, mounts, platform } = definition;
  return {
    platform: platformOf(textOf(platform)),
    args: listOf(command).map(textOf),
    ...(script === undefined
      ? {}
      : { script: { name: textOf(fieldsOf(script)['name']), text: textOf(fieldsOf(script)['text']) } }),
    environment: Object.fromEntries(
      Object.entries(fieldsOf(environment)).map(([name, value]) => [name, textOf(value)]),
    ),
    user: textOf(user),
    workdir: imagePath(textOf(workdir)),
    network: networkOf(network),
    mounts: listOf(mounts).map(mountOf),
  };
}

function platformOf(text: string): Platform {
  const [os, architecture, variant] = text.split('/');
  if (os === undefined || architecture === undefined) return refuse(text);
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

type Field = Canonical | undefined;

function mountOf(field: Field): RunMount {
  const { type, target, sizeBytes } = fieldsOf(field);
  if (type !== 'tmpfs') return refuse(type);
  if (sizeBytes === undefined) return { type, target: imagePath(textOf(target)) };
  return typeof sizeBytes === 'number'
    ? { type, target: imagePath(textOf(target)), sizeBytes }
    : refuse(sizeBytes);
}

function networkOf(field: Field): NetworkMode {
  return field === 'default' || field === 'none' || field === 'host' ? field : refuse(field);
}

function textOf(field: Field): string {
  return typeof field === 'string' ? field : refuse(field);
}

function listOf(field: Field): readonly Canonical[] {
  return Array.isArray(field) ? field : refuse(field);
}

function fieldsOf(field: Field): { readonly [name: string]: Field } {
  const isFields = typeof field === 'object' && field !== null && !Array.isArray(field);
  return isFields ? Object.fromEntries(Object.entries(field)) : refuse(field);
}

function refuse(field: Field): never {
  throw new Error(`not part of the definition of a RUN: ${JSON.stringify(field)}`);
}
