import {
  familiarName,
  formatReference,
  MachineError,
  parseReference,
  type Reference,
  UsageError,
} from '../../core/index.ts';
import { defineSpec } from '../argv/spec.ts';
import { defineCommand } from '../command.ts';
import type { Engine } from '../engine-contract.ts';
import { TransferLines } from '../progress/transfer.ts';

const QUIET = { type: 'boolean', short: 'q', help: 'Suppress verbose output' } as const;

export const pull = defineCommand(
  defineSpec({
    name: 'pull',
    summary: 'Download an image from a registry',
    usage: '[OPTIONS] NAME[:TAG|@DIGEST]',
    positionals: { min: 1, max: 1 },
    flags: {
      'all-tags': {
        type: 'boolean',
        short: 'a',
        help: 'Download all tagged images',
        unsupported: { except: ['false'] },
      },
      'disable-content-trust': { type: 'boolean', help: 'Has no effect', hidden: true },
      platform: { type: 'string', help: 'Platform of the image, where the registry has several' },
      quiet: QUIET,
    },
  }),
  async ({ flags, positionals }, context) => {
    const reference = readReference(positionals[0] ?? '');
    const say = (line: string): void => void (flags.quiet || context.streams.stdout.write(`${line}\n`));
    await using engine = await context.openEngine();
    say(`${reference.tag ?? reference.digest ?? ''}: Pulling from ${reference.repository}`);
    const lines = new TransferLines(say);
    const { image, upToDate } = await engine.pull(formatReference(reference), {
      signal: context.interrupt.signal,
      onProgress: (progress) => lines.handle(progress),
      ...(flags.platform === undefined ? {} : { platform: flags.platform }),
    });
    const status = upToDate ? 'Image is up to date for' : 'Downloaded newer image for';
    say(`Digest: ${image.indexDigests?.[formatReference(reference)] ?? image.manifestDigest}`);
    say(`Status: ${status} ${familiarName(reference)}`);
    context.streams.stdout.write(`${formatReference(reference)}\n`);
    return 0;
  },
);

export const push = defineCommand(
  defineSpec({
    name: 'push',
    summary: 'Upload an image to a registry',
    usage: '[OPTIONS] NAME[:TAG]',
    positionals: { min: 1, max: 1 },
    flags: {
      'all-tags': {
        type: 'boolean',
        short: 'a',
        help: 'Push all tags of an image',
      },
      'disable-content-trust': { type: 'boolean', help: 'Has no effect', hidden: true },
      platform: {
        type: 'string',
        help: 'Push the image for this platform alone, where the name means several',
      },
      quiet: QUIET,
    },
  }),
  async ({ flags, positionals }, context) => {
    const reference = readReference(positionals[0] ?? '');
    if (reference.digest !== undefined) throw new UsageError('cannot push to a digest', 'Push to a tag.');
    const say = (line: string): void => void (flags.quiet || context.streams.stdout.write(`${line}\n`));
    if (flags['all-tags'] && hasTag(positionals[0] ?? '')) {
      throw new UsageError("a tag can't be used with --all-tags", 'Leave the tag away.');
    }
    await using engine = await context.openEngine();
    say(`The push refers to repository [${reference.host}/${reference.repository}]`);
    const all = flags['all-tags'] ? await tagsOf(engine, reference) : [reference];
    for (const one of all) {
      const lines = new TransferLines(say);
      const { digest, size } = await engine.push(formatReference(one), {
        signal: context.interrupt.signal,
        onProgress: (progress) => lines.handle(progress),
        ...(flags.platform === undefined ? {} : { platform: flags.platform }),
      });
      say(`${one.tag ?? 'latest'}: digest: ${digest} size: ${size}`);
      if (flags.quiet) context.streams.stdout.write(`${formatReference(one)}\n`);
    }
    return 0;
  },
);

function hasTag(text: string): boolean {
  return /:[^/]*$/.test(text);
}

/** Every name that this machine has in the repository, in order. */
async function tagsOf(engine: Engine, { host, repository }: Reference): Promise<readonly Reference[]> {
  const names = new Set((await engine.images()).flatMap(({ image }) => image.names));
  const found = [...names].sort().map(readReference);
  const tags = found.filter((one) => one.host === host && one.repository === repository);
  if (tags.length > 0) return tags;
  throw new MachineError(
    'image-unknown',
    `an image does not exist locally with the tag: ${host}/${repository}`,
    {
      hint: "'varve images' lists what is here.",
    },
  );
}

function readReference(text: string): Reference {
  const parsed = parseReference(text);
  if (!parsed.ok) throw new UsageError(parsed.error);
  return parsed.value;
}
