import { enableCompileCache } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Surroundings } from './main.ts';
import type { OutputStream } from './progress/renderer.ts';
import { callingUser } from './user-namespace.ts';

/** Where Node keeps compiled code between starts: a folder of this user's, so that nobody else can put code there. */
function compileCacheFolder(env: NodeJS.ProcessEnv): string | undefined {
  const base = env['XDG_CACHE_HOME'] ?? (env['HOME'] === undefined ? undefined : join(env['HOME'], '.cache'));
  return base?.startsWith('/') ? join(base, 'varve', 'code') : undefined;
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

const folder = compileCacheFolder(process.env);
if (folder !== undefined) enableCompileCache(folder);
endOnBrokenPipe(process.stdout);
endOnBrokenPipe(process.stderr);

const surroundings: Surroundings = {
  argv: process.argv.slice(2),
  env: process.env,
  cwd: process.cwd(),
  uid: callingUser(),
  cpus: availableParallelism(),
  temporaryFolder: tmpdir(),
  streams: process,
  signals: process,
  exitNow: (code) => process.exit(code),
  now: Date.now,
  // When it is asked for: to load `node:crypto` at every start would be felt.
  newId: () => process.getBuiltinModule('node:crypto').randomBytes(6).toString('hex'),
  openEngine: async (options) => (await import('./engine.ts')).openEngine(options),
};

const { main } = await import('./main.ts');
const code = await main(surroundings);
await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
process.exit(code);
