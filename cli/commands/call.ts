import type { BuildRequest } from '../../core/index.ts';
import type { Call } from '../argv/call.ts';
import { type CommandContext, write } from '../command.ts';
import type { CallAnswer, FailedBuild } from '../engine-contract.ts';
import { safeText } from '../progress/text.ts';
import { styleFor } from '../style.ts';
import { callFailure, callJson, callText } from '../views/call.ts';

/**
 * `varve build --check` and `--call`: the answer on standard output, everything else on standard error.
 *
 * @param onFailure tells of a failure that left no answer, and gives the exit code
 * @returns the exit code: 1 where a check found something, as buildx has it
 */
export async function performCall(
  request: BuildRequest,
  call: Call,
  {
    context,
    onFailure,
  }: { readonly context: CommandContext; readonly onFailure: (failed: FailedBuild) => Promise<number> },
): Promise<number> {
  const { streams, interrupt, env } = context;
  const style = styleFor(streams.stderr, env);
  await using engine = await context.openEngine();
  const result = await engine.call(request, call.kind, {
    signal: interrupt.signal,
    writeStdout: (chunk) => write(streams.stdout, chunk),
    onEvent: () => {},
  });
  if (!result.ok) return await onFailure(result.error);
  const answer = seenFrom(context.cwd, result.value);
  await write(streams.stdout, call.format === 'json' ? callJson(answer) : callText(answer));
  for (const { name, reason, range } of answer.unknownImages) {
    const left =
      answer.kind === 'check' ? ': UndefinedVar and InvalidBaseImagePlatform are not checked on it' : '';
    streams.stderr.write(
      `${style.yellow('varve:')} line ${range.start.line}: the image ${safeText(name)} cannot be looked up${left} (${safeText(reason)})\n`,
    );
  }
  if (answer.kind !== 'check') return 0;
  for (const { message, range } of answer.notes)
    streams.stderr.write(`${style.yellow('varve:')} line ${range.start.line}: ${safeText(message)}\n`);
  if (answer.failure !== undefined) {
    if (answer.warnings.length > 0 && call.format === 'text') streams.stderr.write('\n');
    streams.stderr.write(`${style.red('ERROR:')} ${callFailure(answer)}`);
    return 1;
  }
  return answer.warnings.length > 0 && !call.ignoreStatus ? 1 : 0;
}

/** Names the Dockerfile as seen from the working folder, where it lies below. */
function seenFrom(cwd: string, answer: CallAnswer): CallAnswer {
  const { file, text } = answer.dockerfile;
  const shown = file.startsWith(`${cwd}/`) ? file.slice(cwd.length + 1) : file;
  return { ...answer, dockerfile: { file: shown, text } };
}
