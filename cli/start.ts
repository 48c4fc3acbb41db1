import { availableParallelism, tmpdir } from 'node:os';
import { main } from './main.ts';
import type { OutputStream } from './progress/renderer.ts';
import { callingUser } from './user-namespace.ts';

/** Runs the command line of this process to its end, and ends the process. */
export async function start(): Promise<never> {
  endOnBrokenPipe(process.stdout);
  endOnBrokenPipe(process.stderr);
  const code = await main({
    argv: process.argv.slice(2),
    env: process.env,
    cwd: process.cwd(),
    uid: callingUser(),
    cpus: availableParallelism(),
    temporaryFolder: tmpdir(),
    streams: process,
    signals: process,
    exitNow: (status) => process.exit(status),
    now: Date.now,
    // When it is asked for: to load `node:crypto` at every start would be felt.
    newId: () => process.getBuiltinModule('node:crypto').randomBytes(6).toString('hex'),
    openEngine: async (options) => (await import('./engine.ts')).openEngine(options),
  });
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  process.exit(code);
}

/** A reader that went away (`varve images | head`) ends the command as SIGPIPE would, without a stack trace. */
function endOnBrokenPipe(stream: OutputStream): void {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(141);
  });
}

const flushed = (stream: OutputStream): Promise<void> =>
  new Promise((done) => stream.write('', () => done()));
