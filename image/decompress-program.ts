import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { errnoOf, MachineError } from '../core/index.ts';
import { refused } from './byte-source.ts';

/** Compressions that Node does not know, named as the programs that do. */
export type ProgramCompression = 'bzip2' | 'xz';

/** xz may ask for 4 GiB to decompress; what its presets write needs 65 MiB at most. */
const ARGUMENTS: Readonly<Record<ProgramCompression, readonly string[]>> = {
  bzip2: ['-d', '-c', '-q'],
  xz: ['-d', '-c', '-q', '--memlimit-decompress=1GiB'],
};
const PACKAGES: Readonly<Record<ProgramCompression, string>> = { bzip2: 'bzip2', xz: 'xz-utils' };

/**
 * The plain bytes of a stream, by way of the system's program for its compression. The program has no files and no environment,
 * and ends with the reading.
 *
 * @throws MachineError `program-missing`, or `layer-refused` where the stream is damaged or cut short.
 */
export async function* throughProgram(
  stream: AsyncIterable<Uint8Array>,
  kind: ProgramCompression,
): AsyncGenerator<Uint8Array> {
  const child = spawn(kind, ARGUMENTS[kind], { stdio: ['pipe', 'pipe', 'pipe'], env: {} });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = `${said}${chunk}`.slice(0, MOST_WORDS);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', (error) => reject(errnoOf(error) === 'ENOENT' ? missing(kind, error) : error));
    child.once('close', resolve);
  });
  // Awaited below, as is the feeding.
  ended.catch(() => {});
  const fed = pipeline(Readable.from(stream, { objectMode: true }), child.stdin).catch((error: unknown) => {
    // A program that has ended takes no more; its exit code tells why.
    if (errnoOf(error) === 'EPIPE' || isPrematureClose(error)) return;
    child.kill('SIGKILL');
    throw error;
  });
  fed.catch(() => {});
  try {
    for await (const chunk of child.stdout as AsyncIterable<Uint8Array>) yield chunk;
    const code = await ended;
    await fed;
    if (code !== 0)
      throw refused(`the archive's ${kind} compression is damaged${said === '' ? '' : `: ${said.trim()}`}`);
  } finally {
    child.kill('SIGKILL');
  }
}

const MOST_WORDS = 500;

function isPrematureClose(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STREAM_PREMATURE_CLOSE';
}

function missing(kind: ProgramCompression, cause: unknown): MachineError {
  return new MachineError(
    'program-missing',
    `the archive is compressed with ${kind}, and there is no program ${kind}`,
    {
      hint: `Install ${kind} (Debian's package ${PACKAGES[kind]}), or compress the archive with gzip or zstd.`,
      cause,
    },
  );
}
