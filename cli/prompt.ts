import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import type { CommandContext } from './command.ts';

/**
 * Asks (one line) on the terminal and resolves to the line that is typed, trimmed. What is typed to a secret question is not shown.
 * Rejects with an AbortError on Ctrl-C, after which the whole command is being interrupted.
 */
export async function ask(
  question: string,
  options: { readonly secret: boolean },
  { streams, interrupt }: CommandContext,
): Promise<string> {
  const { stdin, stderr } = streams;
  if (options.secret) stderr.write(question);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const reader = createInterface({ input: stdin, output: options.secret ? nowhere : stderr, terminal: true });
  // The terminal is in raw mode: Ctrl-C comes as a key, not as a signal; Ctrl-D ends the input.
  reader.on('SIGINT', () => interrupt.stop('SIGINT'));
  const ended = Promise.withResolvers<string>();
  reader.on('close', () => interrupt.signal.aborted || ended.resolve(''));
  try {
    const answer = reader.question(options.secret ? '' : question, { signal: interrupt.signal });
    return (await Promise.race([answer, ended.promise])).trim();
  } finally {
    reader.close();
    if (options.secret || interrupt.signal.aborted) stderr.write('\n');
  }
}
