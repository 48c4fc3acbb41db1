import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { errnoOf, familiarName, MachineError, parseReference, UsageError } from '../../core/index.ts';
import { defineSpec } from '../argv/spec.ts';
import { defineCommand, write } from '../command.ts';

export const save = defineCommand(
  defineSpec({
    name: 'save',
    summary: 'Save one or more images to a tar archive (streamed to STDOUT by default)',
    usage: '[OPTIONS] IMAGE [IMAGE...]',
    positionals: { min: 1, max: Number.POSITIVE_INFINITY },
    flags: {
      output: { type: 'string', short: 'o', help: 'Write to a file, instead of STDOUT' },
      platform: { type: 'string', help: 'Save only the image for this platform, where a name means several' },
    },
  }),
  async ({ flags, positionals }, context) => {
    const { stdout } = context.streams;
    const { signal } = context.interrupt;
    if (flags.output === undefined && stdout.isTTY === true) {
      throw new UsageError('cowardly refusing to save to a terminal', 'Use the -o flag or redirect.');
    }
    await using engine = await context.openEngine();
    const bytes = engine.save(positionals, signal, flags.platform);
    if (flags.output === undefined) {
      for await (const chunk of bytes) await write(stdout, chunk);
      return 0;
    }
    await saveFile(resolve(context.cwd, flags.output), bytes, signal);
    return 0;
  },
);

/** Under a temporary name first: a save that fails leaves no half an archive. */
async function saveFile(file: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    const out = createWriteStream(temporary, { flags: 'wx', mode: 0o600 });
    await pipeline(Readable.from(bytes, { objectMode: false }), out, { signal });
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    if (errnoOf(error) === undefined) throw error;
    throw new MachineError('file-unwritable', `cannot write ${file}: ${errnoOf(error)}`, { cause: error });
  }
}

export const load = defineCommand(
  defineSpec({
    name: 'load',
    summary: 'Load an image from a tar archive or STDIN',
    usage: '[OPTIONS]',
    positionals: { min: 0, max: 0 },
    flags: {
      input: { type: 'string', short: 'i', help: 'Read from tar archive file, instead of STDIN' },
      quiet: { type: 'boolean', short: 'q', help: 'Suppress the load output' },
    },
  }),
  async ({ flags }, context) => {
    const { stdin, stdout } = context.streams;
    if (flags.input === undefined && stdin.isTTY === true) {
      throw new UsageError(
        'requested load from stdin, but stdin is a terminal',
        'Use the -i flag or redirect.',
      );
    }
    await using engine = await context.openEngine();
    const source = flags.input === undefined ? stdin : fileBytes(resolve(context.cwd, flags.input));
    for (const image of await engine.load(source, context.interrupt.signal)) {
      const lines = image.names.map((name) => `Loaded image: ${familiar(name)}\n`);
      stdout.write(lines.length === 0 ? `Loaded image ID: ${image.configDigest}\n` : lines.join(''));
    }
    return 0;
  },
);

async function* fileBytes(file: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(file) as AsyncIterable<Uint8Array>;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw new MachineError('file-unreadable', `cannot read ${file}: ${errnoOf(error)}`, { cause: error });
  }
}

function familiar(name: string): string {
  const parsed = parseReference(name);
  return parsed.ok ? familiarName(parsed.value) : name;
}
