import { familiarName, formatReference, MachineError, parseReference, UsageError } from '../../core/index.ts';
import { defineSpec } from '../argv/spec.ts';
import { type CommandContext, defineCommand, write } from '../command.ts';
import type { Engine, ImageDetails, ImageSummary } from '../engine-contract.ts';
import { renderHistory, renderImages, renderInspect } from '../views/images.ts';

const PLATFORM = {
  type: 'string',
  help: 'Show the image for this platform, where the name means several',
} as const;
const MANY = Number.POSITIVE_INFINITY;
const unsupported = (help: string) => ({ type: 'string', help, unsupported: { except: [] } }) as const;

export const images = defineCommand(
  defineSpec({
    name: 'images',
    summary: 'List images',
    usage: '[OPTIONS] [REPOSITORY[:TAG]]',
    positionals: { min: 0, max: 1 },
    flags: {
      all: {
        type: 'boolean',
        short: 'a',
        help: 'Show images for other platforms too, and which platform each is for',
      },
      digests: { type: 'boolean', help: 'Show digests' },
      filter: { ...unsupported('Filter output based on conditions provided'), short: 'f' },
      format: { type: 'string', help: 'Format output', choices: ['table', 'json'], shownDefault: '"table"' },
      'no-trunc': { type: 'boolean', help: "Don't truncate output" },
      quiet: { type: 'boolean', short: 'q', help: 'Only show image IDs' },
    },
  }),
  async ({ flags, positionals }, context) => {
    await using engine = await context.openEngine();
    const all = await engine.images();
    const text = renderImages(positionals[0] === undefined ? all : matching(all, positionals[0]), {
      quiet: flags.quiet,
      noTrunc: flags['no-trunc'],
      digests: flags.digests,
      all: flags.all,
      format: flags.format === 'json' ? 'json' : 'table',
      now: context.now(),
    });
    await write(context.streams.stdout, text);
    return 0;
  },
);

/** Images with a name in this repository (and with this tag, where one is given), and only those names of them. */
function matching(all: readonly ImageSummary[], wanted: string): ImageSummary[] {
  const parsed = parseReference(wanted);
  if (!parsed.ok) throw new UsageError(parsed.error);
  const anyTag = !/:[^/]*$/.test(wanted);
  const repository = (name: string): string => name.replace(/:[^/]*$/, '');
  const full = formatReference(parsed.value);
  return all.flatMap((summary) => {
    const names = summary.image.names.filter((name) =>
      anyTag ? repository(name) === repository(full) : name === full,
    );
    return names.length === 0 ? [] : [{ ...summary, image: { ...summary.image, names } }];
  });
}

export const rmi = defineCommand(
  defineSpec({
    name: 'rmi',
    summary: 'Remove one or more images',
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    positionals: { min: 1, max: MANY },
    flags: {
      force: { type: 'boolean', short: 'f', help: 'Force removal of the image' },
      'no-prune': { type: 'boolean', help: 'Do not delete layers that nothing needs any more' },
      platform: {
        type: 'string',
        help: 'Remove only the image for this platform, where the name means several',
      },
    },
  }),
  async ({ flags, positionals }, context) => {
    await using engine = await context.openEngine();
    return await forEachImage(positionals, context, async (name) => {
      const options = {
        force: flags.force,
        prune: !flags['no-prune'],
        ...(flags.platform === undefined ? {} : { platform: flags.platform }),
      };
      for (const removed of await engine.remove(name, options)) {
        const line =
          removed.kind === 'untagged' ? `Untagged: ${familiar(removed.name)}` : `Deleted: ${removed.id}`;
        context.streams.stdout.write(`${line}\n`);
      }
    });
  },
);

/** Does `work` for every name; one that fails is told and does not stop the others. Exit code 1 where one failed. */
async function forEachImage(
  names: readonly string[],
  { streams }: CommandContext,
  work: (name: string) => Promise<void>,
): Promise<number> {
  let code = 0;
  for (const name of names) {
    try {
      await work(name);
    } catch (error) {
      if (!(error instanceof MachineError)) throw error;
      streams.stderr.write(`varve: ${error.message}\n`);
      code = 1;
    }
  }
  return code;
}

function familiar(name: string): string {
  const parsed = parseReference(name);
  return parsed.ok ? familiarName(parsed.value) : name;
}

export const tag = defineCommand(
  defineSpec({
    name: 'tag',
    summary: 'Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE',
    usage: 'SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]',
    positionals: { min: 2, max: 2 },
    flags: {},
  }),
  async ({ positionals }, context) => {
    const [source = '', target = ''] = positionals;
    const parsed = parseReference(target);
    if (!parsed.ok) throw new UsageError(parsed.error);
    if (parsed.value.digest !== undefined) throw new UsageError('a name for an image cannot hold a digest');
    await using engine = await context.openEngine();
    await engine.tag(source, formatReference(parsed.value));
    return 0;
  },
);

export const inspect = defineCommand(
  defineSpec({
    name: 'inspect',
    summary: 'Return low-level information on images, as JSON',
    usage: 'IMAGE [IMAGE...]',
    positionals: { min: 1, max: MANY },
    flags: {
      format: { ...unsupported('Format output using a custom template'), short: 'f' },
      platform: PLATFORM,
      size: { type: 'boolean', short: 's', help: 'Sizes are always shown', hidden: true },
      type: { type: 'string', help: 'Only images exist here', choices: ['image'], hidden: true },
    },
  }),
  async ({ flags, positionals }, context) => {
    await using engine = await context.openEngine();
    const found: ImageDetails[] = [];
    const code = await forEachImage(positionals, context, async (name) => {
      found.push(await findImage(engine, name, flags.platform));
    });
    await write(context.streams.stdout, renderInspect(found));
    return code;
  },
);

export const history = defineCommand(
  defineSpec({
    name: 'history',
    summary: 'Show the history of an image',
    usage: '[OPTIONS] IMAGE',
    positionals: { min: 1, max: 1 },
    flags: {
      format: unsupported('Format output using a custom template'),
      human: {
        type: 'string',
        short: 'H',
        placeholder: 'bool',
        help: 'Print sizes and dates in human readable format',
        choices: ['true', 'false'],
        shownDefault: 'true',
      },
      'no-trunc': { type: 'boolean', help: "Don't truncate output" },
      platform: PLATFORM,
      quiet: { type: 'boolean', short: 'q', help: 'Only show image IDs' },
    },
  }),
  async ({ flags, positionals }, context) => {
    await using engine = await context.openEngine();
    const details = await findImage(engine, positionals[0] ?? '', flags.platform);
    const options = {
      quiet: flags.quiet,
      noTrunc: flags['no-trunc'],
      human: flags.human !== 'false',
      now: context.now(),
    };
    await write(context.streams.stdout, renderHistory(details, options));
    return 0;
  },
);

async function findImage(engine: Engine, name: string, platform: string | undefined): Promise<ImageDetails> {
  const found = await engine.findImage(name, platform);
  if (found !== undefined) return found;
  throw new MachineError('image-unknown', `no such image: ${name}`, {
    hint: "'varve images' lists what is here.",
  });
}
