import { spawn } from 'node:child_process';
import { exec } from '../fixtures/index.ts';

/** A program with its arguments, and what its environment has beyond this process's. */
export interface Command {
  readonly argv: readonly string[];
  /** `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** @throws Error with what the program said, where its exit code is not 0. */
export async function run({ argv, env }: Command): Promise<string> {
  return (await exec(argv, env === undefined ? {} : { env })).stdout;
}

export interface TimedOptions {
  readonly signal: AbortSignal;
  /** Is told the process id. */
  readonly onStart?: (pid: number) => void;
  /** The time says nothing, so that the disk need not be waited for. */
  readonly quick: boolean;
}

/**
 * Milliseconds from a program's start to its end. Its standard output goes nowhere; what was left to be written to the
 * disk is written before it starts.
 *
 * @throws Error with what the program said, where its exit code is not 0 or `signal` ended it.
 */
export async function timed({ argv, env }: Command, options: TimedOptions): Promise<number> {
  if (!options.quick) await exec(['sync']);
  const [program = '', ...args] = argv;
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
      signal: options.signal,
    });
    if (child.pid !== undefined) options.onStart?.(child.pid);
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    let ended = Number.NaN;
    child.on('error', reject);
    child.on('exit', () => {
      ended = performance.now();
    });
    child.on('close', (code) => {
      if (code === 0) resolve(rounded(ended - began));
      else reject(new Error(`exit code ${code}: ${argv.join(' ')}\n${errors}`));
    });
  });
}

/** Milliseconds with one decimal: the next ones say nothing. */
export function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}
