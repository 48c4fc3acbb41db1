import type { FlagSpecs } from './spec.ts';

/** Flags that every command takes, before or after its name. */
export const GLOBAL_FLAGS = {
  root: { type: 'string', placeholder: 'DIR', help: 'Folder that holds images, layers and the cache' },
  config: {
    type: 'string',
    placeholder: 'DIR',
    help: "Folder of Docker's config.json, for credentials",
    shownDefault: '"~/.docker"',
  },
  debug: { type: 'boolean', short: 'D', help: 'Tell causes and stack traces of errors' },
} as const satisfies FlagSpecs;

export interface GlobalOptions {
  readonly root: string | undefined;
  readonly config: string | undefined;
  readonly debug: boolean;
}

/** What was given after the command's name wins over what was given before it. */
export function mergeGlobals(before: GlobalOptions, after: GlobalOptions): GlobalOptions {
  return {
    root: after.root ?? before.root,
    config: after.config ?? before.config,
    debug: after.debug || before.debug,
  };
}
