import { parseAge, UsageError } from '../../core/index.ts';
import { defineSpec } from '../argv/spec.ts';
import { type CommandContext, defineCommand, write } from '../command.ts';
import type { PrunedType, PruneOptions } from '../engine-contract.ts';
import { ask } from '../prompt.ts';
import { styleFor } from '../style.ts';
import { renderCacheList, renderDiskUsage, renderPrune } from '../views/cache.ts';
import { isAnyWrong, renderVerified } from '../views/verify.ts';

export const cacheLs = defineCommand(
  defineSpec({
    name: 'cache ls',
    summary: 'List the steps that can be reused, and cache mounts',
    usage: '[OPTIONS]',
    positionals: { min: 0, max: 0 },
    flags: {
      format: { type: 'string', help: 'Format output', choices: ['table', 'json'], shownDefault: '"table"' },
      'no-trunc': { type: 'boolean', help: "Don't truncate output" },
      quiet: { type: 'boolean', short: 'q', help: 'Only show keys' },
    },
  }),
  async ({ flags }, context) => {
    await using engine = await context.openEngine();
    const entries = await engine.cacheRecords();
    const options = { noTrunc: flags['no-trunc'], quiet: flags.quiet, now: context.now() };
    const json = flags.format === 'json' && !flags.quiet;
    const text = json
      ? entries.map((entry) => `${JSON.stringify(entry)}\n`).join('')
      : renderCacheList(entries, options);
    await write(context.streams.stdout, text);
    return 0;
  },
);

export const cacheDu = defineCommand(
  defineSpec({
    name: 'cache du',
    summary: 'Show how much room images and cache take',
    usage: '[OPTIONS]',
    positionals: { min: 0, max: 0 },
    flags: {
      format: { type: 'string', help: 'Format output', choices: ['table', 'json'], shownDefault: '"table"' },
    },
  }),
  async ({ flags }, context) => {
    await using engine = await context.openEngine();
    const usage = await engine.diskUsage();
    await write(
      context.streams.stdout,
      flags.format === 'json' ? `${JSON.stringify(usage)}\n` : renderDiskUsage(usage),
    );
    return 0;
  },
);

export const cachePrune = defineCommand(
  defineSpec({
    name: 'cache prune',
    summary: 'Remove what can be built again, least used first',
    usage: '[OPTIONS]',
    details: 'What an image or a running build needs is never removed.',
    positionals: { min: 0, max: 0 },
    flags: {
      all: { type: 'boolean', short: 'a', help: 'Also remove images without a name' },
      filter: { type: 'list', help: 'Provide filter values (e.g., "until=24h", "type=exec.cachemount")' },
      force: { type: 'boolean', short: 'f', help: 'Do not prompt for confirmation' },
      'keep-storage': { type: 'size', help: 'Amount of disk space to keep for cache' },
    },
  }),
  async ({ flags }, context) => {
    const filters = readFilters(flags.filter);
    const keepBytes = flags['keep-storage'];
    if (!flags.force && !(await confirm('This removes build cache that no image needs.', context))) return 1;
    await using engine = await context.openEngine();
    const result = await engine.prune({
      all: flags.all,
      signal: context.interrupt.signal,
      ...(keepBytes === undefined ? {} : { keepBytes }),
      ...filters,
    });
    await write(context.streams.stdout, renderPrune(result));
    return 0;
  },
);

export const cacheVerify = defineCommand(
  defineSpec({
    name: 'cache verify',
    summary: 'Run recorded steps again and compare what they leave',
    usage: '[OPTIONS]',
    details:
      'RUN steps are run on the layers that they were recorded on. COPY, ADD and WORKDIR need their context: build with --verify-cache.',
    positionals: { min: 0, max: 0 },
    flags: {
      'cache-noise': {
        type: 'list',
        placeholder: 'PATH',
        help: 'Paths in the image that differ in every run, left out when results are compared',
      },
      sample: {
        type: 'number',
        placeholder: 'N',
        help: 'Verify N steps, chosen at random',
        shownDefault: 'all',
      },
      format: { type: 'string', help: 'Format output', choices: ['text', 'json'], shownDefault: '"text"' },
    },
  }),
  async ({ flags }, context) => {
    const { stdout, stderr } = context.streams;
    const { sample } = flags;
    if (sample !== undefined && !(Number.isInteger(sample) && sample > 0)) {
      throw new UsageError('--sample must be a whole number above 0');
    }
    await using engine = await context.openEngine();
    const verified = await engine.verify({
      ...(sample === undefined ? {} : { sample }),
      noise: flags['cache-noise'],
      signal: context.interrupt.signal,
      onStep: (done) => {
        if (stderr.isTTY === true) stderr.write(`\rverified ${done} steps`);
      },
    });
    if (stderr.isTTY === true) stderr.write('\r\x1b[K');
    const json = flags.format === 'json';
    const style = styleFor(stdout, context.env);
    await write(stdout, json ? `${JSON.stringify(verified)}\n` : renderVerified(verified, style));
    return isAnyWrong(verified) ? 1 : 0;
  },
);

/** `until=24h` (also `unused-for`) and `type=`: of each key the last one counts. */
function readFilters(filters: readonly string[]): Pick<PruneOptions, 'unusedForMs' | 'type'> {
  let chosen: Pick<PruneOptions, 'unusedForMs' | 'type'> = {};
  for (const filter of filters) {
    const [, key = '', value = ''] = /^([^=]*)=(.*)$/.exec(filter) ?? [];
    const unusedForMs = key === 'until' || key === 'unused-for' ? parseAge(value) : undefined;
    const type = key === 'type' ? PRUNED_TYPES.find((one) => one === value) : undefined;
    if (unusedForMs === undefined && type === undefined) {
      throw new UsageError(
        `--filter: ${JSON.stringify(filter)} is not supported`,
        `Write until=24h, or type=${PRUNED_TYPES.join(' or type=')}.`,
      );
    }
    if (unusedForMs !== undefined) chosen = { ...chosen, unusedForMs };
    if (type !== undefined) chosen = { ...chosen, type };
  }
  return chosen;
}

const PRUNED_TYPES: readonly PrunedType[] = ['regular', 'exec.cachemount'];

/** Asks on a terminal; a script, which nobody can answer for, meant what it said. */
async function confirm(warning: string, context: CommandContext): Promise<boolean> {
  if (context.streams.stdin.isTTY !== true) return true;
  context.streams.stderr.write(`WARNING! ${warning}\n`);
  const answer = await ask('Are you sure you want to continue? [y/N] ', { secret: false }, context);
  return /^y(?:es)?$/i.test(answer);
}
