import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import {
  errnoOf,
  type SandboxIo,
  type SandboxOutcome,
  type SandboxProcess,
  UsageError,
  unreachable,
} from '../../core/index.ts';
import { toRunRequest } from '../argv/run-options.ts';
import { RUN_SPEC } from '../argv/run-spec.ts';
import { type CommandContext, defineCommand, type Streams } from '../command.ts';
import type { RunRequest } from '../engine-contract.ts';
import { TransferLines } from '../progress/transfer.ts';

/** Docker's exit code for "docker itself failed". */
const RUN_FAILED = 125;

export const run = defineCommand(
  RUN_SPEC,
  async ({ flags, positionals }, context) => {
    const [image = '', ...command] = positionals;
    const { cwd, env, streams, interrupt } = context;
    const envFiles = await Promise.all(flags['env-file'].map((file) => readText(resolve(cwd, file))));
    const request = toRunRequest({ flags, image, command }, { cwd, env, envFiles });
    if (request.tty && request.interactive && streams.stdin.isTTY !== true) {
      throw new UsageError(
        'the input device is not a TTY',
        'Leave out -t where standard input is not a terminal.',
      );
    }
    await using engine = await context.openEngine();
    const lines = new TransferLines((line) => flags.quiet || streams.stderr.write(`${line}\n`));
    using terminal = openTerminal(request, streams);
    const process = await engine.run(request, ioFor(request, streams), {
      signal: interrupt.signal,
      onProgress: (progress) => lines.handle(progress),
    });
    terminal.follow(process);
    using _forwarding = interrupt.forward((signal) => process.signal(signal));
    const outcome = await process.outcome;
    return reportOutcome(outcome, context);
  },
  { failureCode: RUN_FAILED },
);

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    throw new UsageError(`--env-file: cannot read ${file}: ${errnoOf(error)}`);
  }
}

/** The container never holds a descriptor of this machine: bytes are carried to and fro. */
function ioFor(request: RunRequest, streams: Streams): SandboxIo {
  return {
    mode: request.tty ? 'terminal' : 'pipe',
    ...(request.interactive ? { stdin: streams.stdin } : {}),
    onOutput: (stream, chunk) => void (stream === 'stdout' ? streams.stdout : streams.stderr).write(chunk),
  };
}

/** This terminal while it stands for the container's: raw, its size followed; restored on disposal. */
function openTerminal(
  request: RunRequest,
  { stdin, stdout }: Streams,
): Disposable & { follow(process: SandboxProcess): void } {
  const raw = request.tty && request.interactive && stdin.isTTY === true;
  let onResize: (() => void) | undefined;
  return {
    follow(process) {
      if (raw) stdin.setRawMode?.(true);
      if (!request.tty || stdout.isTTY !== true) return;
      onResize = () => process.resize({ columns: stdout.columns ?? 80, rows: stdout.rows ?? 24 });
      onResize();
      stdout.on('resize', onResize);
    },
    [Symbol.dispose]() {
      if (onResize !== undefined) stdout.off('resize', onResize);
      if (raw) stdin.setRawMode?.(false);
    },
  };
}

function reportOutcome(outcome: SandboxOutcome, { streams }: CommandContext): number {
  if (outcome.kind === 'out-of-memory') {
    streams.stderr.write('varve: the container was killed: it used more memory than --memory allows\n');
  }
  if (outcome.kind === 'not-started') streams.stderr.write(`varve: ${outcome.message}\n`);
  return exitCodeOfRun(outcome);
}

/** Exit codes of `docker run` (docs: "Exit status"): the container's own, 128 + signal, 126, 127; 137 where it was killed. */
export function exitCodeOfRun(outcome: SandboxOutcome): number {
  switch (outcome.kind) {
    case 'exited':
      return outcome.code;
    case 'signaled':
      return 128 + outcome.signalNumber;
    case 'not-started':
      return outcome.code;
    case 'out-of-memory':
    case 'timed-out':
    case 'cancelled':
      return 137;
    default:
      return unreachable(outcome);
  }
}
