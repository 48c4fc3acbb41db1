import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import type { OutputStream } from './progress/renderer.ts';

/** How a program was started. Texts are bytes as Latin-1, which keeps each what it is. */
export interface Call {
  readonly words: readonly string[];
  /** `NAME=value`, in the order in which the program got them. */
  readonly environment: readonly string[];
  readonly folder: string;
  readonly terminals: {
    readonly stdout: boolean;
    /** Columns and rows of the terminal; absent: it is none. */
    readonly stderr?: readonly [number, number];
  };
}

/** What shells say of themselves, and no program reads: it differs between two calls that are the same. */
const IGNORED = ['_=', 'SHLVL=', 'OLDPWD='];

/**
 * SHA-256 of all that a program was started with. runner/native/unchanged_call.c takes the same of its own process. It is all that is
 * stored of it: there may be secrets in variables and arguments.
 */
export function callDigest({ words, environment, folder, terminals }: Call): Buffer {
  const hash = createHash('sha256');
  const number = (value: number): void => {
    const raw = Buffer.alloc(4);
    raw.writeUInt32LE(value);
    hash.update(raw);
  };
  const text = (one: string): void => void hash.update(Buffer.from(`${one}\0`, 'latin1'));
  const variables = environment.filter((one) => !IGNORED.some((name) => one.startsWith(name)));
  text('varve unchanged 1');
  for (const texts of [words, variables]) {
    number(texts.length);
    for (const one of texts) text(one);
  }
  text(folder);
  const { stdout, stderr } = terminals;
  number(stdout ? 1 : 0);
  number(stderr === undefined ? 0 : 1);
  for (const side of stderr ?? [0, 0]) number(side);
  return hash.digest();
}

/** How this process was started, which writes to `streams`. */
export function ownCall({
  stdout,
  stderr,
}: {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
}): Call {
  const texts = (file: string) => readFileSync(file, 'latin1').split('\0').slice(0, -1);
  return {
    words: texts('/proc/self/cmdline'),
    environment: texts('/proc/self/environ'),
    folder: readlinkSync('/proc/self/cwd', 'latin1'),
    terminals: {
      stdout: stdout.isTTY === true,
      ...(stderr.isTTY === true ? { stderr: [stderr.columns ?? 0, stderr.rows ?? 0] as const } : {}),
    },
  };
}
